"""A rendered conversation as tokens: images expanded, tokenised once, every token's place known,
and where each token of a text ends in its message's text, for pages that colour texts.

Knows a tokenizer; knows no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tasm.backbone.hugging_face import HfTokenizer
from tasm.backbone.prompt.chat_template import Place, Rendering
from tasm.backbone.prompt.control import ControlTokens
from tasm.backbone.prompt.roles import Role
from tasm.backbone.prompt.transcript import TextEnds
from tasm.demonstrations import Conversation, Message
from tasm.errors import DemonstrationError


@dataclass(frozen=True, eq=False)
class TokenisedConversation:
    """The tokens of a conversation.

    `input_ids` (tokens,) int64; `roles` (tokens,) uint8, with every token outside texts and
    images as `TEMPLATE`; `image` (tokens,) int32, the index of the image a token stands for, else
    -1; `where` (tokens,) int64, the place of a token's last character in the rendered
    (unexpanded) text, -1 for a token that the tokenizer itself adds at the beginning.
    """

    input_ids: Tensor
    roles: Tensor
    image: Tensor
    where: Tensor


def tokenise(
    tokenizer: HfTokenizer,
    rendering: Rendering,
    expansions: Sequence[str],
    *,
    image_token_id: int | None,
    special_tokens: bool,
    control: ControlTokens,
) -> TokenisedConversation:
    """Tokenise a conversation whose images are replaced by `expansions`, in order.

    A token belongs where its last character stands; one that ends in the template but begins in a
    text belongs to the text. Control tokens that a text spells are encoded as characters.
    """
    stretches = _expand(rendering, expansions)
    starts, kinds, origins = stretches.starts, stretches.kinds, stretches.origins
    ids, offsets = _encode(tokenizer, stretches, special_tokens, control)
    first, last = offsets[:, 0].contiguous(), torch.maximum(offsets[:, 0], offsets[:, 1] - 1)
    # Some tokenizers give a piece of white space an offset before its neighbour's: keep the order.
    last = torch.cummax(last, 0).values if last.numel() else last
    owner = (torch.searchsorted(starts, last, right=True) - 1).clamp_min(0)
    begins_in = (torch.searchsorted(starts, first, right=True) - 1).clamp_min(0)
    roles = kinds[owner]
    begins_in_text = (
        (roles == Role.TEMPLATE) & stretches.is_text[begins_in] & (offsets[:, 1] > first)
    )
    roles = torch.where(begins_in_text, kinds[begins_in], roles)
    number = origins[owner, 1]
    if image_token_id is not None:
        stands_for_image = (ids == image_token_id) & (roles == Role.IMAGE)
        roles = torch.where((roles == Role.IMAGE) & ~stands_for_image, int(Role.TEMPLATE), roles)
        number = torch.where(stands_for_image, number, -1)
    # Inside an image every token stands where the image token stood.
    inside = kinds[owner] == Role.IMAGE
    where = torch.where(inside, origins[owner, 0], origins[owner, 0] + last - starts[owner])
    added = int((offsets[:, 1] == 0).cumprod(0).sum()) if special_tokens else 0
    where[:added] = -1
    roles[:added] = int(Role.TEMPLATE)
    return TokenisedConversation(ids, roles.to(torch.uint8), number.to(torch.int32), where)


def _encode(
    tokenizer: HfTokenizer, stretches: "_Stretches", special_tokens: bool, control: ControlTokens
) -> tuple[Tensor, Tensor]:
    """Ids (tokens,) and offsets (tokens, 2), texts without control tokens."""
    encoded = tokenizer(
        stretches.text,
        add_special_tokens=special_tokens,
        return_offsets_mapping=True,
        return_attention_mask=False,
        verbose=False,  # whether it is too long is told by positions, not by the tokenizer
    )
    ids = torch.tensor(encoded["input_ids"], dtype=torch.long)
    offsets = torch.tensor(encoded["offset_mapping"], dtype=torch.long).reshape(-1, 2)
    in_texts = stretches.control_in_texts(ids, offsets, control)
    if not in_texts:
        return ids, offsets
    again = control.encode(stretches.disguised(control), special_tokens)
    safe_ids = torch.tensor(again[0], dtype=torch.long)
    safe_offsets = torch.tensor(again[1], dtype=torch.long).reshape(-1, 2)
    numbers = torch.tensor(list(control.names))
    kept = torch.ones_like(ids, dtype=torch.bool)
    kept[list(in_texts)] = False
    before = ids[kept & torch.isin(ids, numbers)]
    after = safe_ids[torch.isin(safe_ids, numbers)]
    remaining = stretches.control_in_texts(safe_ids, safe_offsets, control)
    if remaining or not torch.equal(before, after):
        name = next(iter((remaining or in_texts).values()))
        raise DemonstrationError(
            f"Found {name!r} in a text; expected a text without it: it is a control token of this "
            f"model, and its tokenizer cannot be made to read it as characters. Rephrase the text."
        )
    return safe_ids, safe_offsets


@dataclass(frozen=True, eq=False)
class _Stretches:
    """The expanded text, and every stretch's start, role, and (origin, image number)."""

    text: str
    starts: Tensor
    kinds: Tensor
    origins: Tensor

    @property
    def is_text(self) -> Tensor:
        """Which stretches are a user's own text."""
        kinds = self.kinds
        return (kinds == Role.QUESTION) | (kinds == Role.ANSWER) | (kinds == Role.SYSTEM)

    def control_in_texts(
        self, ids: Tensor, offsets: Tensor, control: ControlTokens
    ) -> dict[int, str]:
        """Which tokens are control tokens spelt, in part at least, by a text; with their names."""
        if not control.names or not ids.numel():
            return {}
        is_control = torch.isin(ids, torch.tensor(list(control.names)))
        places = (is_control & (offsets[:, 1] > offsets[:, 0])).nonzero()[:, 0]
        if not places.numel():
            return {}
        begin, end = offsets[places, 0].contiguous(), offsets[places, 1] - 1
        begins_in = (torch.searchsorted(self.starts, begin, right=True) - 1).clamp_min(0)
        ends_in = (torch.searchsorted(self.starts, end.contiguous(), right=True) - 1).clamp_min(0)
        is_text = self.is_text
        touches = is_text[begins_in] | is_text[ends_in] | (begins_in != ends_in)
        found = {}
        for place in places[touches].tolist():
            name = control.names[int(ids[place])]
            start, stop = offsets[place].tolist()
            # A token may take white space beside it along, and "unknown" stands for anything.
            at = self.text.find(name, start, stop)
            if at < 0:
                continue
            own = torch.arange(at, at + len(name))
            owners = torch.searchsorted(self.starts, own, right=True) - 1
            if bool(is_text[owners].any()):
                found[place] = name
        return found

    def disguised(self, control: ControlTokens) -> str:
        """The text, with the control tokens outside the user's own texts spelt privately."""
        ends = [*self.starts[1:].tolist(), len(self.text)]
        pieces = []
        is_text = self.is_text.tolist()
        for start, end, own in zip(self.starts.tolist(), ends, is_text, strict=True):
            piece = self.text[start:end]
            pieces.append(piece if own else control.disguise(piece))
        return "".join(pieces)


