"""The marks of a conversation, and how a text that spells one stays a text.

A tokenizer reads `<|im_end|>` as the end of a turn wherever it stands. Where a text of the user
spells such a control token, the conversation is read by a copy of the tokenizer in which every
control token is spelt in private characters, and so are those of the template: what the user wrote
is then read as the characters it is made of, and everything else as before. A template that marks
its turns in plain words (`USER:`) leaves no such way out, and a text with those words is refused.

Knows tokenizers; knows no model.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from tasm.arguments import shown
from tasm.backbone.hugging_face import HfTokenizer
from tasm.errors import DemonstrationError, ModelError

_FIRST_PRIVATE = 0xF0000
_FILLING = "\U000ffffd"


class ControlTokens:
    """The control tokens of a tokenizer: the special ones, and what `written` contains of others.

    `written` are the template's own texts between turns and the image tokens.

    ```python
    control = ControlTokens(tokenizer, ["<|im_end|>\\n<|im_start|>user\\n", "<|image_pad|>"])
    control.names[151645]       # '<|im_end|>'
    ```
    """

    def __init__(self, tokenizer: HfTokenizer, written: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self.names: Mapping[int, str] = {
            int(number): token.content
            for number, token in tokenizer.added_tokens_decoder.items()
            if token.content
            and (token.special or any(token.content in literal for literal in written))
        }

    def found_in(self, text: str) -> list[int]:
        """Return the ids of the control tokens in a text of the template, in their order."""
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return [token for token in ids if token in self.names]

    def disguise(self, text: str) -> str:
        """Spell the control tokens of a text of the template privately, in as many characters."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda match: self._private[match[0]], text)

    def encode(self, text: str, special_tokens: bool) -> tuple[list[int], list[tuple[int, int]]]:
        """Return ids and offsets of a text in which disguised control tokens alone are such."""
        encoding = self._guarded.encode(text, add_special_tokens=special_tokens)
        return list(encoding.ids), list(encoding.offsets)

    @cached_property
    def _private(self) -> dict[str, str]:
        names = sorted(set(self.names.values()))
        return {
            name: chr(_FIRST_PRIVATE + number) + _FILLING * (len(name) - 1)
            for number, name in enumerate(names)
        }

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        longest_first = sorted(self._private, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    @cached_property
    def _guarded(self) -> Any:
        """A copy of the tokenizer that knows its control tokens by their private spelling only."""
        from tokenizers import Tokenizer

        document = json.loads(self._tokenizer.backend_tokenizer.to_str())
        private = self._private
        for token in document.get("added_tokens") or ():
            token["content"] = private.get(token["content"], token["content"])
        model = document["model"]
        vocabulary = model.get("vocab")
        if isinstance(vocabulary, dict):
            model["vocab"] = {private.get(piece, piece): n for piece, n in vocabulary.items()}
        elif isinstance(vocabulary, list):  # Unigram: pieces with their scores
            model["vocab"] = [[private.get(piece, piece), score] for piece, score in vocabulary]
        if isinstance(model.get("unk_token"), str):
            model["unk_token"] = private.get(model["unk_token"], model["unk_token"])
        guarded = Tokenizer.from_str(json.dumps(document, ensure_ascii=False))
        guarded.no_truncation()
        guarded.no_padding()
        for number, name in self.names.items():
            if guarded.token_to_id(private[name]) != number:
                raise ModelError(
                    f"The tokenizer cannot be copied with {name!r} spelt otherwise: it would be "
                    f"token {guarded.token_to_id(private[name])} instead of {number}."
                )
        return guarded


class PlainMarks:
    """What a template writes between turns where it uses no control token there.

    ```python
    marks = PlainMarks([" USER: ", " ASSISTANT: "], control.names.values())
    marks.refuse("Who is USER: in this chat?", "birds.jsonl, line 3")    # DemonstrationError
    ```
    """

    def __init__(self, literals: Sequence[str], control: Sequence[str]) -> None:
        lines = [
            line.strip()
            for literal in literals
            if not any(name in literal for name in control)
            for line in literal.splitlines()
        ]
        self.marks = tuple(dict.fromkeys(line for line in lines if re.search(r"\w", line)))
        # "A:" begins a turn, and "DNA:" does not.
        words = [
            rf"(?<!\w){re.escape(mark)}" if mark[0].isalnum() else re.escape(mark)
            for mark in self.marks
        ]
        self._pattern = re.compile("|".join(words)) if words else None

    def refuse(self, text: str, origin: str) -> None:
        """Raise `DemonstrationError` where a text holds a mark."""
        found = self._pattern.search(text) if self._pattern is not None else None
        if found is not None:
            raise DemonstrationError(
                f"{origin}: found {found[0]!r} in the text {shown(text)}; expected a text without "
                "it: this model's chat template begins a turn with these very characters, so the "
                "text would be read as another turn. Rephrase it."
            )
