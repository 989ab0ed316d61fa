"""Turns one row, `{"images": […], "question": …, "answer": …}` or a chat, into messages.

Knows what a row may hold; knows nothing of where rows come from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasm.demonstrations.chat import messages_of_chat
from tasm.demonstrations.conversation import IMAGE_MARK, Message
from tasm.demonstrations.given import picture_from
from tasm.demonstrations.marks import Marks
from tasm.demonstrations.picture import Picture
from tasm.demonstrations.problems import RowProblem, check_text, describe
from tasm.errors import did_you_mean

PICTURE_FIELDS = ("images", "image", "file_name")
FIELDS = (*PICTURE_FIELDS, "question", "answer", "id", "messages")

_LIKE_A_PICTURE = ("image", "img", "picture", "photo", "file")
_LONGEST_ID = 128


@dataclass(frozen=True)
class Row:
    """What a row says: the messages up to the last question, the answers, the id if it gives one.

    `answers` is empty where the row has none.
    """

    messages: tuple[Message, ...]
    answers: tuple[str, ...]
    id: str | None


def parse_row(row: Any, folder: Path, question: str | None) -> Row:
    """Return what `row` says; relative paths start at `folder`.

    `question` stands in where a row has none. Pictures are decoded once. Raises `RowProblem`.
    """
    if not isinstance(row, Mapping):
        raise RowProblem("", describe(row), "an object with the fields 'question' and 'answer'")
    given = {name: value for name, value in row.items() if value is not None}
    for name in ("video", "videos"):
        if given.get(name):
            raise RowProblem(name, "a video", "pictures; videos are not supported")
    pictures = _pictures(given, folder)
    if "messages" in given:
        return _chat_row(given, folder, pictures)
    _refuse_overlooked_pictures(given)
    text = _question(given, question)
    marks = Marks(pictures)
    content = marks.place(text, "question")
    marks.check_all_placed("question")
    if not text.replace(IMAGE_MARK, "").strip():  # said only where the marks are right
        raise RowProblem("question", f"nothing but {IMAGE_MARK}", "text as well")
    if not marks.any_found:
        content = (*pictures, text)
    return Row((Message("user", content),), _answers(given), _id(given))


def _chat_row(given: Mapping[str, Any], folder: Path, pictures: tuple[Picture, ...]) -> Row:
    if "question" in given:
        raise RowProblem("question", "a question beside 'messages'", "one of the two")
    messages = messages_of_chat(given["messages"], folder, pictures)
    answers = _answers(given)
    if messages[-1].role != "assistant":
        return Row(messages, answers, _id(given))
    if answers:
        raise RowProblem(
            "answer",
            "an answer beside the last message, which is the assistant's",
            "one of the two",
        )
    return Row(messages[:-1], (messages[-1].text,), _id(given))


def _pictures(given: Mapping[str, Any], folder: Path) -> tuple[Picture, ...]:
    names = [name for name in PICTURE_FIELDS if name in given]
    if not names:
        return ()
    if len(names) > 1:
        raise RowProblem(names[1], f"'{names[1]}' beside '{names[0]}'", "one of the two")
    (name,) = names
    value = given[name]
    if name != "images":
        if isinstance(value, list | tuple):
            raise RowProblem(name, describe(value), "one path; several belong into 'images'")
        return (picture_from(value, name, folder),)
    if not isinstance(value, list | tuple):
        raise RowProblem(name, describe(value), "a list of paths; one path belongs into 'image'")
    return tuple(picture_from(item, f"images[{place}]", folder) for place, item in enumerate(value))


def _refuse_overlooked_pictures(given: Mapping[str, Any]) -> None:
    """A misspelt 'images' would make a demonstration that looks at nothing, in silence."""
    if any(name in given for name in PICTURE_FIELDS):
        return
    for name in given:
        if name not in FIELDS and any(part in str(name).lower() for part in _LIKE_A_PICTURE):
            hint = did_you_mean(str(name), PICTURE_FIELDS)
            raise RowProblem(
                str(name),
                "a field of that name and no 'images'",
                f"the pictures in 'images', or \"images\": [] for a row without any.{hint}",
            )


def _question(given: Mapping[str, Any], question: str | None) -> str:
    text = given.get("question", question)
    expected = "a string that is not empty"
    if text is None:
        raise RowProblem("question", f"no such field{_nearest(given, 'question')}", expected)
    if not isinstance(text, str) or not text.strip():
        raise RowProblem("question", describe(text), expected)
    check_text(text, "question")
    return text


def _answers(given: Mapping[str, Any]) -> tuple[str, ...]:
    if "answer" not in given:
        hint = _nearest(given, "answer")
        if hint:
            raise RowProblem("answer", f"no such field{hint}", "a string")
        return ()
    value = given["answer"]
    accepted = list(value) if isinstance(value, list | tuple) else [value]
    if not accepted:
        raise RowProblem("answer", "an empty list", "a string, or a list of accepted ones")
    for answer in accepted:
        if not isinstance(answer, str):
            expected = f'a string, such as "{answer}"' if isinstance(answer, int) else "a string"
            raise RowProblem("answer", describe(answer), expected)
        if not answer.strip():
            raise RowProblem("answer", "an empty string", "a string that is not empty")
        if IMAGE_MARK in answer:
            raise RowProblem("answer", f"the mark {IMAGE_MARK}", "text; answers hold no pictures")
        check_text(answer, "answer")
    return tuple(accepted)


def _nearest(given: Mapping[str, Any], wanted: str) -> str:
    """Return a hint when a field that is not read looks like the wanted one."""
    others = [str(name) for name in given if name not in FIELDS]
    for name in others:
        if did_you_mean(name, [wanted]) and not name.startswith(f"{wanted}_"):
            return f", but '{name}'"
    return ""


def _id(given: Mapping[str, Any]) -> str | None:
    value = given.get("id")
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    expected = f"a string of 1 to {_LONGEST_ID} printable characters, or a whole number"
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_ID or not value.isprintable():
        raise RowProblem("id", describe(value), expected)
    check_text(value, "id")
    return value
