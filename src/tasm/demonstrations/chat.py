"""Reads chat messages in the formats of OpenAI and of transformers.

Knows roles and parts of messages; knows nothing of rows, files or chat templates.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from tasm.demonstrations.conversation import Message, Role
from tasm.demonstrations.marks import Marks
from tasm.demonstrations.picture import Picture
from tasm.demonstrations.picture_source import picture_from, picture_in_base64
from tasm.demonstrations.problems import RowProblem, check_text, describe
from tasm.errors import did_you_mean

_ROLES = ("system", "user", "assistant")
_PART_TYPES = ("text", "image", "image_url")
_PICTURE_KEYS = ("image", "path", "url", "base64")


def messages_of_chat(
    given: Any, folder: Path, pictures: tuple[Picture, ...] = ()
) -> tuple[Message, ...]:
    """Return the messages of a chat; relative paths start at `folder`.

    `pictures` are those that the row holds beside its messages, for `{"type": "image"}` parts and
    `<image>` marks; without either they come first. Raises `RowProblem`.
    """
    if not isinstance(given, list | tuple) or not given:
        raise RowProblem("messages", describe(given), "a list of messages")
    marks = Marks(pictures)
    messages = [
        _message(one, f"messages[{place}]", folder, marks) for place, one in enumerate(given)
    ]
    marks.check_all_placed("messages")
    if pictures and not marks.any_found:
        first = next((i for i, message in enumerate(messages) if message.role == "user"), 0)
        messages[first] = Message(messages[first].role, (*pictures, *messages[first].content))
    _check_turns(messages)
    return tuple(messages)


def _message(given: Any, field: str, folder: Path, marks: Marks) -> Message:
    if not isinstance(given, Mapping):
        raise RowProblem(field, describe(given), "an object with 'role' and 'content'")
    role = given.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        hint = did_you_mean(role, _ROLES) if isinstance(role, str) else ""
        raise RowProblem(f"{field}.role", describe(role), f"one of {', '.join(_ROLES)}.{hint}")
    content = given.get("content")
    field = f"{field}.content"
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list | tuple):
        raise RowProblem(field, describe(content), "a string or a list of parts")
    parts: list[str | Picture] = []
    for place, part in enumerate(content):
        for piece in _part(part, f"{field}[{place}]", folder, marks):
            if isinstance(piece, str) and parts and isinstance(parts[-1], str):
                parts[-1] += piece  # so that the same words are the same content
            else:
                parts.append(piece)
    if not any(isinstance(part, Picture) or part.strip() for part in parts):
        raise RowProblem(field, "no text", "text")
    if role != "user" and any(isinstance(part, Picture) for part in parts):
        raise RowProblem(field, f"a picture in a message of the {role}", "pictures in the user's")
    return Message(cast(Role, role), tuple(parts))


def _part(part: Any, field: str, folder: Path, marks: Marks) -> tuple[str | Picture, ...]:
    if isinstance(part, str):
        part = {"type": "text", "text": part}
    if not isinstance(part, Mapping):
        raise RowProblem(field, describe(part), "an object with 'type'")
    # Tables of chats give every part all fields, empty where they do not belong.
    given = {name: value for name, value in part.items() if value is not None}
    kind = given.get("type")
    if not isinstance(kind, str):
        expected = f"one of {', '.join(_PART_TYPES)}."
        raise RowProblem(f"{field}.type", describe(kind), expected)
    if kind == "text":
        text = given.get("text")
        if not isinstance(text, str):
            raise RowProblem(f"{field}.text", describe(text), "a string")
        check_text(text, f"{field}.text")
        return marks.place(text, f"{field}.text")
    if kind == "image":
        return (_image(given, field, folder, marks),)
    if kind == "image_url":
        address = given.get("image_url")
        if isinstance(address, Mapping):
            address = address.get("url")
        return (picture_from(address, f"{field}.image_url", folder),)
    if kind in ("video", "video_url"):
        raise RowProblem(f"{field}.type", "a video", "pictures; videos are not supported")
    hint = did_you_mean(kind, _PART_TYPES)
    raise RowProblem(f"{field}.type", describe(kind), f"one of {', '.join(_PART_TYPES)}.{hint}")


def _image(given: Mapping[str, Any], field: str, folder: Path, marks: Marks) -> Picture:
    for key in _PICTURE_KEYS:
        if key not in given:
            continue
        if key == "base64":
            return picture_in_base64(given[key], f"{field}.{key}")
        return picture_from(given[key], f"{field}.{key}", folder)
    return marks.take(field)


def _check_turns(messages: list[Message]) -> None:
    turns = messages[1:] if messages[0].role == "system" else messages
    for place, message in enumerate(turns, start=len(messages) - len(turns)):
        wanted = "user" if (place - len(messages) + len(turns)) % 2 == 0 else "assistant"
        if message.role != wanted:
            raise RowProblem(
                f"messages[{place}].role",
                f"'{message.role}'",
                f"'{wanted}': user and assistant take turns, after one system message at most",
            )
    if not turns:
        raise RowProblem("messages", "no message of the user", "a question and its answer")
