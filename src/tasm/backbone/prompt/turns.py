"""A conversation as turns: what a chat template is given, and marks in place of every text.

Knows demonstrations and queries; no template and no tokens.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasm.demonstrations import Conversation, Query

MARK = re.compile(r"zqtasm(\d{7})qz")


def mark(number: int) -> str:
    """Return what stands in place of a text; `MARK` finds it again."""
    return f"zqtasm{number:07d}qz"


Part = str | None
"""A text, or None for an image."""


@dataclass(frozen=True)
class Turn:
    """One message: its role and its parts in order; `origin` is what messages call it."""

    role: str
    parts: tuple[Part, ...]
    origin: str = "The conversation"


def turns_of(conversation: Conversation) -> list[Turn]:
    """Return the messages of a demonstration or a query."""
    origin = name_of(conversation)
    return [
        Turn(
            message.role,
            tuple(part if isinstance(part, str) else None for part in message.content),
            origin,
        )
        for message in conversation.turns
    ]


def questions_of(conversation: Conversation) -> list[tuple[str, ...]]:
    """For each picture the texts of its own message: no answer, and no later question."""
    return [
        tuple(part for part in message.content if isinstance(part, str))
        for message in conversation.messages
        for _ in message.pictures
    ]


def name_of(conversation: Conversation) -> str:
    """What messages call a conversation: its file and line, or its id."""
    kind = "Query" if isinstance(conversation, Query) else "Demonstration"
    return getattr(conversation, "origin", "") or f"{kind} {conversation.id}"


def messages_of(turns: Sequence[Turn], system: str | None, flat: bool) -> list[dict[str, Any]]:
    """The conversation as templates take it; with `flat`, a message of texts alone is a string."""
    whole = [Turn("system", (system,)), *turns] if system is not None else list(turns)
    messages = []
    for turn in whole:
        content: Any
        if flat and None not in turn.parts:
            content = "".join(part for part in turn.parts if part is not None)
        else:
            content = [
                {"type": "image"} if part is None else {"type": "text", "text": part}
                for part in turn.parts
            ]
        messages.append({"role": turn.role, "content": content})
    return messages


def marked(turns: Sequence[Turn], system: str | None) -> tuple[list[Turn], str | None]:
    """Return turns and system prompt with a mark in place of every text, numbered in order."""
    number = 0 if system is None else 1
    found = []
    for turn in turns:
        parts: list[Part] = []
        for part in turn.parts:
            parts.append(part if part is None else mark(number))
            number += part is not None
        found.append(Turn(turn.role, tuple(parts)))
    return found, None if system is None else mark(0)
