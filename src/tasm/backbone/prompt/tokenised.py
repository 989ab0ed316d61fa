"""A rendered conversation as tokens: images expanded, tokenised once, every token's place known.

Knows a tokenizer; knows no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tasm.backbone.prompt.chat import Place, Rendering
from tasm.backbone.prompt.roles import Role


@dataclass(frozen=True)
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
    tokenizer: Any,
    rendering: Rendering,
    expansions: Sequence[str],
    *,
    image_token_id: int | None,
    special_tokens: bool,
) -> TokenisedConversation:
    """Tokenise a conversation whose images are replaced by `expansions`, in order.

    A token belongs where its last character stands; one that ends in the template but begins in a
    text belongs to the text.
    """
    text, starts, kinds, origins = _expand(rendering, expansions)
    encoded = tokenizer(
        text,
        add_special_tokens=special_tokens,
        return_offsets_mapping=True,
        return_attention_mask=False,
        verbose=False,  # whether it is too long is told by positions, not by the tokenizer
    )
    ids = torch.tensor(encoded["input_ids"], dtype=torch.long)
    offsets = torch.tensor(encoded["offset_mapping"], dtype=torch.long).reshape(-1, 2)
    first, last = offsets[:, 0].contiguous(), torch.maximum(offsets[:, 0], offsets[:, 1] - 1)
    # Some tokenizers give a piece of white space an offset before its neighbour's: keep the order.
    last = torch.cummax(last, 0).values if last.numel() else last
    owner = (torch.searchsorted(starts, last, right=True) - 1).clamp_min(0)
    begins_in = (torch.searchsorted(starts, first, right=True) - 1).clamp_min(0)
    roles = kinds[owner]
    is_text = (kinds == Role.QUESTION) | (kinds == Role.ANSWER) | (kinds == Role.SYSTEM)
    begins_in_text = (roles == Role.TEMPLATE) & is_text[begins_in] & (offsets[:, 1] > first)
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


def _expand(rendering: Rendering, expansions: Sequence[str]) -> tuple[str, Tensor, Tensor, Tensor]:
    """The expanded text, and every stretch's start, role, origin and image number."""
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
    return "".join(pieces), table[:, 0].contiguous(), table[:, 1], table[:, 2:]
