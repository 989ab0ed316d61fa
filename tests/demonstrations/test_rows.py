"""What one row may hold, and what is said when it holds something else."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tasm.demonstrations import Demonstration, Picture, Query, read_demonstrations, read_queries
from tasm.errors import DemonstrationError

QUESTION = {"question": "Which bird?", "answer": "wren"}


def read_one(write_rows, row: Any) -> Demonstration:
    (one,) = read_demonstrations(write_rows(row))
    return one


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def test_one_image(write_rows, folder: Path) -> None:
    one = read_one(write_rows, {"image": "wren.png", **QUESTION})
    assert one.chat() == [
        user({"type": "image"}, {"type": "text", "text": "Which bird?"}),
        {"role": "assistant", "content": [{"type": "text", "text": "wren"}]},
    ]
    assert (one.question, one.answer) == ("<image>Which bird?", "wren")
    assert [picture.path for picture in one.pictures] == [folder / "wren.png"]
    assert one.origin == f"{folder / 'birds.jsonl'}, line 1"


def test_several_images_come_first(write_rows) -> None:
    one = read_one(write_rows, {"images": ["wren.png", "robin.jpg"], **QUESTION})
    assert one.question == "<image><image>Which bird?"


def test_no_image(write_rows) -> None:
    for row in (QUESTION, {"images": [], **QUESTION}, {"image": None, **QUESTION}):
        assert read_one(write_rows, row).question == "Which bird?"


def test_marks_say_where_images_stand(write_rows) -> None:
    row = {
        "images": ["wren.png", "robin.jpg"],
        "answer": "no",
        "question": "Is <image> as <image>?",
    }
    (message, _) = read_one(write_rows, row).messages
    before, first, between, second, after = message.content
    assert (before, between, after) == ("Is ", " as ", "?")
    assert isinstance(first, Picture) and first.path.name == "wren.png"
    assert isinstance(second, Picture) and second.path.name == "robin.jpg"


def test_multi_turn_chat(write_rows) -> None:
    one = read_one(
        write_rows,
        {
            "messages": [
                {"role": "system", "content": "Birds only."},
                user({"type": "image", "image": "wren.png"}, {"type": "text", "text": "Which?"}),
                assistant("wren"),
                user({"type": "text", "text": "And this?"}, {"type": "image", "url": "crow.png"}),
                assistant("crow"),
            ]
        },
    )
    assert one.system == "Birds only."
    assert [message.role for message in one.turns] == ["user", "assistant"] * 2
    assert (one.question, one.answer) == ("And this?<image>", "crow")
    assert [picture.path.name for picture in one.pictures] == ["wren.png", "crow.png"]


def encoded(colour: str) -> str:
    file = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_every_way_to_name_an_image(write_rows, folder: Path) -> None:
    data = f"data:image/png;base64,{encoded('red')}"
    parts = [
        {"type": "image", "image": "wren.png"},
        {"type": "image", "path": str(folder / "wren.png")},
        {"type": "image", "url": (folder / "wren.png").as_uri()},
        {"type": "image", "base64": encoded("red")},
        {"type": "image_url", "image_url": {"url": data}},
        {"type": "image_url", "image_url": "wren.png"},
        {"type": "image", "image": None, "url": "wren.png", "text": None},
    ]
    rows = [
        {
            "id": str(place),
            "messages": [user(part, {"type": "text", "text": f"{place}?"}), assistant("x")],
        }
        for place, part in enumerate(parts)
    ]
    rows.append({"image": data, **QUESTION})
    rows.append({"file_name": "wren.png", "question": "What?", "answer": "wren"})
    read = read_demonstrations(write_rows(*rows))
    expected = Picture(Image.new("RGB", (8, 6), "red")).sha256
    assert [picture.sha256 for one in read for picture in one.pictures] == [expected] * len(rows)


def test_images_beside_a_chat_fill_its_places(write_rows) -> None:
    images = {"images": ["wren.png", "crow.png"]}
    text = {"type": "text", "text": "Which?"}
    for content, question in [
        ([{"type": "image"}, text, {"type": "image"}], "<image>Which?<image>"),
        ("a <image> b <image>", "a <image> b <image>"),
        ("Which?", "<image><image>Which?"),
    ]:
        chat = {"messages": [{"role": "user", "content": content}, assistant("x")], **images}
        one = read_one(write_rows, chat)
        assert one.question == question
        assert [picture.path.name for picture in one.pictures] == ["wren.png", "crow.png"]


def test_ids(write_rows) -> None:
    rows = [{"id": "first", **QUESTION}, {"id": 7, "question": "And?", "answer": "wren"}]
    assert [one.id for one in read_demonstrations(write_rows(*rows))] == ["first", "7"]


CHAT_QUESTION = user({"type": "text", "text": "Which?"})

BAD = [
    ({"image": "gone.png", **QUESTION}, "'image'", "gone.png: no such file", "a picture"),
    ({"images": ["wren.png", "gone.png"], **QUESTION}, "'images[1]'", "no such file", "a picture"),
    ({"images": "wren.png", **QUESTION}, "'images'", "the string 'wren.png'", "a list of paths"),
    ({"image": ["wren.png"], **QUESTION}, "'image'", "a list", "one path"),
    ({"image": 3, **QUESTION}, "'image'", "a number (3)", "a path"),
    ({"image": "", **QUESTION}, "'image'", "an empty string", "a path"),
    ({"image": "a\0b.png", **QUESTION}, "'image'", "a NUL character", "text"),
    (
        {"image": "wren.png", "images": [], **QUESTION},
        "'image'",
        "beside 'images'",
        "one of the two",
    ),
    ({"image": "https://a.org/b.png", **QUESTION}, "'image'", "https://a.org/b.png", "download it"),
    ({"image": "data:image/png;base64,@@", **QUESTION}, "'image'", "damaged base64", "base64"),
    ({"image": "data:image/png,abc", **QUESTION}, "'image'", "data:image/png,abc", "base64"),
    ({"imges": ["wren.png"], **QUESTION}, "'imges'", "no 'images'", "Did you mean 'images'?"),
    ({"image_path": "wren.png", **QUESTION}, "'image_path'", "no 'images'", "'images'"),
    ({"video": "a.mp4", **QUESTION}, "'video'", "a video", "not supported"),
    ({"answer": "wren"}, "'question'", "no such field", "a string"),
    ({"question": "", "answer": "wren"}, "'question'", "the string ''", "not empty"),
    ({"question": 3, "answer": "wren"}, "'question'", "a number (3)", "a string"),
    ({"question": "\ud800", "answer": "wren"}, "'question'", "surrogate", "Unicode"),
    ({"question": "Which?"}, "'answer'", "no such field", "one string"),
    ({"question": "Which?", "answer": None}, "'answer'", "no such field", "one string"),
    ({"question": "Which?", "answers": "wren"}, "'answer'", "but 'answers'", "a string"),
    ({**QUESTION, "choices": ["a", "b"], "answer": 1}, "'answer'", "beside 'choices'", "the text"),
    ({"question": "Which?", "answer": ""}, "'answer'", "an empty string", "not empty"),
    ({"question": "Which?", "answer": float("nan")}, "'answer'", "a number (nan)", "a string"),
    ({"question": "Which?", "answer": {"a": 1}}, "'answer'", "an object with", "a string"),
    ({"question": "Which?", "answer": ["a", "b"]}, "'answer'", "several", "one string"),
    ({"question": "Which?", "answer": "<image>"}, "'answer'", "<image>", "no pictures"),
    (
        {"image": "wren.png", "question": "<image> or <image>?", "answer": "x"},
        "'question'",
        "2 × <image> and 1 picture",
        "one <image> for each picture",
    ),
    (
        {"images": ["wren.png", "crow.png"], "question": "<image>?", "answer": "x"},
        "'question'",
        "1 × <image> and 2 pictures",
        "for each picture; or none",
    ),
    ({"id": "", **QUESTION}, "'id'", "the string ''", "1 to 128"),
    ({"id": "a\nb", **QUESTION}, "'id'", "the string", "printable"),
    ({"id": 1.5, **QUESTION}, "'id'", "a number (1.5)", "whole number"),
    ([1, 2], "", "a list", "an object"),
    ("text", "", "the string 'text'", "an object"),
    ({"messages": []}, "'messages'", "an empty list", "a list of messages"),
    ({"messages": "hi"}, "'messages'", "the string 'hi'", "a list of messages"),
    ({"messages": ["hi"]}, "'messages[0]'", "the string 'hi'", "'role' and 'content'"),
    ({"messages": [CHAT_QUESTION]}, "'answer'", "no such field", "one string"),
    ({"messages": [assistant("x")]}, "'messages[0].role'", "'assistant'", "'user'"),
    ({"messages": [CHAT_QUESTION, CHAT_QUESTION]}, "'messages[1].role'", "'user'", "take turns"),
    (
        {"messages": [{"role": "system", "content": "x"}]},
        "'messages'",
        "no message of the user",
        "",
    ),
    ({"messages": [{"role": "human", "content": "x"}]}, "'messages[0].role'", "'human'", "user"),
    ({"messages": [{"role": "usr", "content": "x"}]}, "'messages[0].role'", "'usr'", "mean 'user'"),
    ({"messages": [{"role": "user"}]}, "'messages[0].content'", "nothing", "a string or a list"),
    ({"messages": [user(), assistant("x")]}, "'messages[0].content'", "no text", "text"),
    ({"messages": [user({"type": "video"})]}, "'messages[0].content[0].type'", "a video", "not"),
    ({"messages": [user({"type": "imag"})]}, "[0].type'", "'imag'", "Did you mean 'image'"),
    ({"messages": [user({"type": "text"})]}, "[0].text'", "nothing", "a string"),
    ({"messages": [user({"type": "image"})]}, "[0]'", "a place for picture 1", "pictures, 0"),
    ({"messages": [user({"type": "image_url"})]}, "image_url'", "nothing", "a path"),
    ({"messages": [user({"type": "image", "base64": 3})]}, "base64'", "a number (3)", "base64"),
    (
        {
            "messages": [
                CHAT_QUESTION,
                {"role": "assistant", "content": [{"type": "image", "path": "wren.png"}]},
            ]
        },
        "'messages[1].content'",
        "a picture in a message of the assistant",
        "the user's",
    ),
    ({"messages": [CHAT_QUESTION, assistant("x")], "question": "?"}, "'question'", "beside", "one"),
    ({"messages": [CHAT_QUESTION, assistant("x")], "answer": "y"}, "'answer'", "beside", "one"),
]


@pytest.mark.parametrize(("row", "field", "found", "expected"), BAD)
def test_bad_rows_are_named(write_rows, row: Any, field: str, found: str, expected: str) -> None:
    path = write_rows({"question": "Good?", "answer": "yes"}, json.dumps(row))
    with pytest.raises(DemonstrationError) as raised:
        read_demonstrations(path)
    message = str(raised.value)
    assert message.startswith(f"{path}, line 2, ")
    assert "skip_bad_rows" in message
    place, _, rest = message.partition("found ")
    assert field in place
    said_found, _, said_expected = rest.partition("; expected ")
    assert found in said_found
    assert expected in said_expected


def query(write_rows, row: Any) -> Query:
    (one,) = read_queries(write_rows(row))
    return one


def test_queries_may_have_no_answer_one_or_several(write_rows) -> None:
    assert query(write_rows, {"question": "Which?"}).answers == ()
    assert query(write_rows, {"question": "Which?", "answer": "a"}).answers == ("a",)
    assert query(write_rows, {"question": "Which?", "answer": ["a", "b"]}).answers == ("a", "b")


def test_a_query_ends_with_the_user(write_rows) -> None:
    asked = {"messages": [CHAT_QUESTION]}
    answered = {"messages": [CHAT_QUESTION, assistant("x")]}
    for row, answers in ((asked, ()), (answered, ("x",)), ({**asked, "answer": ["y"]}, ("y",))):
        one = query(write_rows, row)
        assert (one.messages[-1].role, one.answers) == ("user", answers)


@pytest.mark.parametrize("answer", [[], [float("inf")], ["a", ""], {}, [["a"]]])
def test_bad_answers_of_queries(write_rows, answer: Any) -> None:
    with pytest.raises(DemonstrationError, match=r"line 1, field 'answer': found"):
        read_queries(write_rows({"question": "Which?", "answer": answer}))


RENAMES = [
    ({"image": "wren.png", "question": "Which?", "label": "wren"}, "'label' to 'answer'"),
    ({"question": "Which?", "Answer": "wren"}, "'Answer' to 'answer'"),
    ({"question": "Which?", "target": "wren"}, "'target' to 'answer'"),
    ({"question": "Which?", "response": "wren"}, "'response' to 'answer'"),
    ({"question": "Which?", "caption": "wren"}, "'caption' to 'answer'"),
    ({"prompt": "Which?", "answer": "wren"}, "'prompt' to 'question'"),
    ({"text": "Which?", "label": 3}, "'text' to 'question' and 'label' to 'answer'"),
    ({"instruction": "?", "output": "x"}, "'instruction' to 'question' and 'output' to 'answer'"),
    ({"image_path": "wren.png", **QUESTION}, "rename 'image_path'"),
    ({"path": "wren.png", **QUESTION}, "rename 'path'"),
    ({"left": "wren.JFIF", **QUESTION}, "rename 'left'"),
    ({"conversations": [{"from": "human", "value": "?"}]}, "'conversations' to 'messages'"),
]


@pytest.mark.parametrize(("row", "said"), RENAMES)
def test_other_names_are_said_with_the_right_ones(write_rows, row: Any, said: str) -> None:
    with pytest.raises(DemonstrationError, match=r"birds\.jsonl, line 1, field '") as raised:
        read_demonstrations(write_rows(row))
    assert said in str(raised.value)


def test_a_query_may_have_fields_of_its_own(write_rows) -> None:
    row = {"question": "Which?", "category": "birds", "caption": "A bird.", "answer_type": "word"}
    assert query(write_rows, row).answers == ()
    with pytest.raises(DemonstrationError, match="rename 'label' to 'answer'"):
        query(write_rows, {"question": "Which?", "label": "wren"})


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:9/a.png",
        "ftp://a.org/a.png",
        "s3://bucket/a.png",
        "file://server/share/a.png",
        "file:////server/share/a.png",
        "\\\\server\\share\\a.png",
    ],
)
def test_nothing_is_fetched(write_rows, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(socket, "socket", lambda *a, **k: pytest.fail("a connection was opened"))
    for row in (
        {"image": address, **QUESTION},
        {"messages": [user({"type": "image_url", "image_url": {"url": address}}, "A?"), answered]},
    ):
        with pytest.raises(DemonstrationError, match=r"line 1, field .*download it and give its"):
            read_demonstrations(write_rows(row))


answered = assistant("x")
