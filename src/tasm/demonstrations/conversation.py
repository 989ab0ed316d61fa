"""What a demonstration and a query are: a few messages of text and pictures.

Knows nothing of files, rows or chat templates.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tasm.demonstrations.marks import IMAGE_MARK, escape_marks
from tasm.demonstrations.picture import Picture
from tasm.demonstrations.problems import shorten
from tasm.errors import DemonstrationError

DEFAULT_ID_LENGTH = 16
"""Hex digits of the content hash that make an id."""

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One message: text and pictures in their order, no two texts beside each other.

    ```python
    Message("user", (Picture(Path("wren.png")), "Which bird is this?"))
    ```
    """

    role: Role
    content: tuple[str | Picture, ...]

    @property
    def text(self) -> str:
        r"""The message as text, `<image>` where a picture stands.

        In a message of the user the word itself is written `\<image>`, as in a row's question.
        """
        write = escape_marks if self.role == "user" else str
        return "".join(
            IMAGE_MARK if isinstance(part, Picture) else write(part) for part in self.content
        )

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The pictures in their order."""
        return tuple(part for part in self.content if isinstance(part, Picture))

    def chat(self) -> dict[str, Any]:
        """The message in transformers' chat format, pictures as `{"type": "image"}`."""
        return {
            "role": self.role,
            "content": [
                {"type": "image"} if isinstance(part, Picture) else {"type": "text", "text": part}
                for part in self.content
            ],
        }


@dataclass(frozen=True)
class Conversation:
    """What demonstrations and queries share: an id and messages."""

    id: str
    messages: tuple[Message, ...]

    @property
    def system(self) -> str | None:
        """The text of the system message, None where there is none."""
        first = self.messages[0]
        return first.text if first.role == "system" else None

    @property
    def turns(self) -> tuple[Message, ...]:
        """The messages without the system message: the user's and the assistant's in turn."""
        return tuple(message for message in self.messages if message.role != "system")

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All pictures of all messages in their order."""
        return tuple(picture for message in self.messages for picture in message.pictures)

    @property
    def question(self) -> str:
        """The text of the user's last message, `<image>` where a picture stands."""
        return [message.text for message in self.messages if message.role == "user"][-1]

    def chat(self) -> list[dict[str, Any]]:
        """The messages in transformers' chat format, for `apply_chat_template`.

        ```python
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which bird?"}]},
         {"role": "assistant", "content": [{"type": "text", "text": "wren"}]}]
        ```
        """
        return [message.chat() for message in self.messages]


@dataclass(frozen=True)
class Demonstration(Conversation):
    """One solved example; its last message is the assistant's.

    ```python
    wren = read_demonstrations("birds.jsonl")[0]
    wren.question, wren.answer      # ('<image>Which bird is this?', 'wren')
    ```
    """

    content_hash: str
    """SHA-256 over the decoded pixels and the text, 64 hex digits."""
    origin: str = field(default="", compare=False)
    """Where it was read, for messages: `"birds.jsonl, line 3"`."""
    file: Path | None = field(default=None, compare=False)
    """The file that it was read from; None for what came in Python."""

    @property
    def answer(self) -> str:
        """The text of the last message."""
        return self.messages[-1].text

    def as_query(self) -> "Query":
        """Return its own question, to be asked; its answer is the accepted one."""
        return Query(self.id, self.messages[:-1], (self.answer,), self.origin)


@dataclass(frozen=True)
class Query(Conversation):
    """A question to be answered; its last message is the user's."""

    answers: tuple[str, ...] = ()
    """The answers that count as right; empty where they are not known."""
    origin: str = field(default="", compare=False)


def content_hash(messages: Iterable[Message]) -> str:
    """Return the SHA-256 of messages: of their roles, texts and decoded pixels, in order.

    Every part is preceded by its kind and length, so that no two different conversations are the
    same bytes. File names do not count.
    """
    digest = hashlib.sha256(b"tasm conversation\0")

    def add(kind: bytes, data: bytes) -> None:
        digest.update(kind + len(data).to_bytes(8, "little") + data)

    for message in messages:
        add(b"M", message.role.encode())
        for part in message.content:
            if isinstance(part, Picture):
                add(b"P", bytes.fromhex(part.sha256))
            else:
                add(b"T", part.encode())
    return digest.hexdigest()


def shared_system(conversations: Sequence[Conversation]) -> str | None:
    """Return the one system message of all conversations, None where none has one.

    Many demonstrations become one conversation with one system message. Raises
    `DemonstrationError` when they ask for different ones.
    """
    if not conversations:
        return None
    first = conversations[0]
    for other in conversations[1:]:
        if other.system != first.system:
            raise DemonstrationError(
                f"Demonstrations {first.id} and {other.id} have different system messages "
                f"({_shown(first.system)} and {_shown(other.system)}); one memory has one system "
                "message. Give all of them the same, or none."
            )
    return first.system


def _shown(text: str | None) -> str:
    return "none" if text is None else repr(shorten(text))
