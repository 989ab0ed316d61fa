"""Where each text token of a conversation ends in its message's text, for pages that colour texts.

Knows where texts stand in a rendered conversation and where tokens do; knows no tokenizer.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tasm.backbone.prompt.chat_template import Rendering
from tasm.backbone.prompt.roles import Role
from tasm.backbone.prompt.transcript import TextEnds
from tasm.demonstrations import Conversation, Message


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
