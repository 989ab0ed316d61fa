"""Demonstrations and queries as tokens: the family's template over the whole conversation, split
by spans.

This is the one place that turns conversations into tokens. It knows a tokenizer, a chat template
and an image layout; it runs no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from tasm.backbone.hugging_face import HfTokenizer
from tasm.backbone.prompt.batching import Prompt
from tasm.backbone.prompt.chat_template import ChatTemplate, Rendering
from tasm.backbone.prompt.control import ControlTokens, PlainMarks
from tasm.backbone.prompt.image_layout import (
    KEPT_BYTES,
    ImageLayout,
    LaidOutImages,
)
from tasm.backbone.prompt.image_shapes import UnusablePicture
from tasm.backbone.prompt.images import NO_IMAGES
from tasm.backbone.prompt.tokenised import TokenisedConversation, text_ends, tokenise
from tasm.backbone.prompt.transcript import Layout, Role, Transcript, number_answers
from tasm.backbone.prompt.turns import Turn, name_of, questions_of, turns_of
from tasm.demonstrations import Conversation, Demonstration, Query
from tasm.demonstrations.problems import RowProblem, check_text
from tasm.errors import DemonstrationError, ModelError

# What a query follows where the demonstrations themselves are not at hand, and the query that
# follows demonstrations where there is none yet: templates write a turn otherwise when it is the
# last one.
_STAND_IN_TURNS = (Turn("user", ("Hello.",)), Turn("assistant", ("Hello!",)))
_STAND_IN_QUERY = (Turn("user", ("Hello.",)),)


@dataclass(eq=False)
class Conversations:
    """Lays conversations out for one model.

    `images` is None where the model takes none; `special_tokens` is whether the tokenizer adds
    its own tokens to a rendered conversation that does not begin with them.
    """

    tokenizer: HfTokenizer
    template: ChatTemplate
    images: ImageLayout | None
    image_token_id: int | None
    special_tokens: bool

    def transcript(
        self, demonstrations: Sequence[Demonstration], layout: Layout, kept_bytes: int = KEPT_BYTES
    ) -> Transcript:
        """Lay demonstrations out as one conversation; see `Backbone.transcript`."""
        turns: list[Turn] = []
        last_turns = []
        for demonstration in demonstrations:
            turns += turns_of(demonstration)
            last_turns.append(len(turns) - 1)
        laid_out = self._lay_out(demonstrations, layout, kept_bytes)
        rendering, tokens = self._tokens([*turns, *_STAND_IN_QUERY], layout, laid_out.expansions)
        ends = [self._end_of_turn(rendering, turn, layout) for turn in last_turns]
        edges = torch.tensor([self._end_of_head(rendering, turns[0], layout), *ends])
        part = torch.searchsorted(edges, tokens.where, right=True) - 1
        kept = int((part < len(demonstrations)).sum())
        self._check_following(tokens.input_ids[kept:], layout)
        part = part[:kept].to(torch.int32)
        roles = torch.where(part < 0, int(Role.SYSTEM), tokens.roles[:kept])
        starts = torch.searchsorted(part, torch.arange(len(demonstrations) + 1, dtype=torch.int32))
        return Transcript(
            input_ids=tokens.input_ids[:kept],
            roles=roles.to(torch.uint8),
            demonstration=part,
            place=laid_out.on_images(tokens.image[:kept]),
            spans=tuple(zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)),
            answer_numbers=number_answers([one.answer for one in demonstrations]),
            images=laid_out.inputs,
            layout=layout,
            text_ends=text_ends(demonstrations, rendering, roles, tokens.where[:kept]),
        )

    def query(self, query: Query, layout: Layout) -> Prompt:
        """Return a query's own tokens, as they stand after demonstrations of this layout."""
        _check_system(query, layout)
        return self._following(turns_of(query), [query], layout)

    def whole(
        self, demonstrations: Sequence[Demonstration], query: Query, layout: Layout
    ) -> Prompt:
        """Return demonstrations and query as one ordinary prompt."""
        _check_system(query, layout)
        conversations: list[Conversation] = [*demonstrations, query]
        turns = [turn for conversation in conversations for turn in turns_of(conversation)]
        laid_out = self._lay_out(conversations, layout)
        _, tokens = self._tokens(turns, layout, laid_out.expansions)
        return Prompt(tokens.input_ids, tokens.image >= 0, laid_out.inputs)

    def answer(self, text: str, layout: Layout) -> Tensor:
        """Return the tokens that answering `text` takes, from the first that the model says to the
        last before the turn's end."""
        asked = [*_STAND_IN_TURNS, *_STAND_IN_QUERY]
        _, prompt = self._tokens(asked, layout, ())
        told = [*asked, Turn("assistant", (text,), f"The label {text!r}"), *_STAND_IN_QUERY]
        rendering, tokens = self._tokens(told, layout, ())
        place = next(place for place in rendering.places if place.turn == len(asked))
        own = (tokens.roles == int(Role.ANSWER)) & (tokens.where >= place.start)
        own &= tokens.where < place.end
        begin, end = int(own.nonzero()[0, 0]), int(own.nonzero()[-1, 0]) + 1
        # What stands between the prompt and the text is said by the model, too: a blank, mostly.
        prompted = len(prompt.input_ids)
        if prompted <= begin and torch.equal(tokens.input_ids[:prompted], prompt.input_ids):
            begin = prompted
        return tokens.input_ids[begin:end]

    def _following(
        self, turns: Sequence[Turn], conversations: Sequence[Conversation], layout: Layout
    ) -> Prompt:
        laid_out = self._lay_out(conversations, layout)
        whole = [*_STAND_IN_TURNS, *turns]
        rendering, tokens = self._tokens(whole, layout, laid_out.expansions)
        own = tokens.where >= self._end_of_turn(rendering, len(_STAND_IN_TURNS) - 1, layout)
        return Prompt(tokens.input_ids[own], tokens.image[own] >= 0, laid_out.inputs)

    def _check_following(self, tokens: Tensor, layout: Layout) -> None:
        """A query's tokens must not depend on the demonstrations before it."""
        expected = self._following(_STAND_IN_QUERY, (), layout).input_ids
        if not torch.equal(tokens, expected):
            raise ModelError(
                f"The chat template writes a question otherwise after these demonstrations "
                f"({self.tokenizer.decode(tokens)!r}) than after others "
                f"({self.tokenizer.decode(expected)!r}); a memory of them could not be asked."
            )

    def _lay_out(
        self, conversations: Sequence[Conversation], layout: Layout, kept_bytes: int = KEPT_BYTES
    ) -> LaidOutImages:
        pictures = [picture for conversation in conversations for picture in conversation.pictures]
        if not pictures:
            return LaidOutImages((), (), NO_IMAGES)
        if self.images is None:
            raise DemonstrationError(
                f"The model takes no images, and there are {len(pictures)} "
                f"(the first is {pictures[0].name}). Use a vision-language model."
            )
        try:
            laid_out = self.images(
                pictures,
                max_pixels=layout.max_pixels,
                multi_image=layout.multi_image or len(pictures) > 1,
                kept_bytes=kept_bytes,
            )
            questions = tuple(texts for one in conversations for texts in questions_of(one))
            return replace(laid_out, inputs=replace(laid_out.inputs, questions=questions))
        except UnusablePicture as error:
            owner = next(
                one for one in conversations if any(p is error.picture for p in one.pictures)
            )
            raise DemonstrationError(f"{name_of(owner)}: {error}") from error

    def _tokens(
        self, turns: Sequence[Turn], layout: Layout, expansions: Sequence[str]
    ) -> tuple[Rendering, TokenisedConversation]:
        self._refuse_marks(turns, layout.system)
        rendering = self.template.render(turns, system=layout.system, answer_next=True)
        bos = self.tokenizer.bos_token
        has_own = bos is not None and rendering.text.startswith(bos)
        tokens = tokenise(
            self.tokenizer,
            rendering,
            expansions,
            image_token_id=self.image_token_id,
            special_tokens=self.special_tokens and not has_own,
            control=self._control,
        )
        expected = [expansion.count(self._image_token) for expansion in expansions]
        found = torch.bincount(tokens.image[tokens.image >= 0], minlength=len(expected))
        if found.tolist() != expected:
            raise ModelError(
                f"The tokenizer does not keep the image tokens apart: expected {expected} tokens "
                f"for the images, found {found.tolist()}."
            )
        return rendering, tokens

    @cached_property
    def template_ends(self) -> tuple[int, ...]:
        """The ids of the control tokens that the template writes after an answer, in order."""
        found = [t for text in self.template.after_answer() for t in self._control.found_in(text)]
        return tuple(dict.fromkeys(found))

    @cached_property
    def _control(self) -> ControlTokens:
        images = (self._image_token, self.template.placeholder or "")
        return ControlTokens(self.tokenizer, [*self.template.between_turns(), *images])

    @cached_property
    def _plain_marks(self) -> PlainMarks:
        return PlainMarks(self.template.between_turns(), tuple(self._control.names.values()))

    def _refuse_marks(self, turns: Sequence[Turn], system: str | None) -> None:
        """Refuse texts that spell what the template writes between turns in plain characters."""
        if system is not None:
            try:
                check_text(system, "")
            except RowProblem as problem:
                raise DemonstrationError(f"The system prompt: {problem}.") from None
            self._plain_marks.refuse(system, "The system prompt")
        for turn in turns:
            for part in turn.parts:
                if part is not None:
                    self._plain_marks.refuse(part, turn.origin)

    @property
    def _image_token(self) -> str:
        return self.images.image_token if self.images is not None else ""

    def _end_of_turn(self, rendering: Rendering, turn: int, layout: Layout) -> int:
        """Where a turn ends in the text, what the template writes after it included."""
        end = max(place.end for place in rendering.places if place.turn == turn)
        closing = self.template.end_of_turn(layout.system)
        if not rendering.text.startswith(closing, end):
            raise ModelError(
                f"The chat template ends turns differently: expected {closing!r}, found "
                f"{rendering.text[end : end + len(closing)]!r} after turn {turn}."
            )
        return end + len(closing)

    def _end_of_head(self, rendering: Rendering, first: Turn, layout: Layout) -> int:
        """Where the first demonstration begins: after the system prompt and what belongs to it."""
        content = min(place.start for place in rendering.places if place.turn >= 0)
        system_end = max((place.end for place in rendering.places if place.turn < 0), default=0)
        opening = self.template.start_of_turn(first, layout.system)
        before = content - len(opening)
        if before >= system_end and rendering.text.startswith(opening, before):
            return before
        return content


def _check_system(query: Query, layout: Layout) -> None:
    if query.system is not None and query.system != layout.system:
        raise DemonstrationError(
            f"Query {query.id} has the system message {query.system!r}, but the conversation it "
            f"continues has {layout.system!r}. Leave it out, or give the demonstrations the same "
            f"one."
        )
