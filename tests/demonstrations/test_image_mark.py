r"""`<image>` stands for a picture, `\<image>` is the word."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tasm.demonstrations import Picture, make_query, read_demonstrations
from tasm.demonstrations.marks import escape_marks, split_at_marks
from tasm.errors import DemonstrationError

PICTURE = Image.new("RGB", (8, 8), "red")


def content(question: str, pictures: int) -> list[Any]:
    query = make_query(question, [PICTURE] * pictures)
    return [part if isinstance(part, str) else "*" for part in query.messages[0].content]


@pytest.mark.parametrize(
    ("question", "pictures", "expected"),
    [
        (r"What does \<image> mean?", 0, ["What does <image> mean?"]),
        (r"What does \<image> mean?", 1, ["*", "What does <image> mean?"]),
        (r"Is <image> called \<image>?", 1, ["Is ", "*", " called <image>?"]),
        (r"C:\\<image> it is", 1, ["C:\\", "*", " it is"]),
        (r"C:\\\<image>", 0, [r"C:\<image>"]),
        (r"\n stays, \image too", 0, [r"\n stays, \image too"]),
    ],
)
def test_a_backslash_makes_the_mark_a_word(
    question: str, pictures: int, expected: list[str]
) -> None:
    assert content(question, pictures) == expected


@given(st.lists(st.sampled_from(["\\", "<image>", "<", "a", ">", " "]), max_size=8))
def test_any_text_can_be_written_so_that_it_is_text(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert split_at_marks(escape_marks(text)) == [text]


def test_a_question_reads_back_as_it_was() -> None:
    query = make_query(r"Is <image> called \<image>?", [PICTURE])
    assert query.question == r"Is <image> called \<image>?"
    again = make_query(query.question, [PICTURE])
    assert again.messages == query.messages


def test_answers_and_chats_take_the_word_too() -> None:
    rows = [
        {"question": "Which tag?", "answer": r"the \<image> tag"},
        {
            "messages": [
                {"role": "system", "content": r"Say \<image>."},
                {"role": "user", "content": [{"type": "image", "image": PICTURE}, r"\<image>?"]},
                {"role": "assistant", "content": r"\<image>"},
            ]
        },
    ]
    first, second = read_demonstrations(rows)
    assert first.answer == "the <image> tag"
    assert second.answer == "<image>"
    assert second.system == "Say <image>."
    assert second.messages[1].content == (Picture(PICTURE), "<image>?")


def test_a_mark_without_a_picture_names_the_way_out() -> None:
    with pytest.raises(DemonstrationError, match=r"speaks of <image> itself, write \\<image>"):
        make_query("What does <image> mean?")
    with pytest.raises(DemonstrationError, match=r"\\<image> is the word"):
        read_demonstrations([{"question": "Which tag?", "answer": "<image>"}])