def _expand(rendering: Rendering, expansions: Sequence[str]) -> _Stretches:
    """Put the images' own text in place of what the template wrote for them."""
    pieces: list[str] = []
    rows: list[tuple[int, int, int, int]] = []
    length = position = image = 0

    def add(piece: str, role: Role, origin: int, number: int) -> None:
        nonlocal length
        if piece:
            rows.append((length, int(role), origin, number))
            pieces.append(piece)
            length += len(piece)

    for place in (
        *rendering.places,
        Place(len(rendering.text), len(rendering.text), Role.TEMPLATE, -1),
    ):
        add(rendering.text[position : place.start], Role.TEMPLATE, position, -1)
        if place.role == Role.IMAGE:
            add(expansions[image], Role.IMAGE, place.start, image)
            image += 1
        else:
            add(rendering.text[place.start : place.end], place.role, place.start, -1)
        position = place.end
    table = torch.tensor(rows, dtype=torch.long).reshape(-1, 4)
    return _Stretches("".join(pieces), table[:, 0].contiguous(), table[:, 1], table[:, 2:])


def text_ends(
    conversations: Sequence[Conversation], rendering: Rendering, roles: Tensor, where: Tensor
) -> TextEnds:
    """Return, by conversation and message, where each of its text tokens ends, in characters.

    `roles` and `where` are (tokens,), as `TokenisedConversation` has them. Tokens that share a
    character end at the same place. Empty where a template rewrites texts beyond recognition.
    """
    messages = [message for conversation in conversations for message in conversation.turns]
    places = [
        place
        for place in rendering.places
        if place.role in (Role.QUESTION, Role.ANSWER) and place.turn < len(messages)
    ]
    is_text = (roles == Role.QUESTION) | (roles == Role.ANSWER)
    starts = torch.tensor([place.start for place in places], dtype=torch.long)
    owners = torch.searchsorted(starts, where[is_text], right=True) - 1
    found: list[list[int]] = [[] for _ in messages]
    parts = [_text_parts(message) for message in messages]
    tokens = torch.split(where[is_text], torch.bincount(owners, minlength=len(places)).tolist())
    for place, own in zip(places, tokens, strict=True):
        if not parts[place.turn]:
            return ()
        before, part = parts[place.turn].pop(0)
        stripped = part.find(rendering.text[place.start : place.end])
        if stripped < 0:
            return ()
        ends = own.clamp_max(place.end - 1) - place.start + 1 + before + stripped
        found[place.turn] += ends.tolist()
    ends_of = iter(found)
    return tuple(
        tuple(tuple(next(ends_of)) for _ in conversation.turns) for conversation in conversations
    )


def _text_parts(message: Message) -> list[tuple[int, str]]:
    """The texts of a message, each with the number of characters before it."""
    return [
        (len(Message(message.role, message.content[:number]).text), part)
        for number, part in enumerate(message.content)
        if isinstance(part, str)
    ]
