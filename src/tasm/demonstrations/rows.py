"""Turns one row, `{"images": […], "question": …, "answer": …}` or a chat, into messages.

Knows what a row may hold; knows nothing of where rows come from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasm.demonstrations.answers import answers_from
from tasm.demonstrations.chat import messages_of_chat
from tasm.demonstrations.conversation import Message
from tasm.demonstrations.marks import IMAGE_MARK, Marks
from tasm.demonstrations.picture import Picture
from tasm.demonstrations.picture_source import picture_from
from tasm.demonstrations.problems import RowProblem, check_text, describe
from tasm.demonstrations.renaming import certain_answer, picture_field, similar_field
from tasm.errors import did_you_mean

PICTURE_FIELDS = ("images", "image", "file_name")
FIELDS = (*PICTURE_FIELDS, "question", "answer", "id", "messages")

_OPTIONS = ("choices", "options")
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
    given = {name: value for name, value in row.items() if not _is_missing(value)}
    for name in ("video", "videos"):
        if name in given and not _is_empty(given[name]):
            raise RowProblem(name, "a video", "pictures; videos are not supported")
    pictures = _pictures(given, folder)
    if "messages" in given:
        return _chat_row(given, folder, pictures)
    _refuse_overlooked_pictures(given)
    _refuse_other_names(given, question)
    text = _question(given, question)
    marks = Marks(pictures)
    content = marks.place(text, "question")
    marks.check_all_placed("question")
    if not text.replace(IMAGE_MARK, "").strip():  # said only where the marks are right
        raise RowProblem("question", f"nothing but {IMAGE_MARK}", "text as well")
    if not marks.any_found:
        content = (*pictures, *content)
    return Row((Message("user", content),), _answers(given), _id(given))


def _is_missing(value: Any) -> bool:
    """None, or what tables put where there is nothing."""
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def _is_empty(value: Any) -> bool:
    return isinstance(value, str | bytes | list | tuple | Mapping) and not value


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
    if isinstance(value, np.ndarray) and value.dtype == object:  # a list, as pandas gives it
        value = value.tolist()
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
    name = picture_field(given, FIELDS)
    if name is not None:
        hint = did_you_mean(name, PICTURE_FIELDS)
        raise RowProblem(
            name,
            "a field of that name and no 'images'",
            f"the pictures in 'images' or 'image': rename {name!r}; or \"images\": [] for a row "
            f"without any{hint and '.' + hint}",
        )


def _refuse_other_names(given: Mapping[str, Any], question: str | None) -> None:
    """Name everything that has to be renamed at once, not one field a try."""
    others = [name for name in given if name not in FIELDS]
    found: dict[str, str] = {}
    if "question" not in given and question is None:
        name = similar_field(others, "question")
        if name is None and (chat := similar_field(others, "messages")):
            raise RowProblem(
                "messages",
                f"no such field, but {chat!r}, which looks like a chat",
                f"rename {chat!r} to 'messages': a list of objects with 'role' and 'content'",
            )
        if name is not None:
            found["question"] = name
            others.remove(name)
    if "answer" not in given:
        # A question may do without one, so only what can be nothing else is taken for the answer.
        name = similar_field(others, "answer") if found else certain_answer(others)
        if name is not None:
            found["answer"] = name
    if found:
        raise other_names(found)


def other_names(found: Mapping[str, str]) -> RowProblem:
    """Say which fields have to be renamed; `found` maps the right name to the one in the row."""
    seen = " and ".join(f"{name!r}, which looks like the {what}" for what, name in found.items())
    renames = " and ".join(f"{name!r} to {what!r}" for what, name in found.items())
    return RowProblem(
        next(iter(found)), f"no such field, but {seen}", f"a string: rename {renames}"
    )


def _question(given: Mapping[str, Any], question: str | None) -> str:
    text = given.get("question", question)
    expected = "a string that is not empty"
    if text is None:
        raise RowProblem("question", "no such field", f"{expected}, or --question for all rows")
    if not isinstance(text, str) or not text.strip():
        raise RowProblem("question", describe(text), expected)
    check_text(text, "question")
    return text


def _answers(given: Mapping[str, Any]) -> tuple[str, ...]:
    if "answer" not in given:
        return ()
    answer = given["answer"]
    options = next((name for name in _OPTIONS if name in given), None)
    if options is not None and not isinstance(answer, str | list | tuple):
        # The number of a choice would be learned as the answer itself, in silence.
        raise RowProblem(
            "answer", f"{describe(answer)} beside {options!r}", "the text of the right choice"
        )
    return answers_from(answer)


def _id(given: Mapping[str, Any]) -> str | None:
    value = given.get("id")
    if value is None:
        return None
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(value)
    expected = f"a string of 1 to {_LONGEST_ID} printable characters, or a whole number"
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_ID or not value.isprintable():
        raise RowProblem("id", describe(value), expected)
    check_text(value, "id")
    return value
