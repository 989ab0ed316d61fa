"""Renders a conversation with the family's own chat template, and knows where everything stands.

The template runs twice over the whole conversation: once with a mark in place of every text,
which shows where the texts stand and what the template writes around them, and once with the
texts themselves, from which every place is then read. Works on text; tokens are made in
`tokenised.py`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from tasm.arguments import shown
from tasm.backbone.hugging_face import HfTokenizer
from tasm.backbone.prompt.roles import Role
from tasm.backbone.prompt.turns import MARK, Part, Turn, mark, marked, messages_of
from tasm.errors import ModelError

_ANSWERED = (Turn("user", (mark(0),)), Turn("assistant", (mark(1),)))
_ASKED_AGAIN = (*_ANSWERED, Turn("user", (mark(2),)))


@dataclass(frozen=True)
class Place:
    """Where a text or an image stands in a rendered conversation.

    `turn` is the index of the message, -1 for the system prompt; `role` is `SYSTEM`, `QUESTION`,
    `IMAGE` or `ANSWER`.
    """

    start: int
    end: int
    role: Role
    turn: int


@dataclass(frozen=True)
class Rendering:
    """A conversation as the template writes it; `places` are in the order of the text."""

    text: str
    places: tuple[Place, ...]


class ChatTemplate:
    """A chat template with the way it wants messages, and the image token it writes.

    `candidates` are the strings that may stand for an image; the one that the template writes is
    `placeholder` (None where the model takes no images).

    ```python
    template = ChatTemplate(tokenizer, tokenizer.chat_template, ("<|image_pad|>",))
    turns = [Turn("user", (None, "Which bird?"))]
    rendering = template.render(turns, system=None, answer_next=True)
    ```

    Raises `ModelError` where the template drops, repeats or rewrites what it is given.
    """

    def __init__(
        self, tokenizer: HfTokenizer, template: str | dict[str, str], candidates: Sequence[str]
    ) -> None:
        self.tokenizer = tokenizer
        self.source = template["default"] if isinstance(template, dict) else template
        self.placeholder = self._settle(tuple(candidates))
        self._ends: dict[str | None, str] = {}

    def render(self, turns: Sequence[Turn], *, system: str | None, answer_next: bool) -> Rendering:
        """Return the whole conversation as text; with `answer_next`, ready for the assistant."""
        texts = [(Role.SYSTEM, -1, system)] if system is not None else []
        for number, turn in enumerate(turns):
            role = Role.ANSWER if turn.role == "assistant" else Role.QUESTION
            texts += [(role, number, part) for part in turn.parts if part is not None]
        text = self._conversation(turns, system, answer_next)
        skeleton = self._apply(*marked(turns, system), answer_next)
        places = self._read(text, skeleton, texts)
        images = sum(part is None for turn in turns for part in turn.parts)
        return Rendering(text, tuple(self._with_turns(places, turns, images)))

    def _conversation(self, turns: Sequence[Turn], system: str | None, answer_next: bool) -> str:
        try:
            return self._apply(turns, system, answer_next)
        except ModelError as error:
            if system is None:
                raise
            try:
                self._apply(turns, None, answer_next)
            except ModelError:
                raise error from None
            raise ModelError(
                f"The model's chat template takes no system prompt ({error.__cause__}). Leave the "
                "system prompt out (--system, system=, or the demonstrations' own), or put its "
                "text into the question."
            ) from error

    def end_of_turn(self, system: str | None) -> str:
        """Return what the template writes after an answer and before the next question's own text.

        ```python
        template.end_of_turn(None)      # '<|im_end|>\\n' for Qwen2-VL
        ```
        """
        if system not in self._ends:
            # What the system prompt says changes nothing here, that there is one may.
            after, tail = self.after_answer(None if system is None else "Hello.")
            common = takewhile(lambda pair: pair[0] == pair[1], zip(after, tail, strict=False))
            self._ends[system] = "".join(one for one, _ in common)
        return self._ends[system]

    def after_answer(self, system: str | None = None) -> tuple[str, str]:
        """Return all that stands between an answer and the next question, and behind the last one.

        ```python
        template.after_answer()     # ('<|im_end|>\\n<|im_start|>user\\n', '<|im_end|>\\n')
        ```
        """
        last = self._apply(_ANSWERED, system, False)
        middle = self._apply(_ASKED_AGAIN, system, True)
        between = middle.partition(mark(1))[2].partition(mark(2))[0]
        return between, last.partition(mark(1))[2]

    def between_turns(self) -> list[str]:
        """Return what the template writes before, between and behind texts of each role."""
        literals: list[str] = []
        for system in (None, mark(3)):
            try:
                text = self._apply(_ASKED_AGAIN, system, True)
            except ModelError:  # some templates know no system prompt
                continue
            literals += MARK.split(text)[::2]
        return list(dict.fromkeys(literals))

    def start_of_turn(self, first: Turn, system: str | None) -> str:
        """Return what the template writes before the first part of a later turn of the user."""
        parts = tuple(part if part is None else mark(2 + i) for i, part in enumerate(first.parts))
        turns = [*_ANSWERED, Turn(first.role, parts)]
        whole = self._apply(turns, None if system is None else "Hello.", True)
        text = whole.partition(mark(1))[2][len(self.end_of_turn(system)) :]
        stop = MARK.search(text)
        text = text[: stop.start()] if stop else text
        return text.partition(self.placeholder)[0] if self.placeholder else text

    def _settle(self, candidates: tuple[str, ...]) -> str | None:
        """Find out whether texts go as strings or as parts, and which image token is written."""
        picture: tuple[Part, ...] = (None,) if candidates else ()
        turns = [Turn("user", (*picture, mark(0))), *_ASKED_AGAIN[1:]]
        seen: list[str] = []
        for flat in (not candidates, bool(candidates)):
            self._flat = flat
            try:
                text = self._apply(turns, None, True)
            except ModelError as error:
                seen.append(str(error))
                continue
            written = [candidate for candidate in candidates if text.count(candidate) == 1]
            marks = [int(match[1]) for match in MARK.finditer(text)]
            if (
                sorted(marks) == [0, 1, 2]
                and "'type'" not in text
                and bool(written) == bool(candidates)
            ):
                return written[0] if written else None
            seen.append(f"it writes {text!r}")
        raise ModelError(
            f"The chat template cannot be taken apart: expected every text once"
            f"{f' and one of {list(candidates)} for an image' if candidates else ''}; "
            f"{'; '.join(seen)}."
        )

    def _apply(self, turns: Sequence[Turn], system: str | None, answer_next: bool) -> str:
        try:
            text = self.tokenizer.apply_chat_template(
                messages_of(turns, system, self._flat),
                chat_template=self.source,
                tokenize=False,
                add_generation_prompt=answer_next,
            )
        except Exception as error:  # a template raises what it likes
            raise ModelError(f"The chat template refuses the conversation: {error}") from error
        return str(text)

    def _read(
        self, text: str, skeleton: str, texts: Sequence[tuple[Role, int, str | None]]
    ) -> list[Place]:
        """Find every text by walking along the skeleton; templates may strip what they get."""
        pieces = MARK.split(skeleton)
        literals, marks = pieces[::2], [int(number) for number in pieces[1::2]]
        if sorted(marks) != list(range(len(texts))):
            lost = sorted(set(range(len(texts))) - set(marks)) or marks
            raise ModelError(
                f"The chat template does not write every text once: {shown(texts[lost[0]][2])} is "
                f"written {marks.count(lost[0])} times."
            )
        places: list[Place] = []
        position = 0
        for literal, following, number in zip(literals, literals[1:], marks, strict=False):
            position = self._literal(text, literal, position, places)
            role, turn, content = texts[number]
            end = _end_of(text, position, content or "", following)
            if end is None:
                raise ModelError(
                    f"The chat template rewrites the text {shown(content)}: it does not stand "
                    f"in the conversation as it was given, nor stripped of white space."
                )
            places.append(Place(position, end, role, turn))
            position = end
        self._literal(text, literals[-1], position, places)
        return places

    def _literal(self, text: str, literal: str, position: int, places: list[Place]) -> int:
        end = position + len(literal)
        if text[position:end] != literal:
            raise ModelError(
                f"The chat template writes other text around "
                f"{shown(text[position : position + 40])} "
                f"than around other contents: expected {shown(literal)}."
            )
        if self.placeholder:
            for match in re.finditer(re.escape(self.placeholder), literal):
                start = position + match.start()
                places.append(Place(start, position + match.end(), Role.IMAGE, -1))
        return end

    def _with_turns(
        self, places: Sequence[Place], turns: Sequence[Turn], images: int
    ) -> list[Place]:
        """Give each image its turn: images stand in the text in the order of the conversation."""
        owners = [i for i, turn in enumerate(turns) for part in turn.parts if part is None]
        written = sum(place.role == Role.IMAGE for place in places)
        if written != images:
            raise ModelError(
                f"The chat template writes {written} image tokens {self.placeholder!r} for "
                f"{images} images."
            )
        remaining = iter(owners)
        return [
            Place(place.start, place.end, place.role, next(remaining))
            if place.role == Role.IMAGE
            else place
            for place in places
        ]


def _end_of(text: str, position: int, content: str, following: str) -> int | None:
    for written in (content, content.strip(), content.lstrip(), content.rstrip()):
        end = position + len(written)
        if text.startswith(written, position) and text.startswith(following, end):
            return end
    return None
