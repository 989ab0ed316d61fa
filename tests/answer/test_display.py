"""What a console and a notebook show of models, memories and answers: short, whole, escaped."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import tasm
from tests.answer.conftest import demonstrations


class Whole(HTMLParser):
    """Every tag that opens closes, in order; text and addresses are collected."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.addresses: list[Any] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def shown(thing: Any) -> Whole:
    page = thing._repr_html_()
    assert len(page) < 10_000
    found = Whole(page)
    assert found.addresses == []  # nothing is fetched
    return found


def test_a_model(model: tasm.Model) -> None:
    assert repr(model).startswith(f"<Model {model.name}: Qwen2VLForConditionalGeneration, ")
    assert "float32 on cpu" in repr(model) and "\n" not in repr(model)
    found = shown(model)
    for fact in ("Qwen2VLForConditionalGeneration", "float32 on cpu", "4,096"):
        assert fact in found.text


def test_a_memory(memory: tasm.TaskMemory, tmp_path: Path) -> None:
    assert repr(memory).startswith("<TaskMemory tasm: 6 demonstrations, ")
    assert "not saved" in repr(memory) and "\n" not in repr(memory)
    memory.save(tmp_path / "colours.tasm")
    loaded = tasm.load(tmp_path / "colours.tasm")
    assert str(tmp_path / "colours.tasm") in repr(loaded)
    summary = loaded.summary()
    found = shown(loaded)
    for text in (summary, found.text):
        assert "1 more demonstrations" in text
        assert demonstrations()[0].id in text and "red" in text
        assert "tasm, joint" in text


def test_an_answer(model: tasm.Model, memory: tasm.TaskMemory) -> None:
    row = {"question": "Which?", "answer": ["<b>never</b>", "no"]}
    answer = model.ask_all(memory, [row], max_new_tokens=4, explain=True)[0]
    assert str(answer) == answer.text
    assert f"{answer}" == answer.text
    line = repr(answer)
    assert line.startswith(f"<Answer {answer.text!r}: ") and "\n" not in line
    assert "wrong, expected '<b>never</b>'" in line
    assert answer.nearest(1)[0].id in line
    assert len(line) < 250
    found = shown(answer)
    assert "<b>never</b> · no" in found.text
    assert answer.nearest(1)[0].id in found.text


def test_texts_of_users_are_not_markup(model: tasm.Model) -> None:
    mean = "<script>alert(1)</script>"
    row = {"question": mean, "answer": "x" * 900}
    memory = tasm.build(model, [row, {"question": "b", "answer": "c"}], recipe="full")
    page = memory._repr_html_()
    assert "<script" not in page
    assert len(page) < 10_000
    assert mean in shown(memory).text


def test_an_explanation_says_what_was_shown(
    model: tasm.Model, memory: tasm.TaskMemory, tmp_path: Path
) -> None:
    rows = []
    for number, one in enumerate(demonstrations()):
        one.pictures[0].load().save(tmp_path / f"{number}.png")
        path = str(tmp_path / f"{number}.png")
        rows.append({"image": path, "question": "Which?", "answer": one.answer})
    built = tasm.build(model, rows, recipe="tasm", core="40%")
    answer = model.ask(built, question="Which?", explain=True, gate="always")
    assert [(one.question, one.answer, one.pictures) for one in answer.demonstrations] == [
        (f"<image>{row['question']}", row["answer"], (str(Path(row["image"]).resolve()),))
        for row in rows
    ]
    assert all(0 <= one.retrieved <= one.weight for one in answer.demonstrations)
    assert sum(one.retrieved for one in answer.demonstrations) > 0
    ranks = [one.rank for one in answer.nearest(6)]
    assert ranks == sorted((one.rank for one in answer.demonstrations), reverse=True)
    assert len(answer.nearest(2)) == 2
    document = answer.to_json()["demonstrations"][0]
    assert set(document) == {
        "id", "weight", "retrieved", "attention", "attention_retrieved", "support", "effect",
        "layers", "question", "answer", "pictures",
    }  # fmt: skip
    shut = model.ask(built, question="Which?", explain=True, gate="never")
    assert all(one.retrieved == 0 for one in shut.demonstrations)
    # Of pictures in memory nothing is known but that there were some.
    unsaved = model.ask(memory, question="Which?", explain=True)
    assert unsaved.demonstrations[0].pictures == (None,)


@pytest.mark.parametrize("text", ["", "a wren"])
def test_a_bare_answer_is_shown_too(text: str) -> None:
    answer = tasm.Answer(text, (), {}, {})
    assert (answer.expected, answer.correct, answer.nearest()) == ((), None, ())
    assert repr(answer) == f"<Answer {text!r}: 0 tokens, 0.00 s>"
    assert (text or "(an empty answer)") in shown(answer).text
