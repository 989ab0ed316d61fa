"""What makes a whole set sound: bad rows, duplicates, ids, one system message."""

from pathlib import Path
from typing import Any

import pytest

from tasm.demonstrations import make_query, read_demonstrations, read_queries, shared_system
from tasm.errors import DemonstrationError

GOOD = {"image": "wren.png", "question": "Which?", "answer": "wren"}


def text_rows(count: int) -> list[dict[str, str]]:
    return [{"question": f"{place}?", "answer": "x"} for place in range(count)]


def test_all_bad_rows_are_named(write_rows) -> None:
    path = write_rows(GOOD, {**GOOD, "answer": {}}, GOOD, {**GOOD, "image": "gone.png"})
    with pytest.raises(DemonstrationError) as raised:
        read_demonstrations(path)
    first, *lines = str(raised.value).splitlines()
    assert first.startswith(f"2 of 4 rows of {path} cannot be used.")
    assert [line.strip().split(", field")[0] for line in lines] == [
        f"{path}, line 2",
        f"{path}, line 4",
    ]


def test_many_bad_rows_are_counted(write_rows) -> None:
    path = write_rows(*[{"question": "Which?", "answer": [{}] * place} for place in range(14)])
    with pytest.raises(DemonstrationError) as raised:
        read_demonstrations(path)
    lines = str(raised.value).splitlines()
    assert len(lines) == 12
    assert lines[-1].strip() == "… and 4 more"


def test_bad_rows_can_be_left_out_and_are_all_listed(write_rows) -> None:
    said: list[str] = []
    bad = [{"question": "Which?", "answer": [{}] * place} for place in range(14)]
    read = read_demonstrations(
        write_rows(GOOD, *bad, "no JSON"), skip_bad_rows=True, warn=said.append
    )
    assert [one.answer for one in read] == ["wren"]
    (message,) = said
    assert message.startswith("15 of 16 rows of ")
    assert len(message.splitlines()) == 16


def test_nothing_left_is_refused(write_rows) -> None:
    with pytest.raises(DemonstrationError, match="found no rows to use"):
        read_demonstrations(write_rows("no JSON"), skip_bad_rows=True, warn=lambda message: None)
    with pytest.raises(DemonstrationError, match="found no rows to use"):
        read_queries([])


def test_duplicates_are_left_out_with_a_warning(write_rows, folder: Path) -> None:
    (folder / "copy.png").write_bytes((folder / "wren.png").read_bytes())
    said: list[str] = []
    rows = [{**GOOD, "id": "a"}, *text_rows(1), {**GOOD, "image": "copy.png", "id": "b"}]
    read = read_demonstrations(write_rows(*rows), warn=said.append)
    assert [one.id for one in read] == ["a", read[1].content_hash[:16]]
    (message,) = said
    assert "line 3 is the same as" in message and message.endswith("line 1")


def test_by_default_warnings_are_pythons() -> None:
    with pytest.warns(UserWarning, match="left out as duplicates"):
        read_demonstrations([*text_rows(1), *text_rows(1)])


def test_another_answer_is_no_duplicate(write_rows) -> None:
    said: list[str] = []
    rows = write_rows(GOOD, {**GOOD, "answer": "crow"})
    assert len(read_demonstrations(rows, warn=said.append)) == 2
    assert not any("duplicate" in sentence for sentence in said)


def test_two_rows_with_one_id(write_rows) -> None:
    rows = [{**row, "id": "same"} for row in text_rows(2)]
    path = write_rows(*rows)
    with pytest.raises(DemonstrationError, match=r"line 2, field 'id': found 'same'.* line 1 has"):
        read_demonstrations(path)
    with pytest.raises(DemonstrationError, match=r"line 2, field 'id'"):
        read_queries(path)


def test_repeated_queries_all_stay() -> None:
    read = read_queries([*text_rows(1), {**text_rows(1)[0], "answer": "y"}, *text_rows(2)])
    first = read[0].id
    assert [query.id for query in read[:3]] == [first, f"{first}-2", f"{first}-3"]
    assert [query.answers for query in read] == [("x",), ("y",), ("x",), ("x",)]


def test_progress_is_told(write_rows) -> None:
    said: list[tuple[str, int, int]] = []
    read_demonstrations(
        write_rows(*text_rows(3)),
        progress=lambda stage, done, total: said.append((stage, done, total)),
    )
    assert said == [("Reading", 1, 3), ("Reading", 2, 3), ("Reading", 3, 3)]


def test_reading_twice_gives_the_same(write_rows) -> None:
    path = write_rows(GOOD, *text_rows(5))
    assert read_demonstrations(path) == read_demonstrations(path)


def chat(system: str | None, question: str) -> dict:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": "x"}]
    return {"messages": [{"role": "system", "content": system}] * (system is not None) + messages}


def test_one_system_message_for_all() -> None:
    assert shared_system([]) is None
    assert shared_system(read_demonstrations(text_rows(3))) is None
    same = read_demonstrations([chat("Birds.", "A?"), chat("Birds.", "B?")])
    assert shared_system(same) == "Birds."
    for other in ("Fish.", None):
        mixed = read_demonstrations([chat("Birds.", "A?"), chat(other, "B?")])
        with pytest.raises(DemonstrationError, match="different system messages"):
            shared_system(mixed)


def test_make_query(folder: Path) -> None:
    query = make_query("Is <image> as <image>?", [folder / "wren.png", str(folder / "crow.png")])
    assert query.question == "Is <image> as <image>?"
    assert [picture.path.name for picture in query.pictures] == ["wren.png", "crow.png"]
    assert query.answers == ()
    assert make_query("Which?", folder / "wren.png").question == "<image>Which?"
    assert make_query("Which?").pictures == ()


@pytest.mark.parametrize(
    ("question", "images", "said"),
    [
        ("", [], "field 'question': found the string ''"),
        ("Which?", ["gone.png"], r"field 'images\[0\]': found gone\.png: no such file"),
        (
            "<image>?",
            [],
            "field 'question': found 1 × <image> and no picture; expected one <image> for each",
        ),
        ("<image>?", ["wren.png"] * 3, "field 'question': found 1 × <image> and 3 pictures; exp"),
        ("<image> <image>", ["wren.png"], "field 'question': found 2 × <image> and 1 picture; exp"),
        ("<image>", ["wren.png"], "field 'question': found nothing but <image>; expected text"),
    ],
)
def test_make_query_refuses(
    folder: Path, question: str, images: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(DemonstrationError, match=f"^Query, {said}"):
        make_query(question, images)


def told(*rows: Any) -> list[str]:
    said: list[str] = []
    read_demonstrations(list(rows), warn=said.append)
    return said


def test_contradictions_are_named_with_both_rows(write_rows) -> None:
    said: list[str] = []
    rows = write_rows(GOOD, *text_rows(3), {**GOOD, "answer": "crow"}, {**GOOD, "answer": "Wren."})
    assert len(read_demonstrations(rows, warn=said.append)) == 6
    (sentence,) = said
    first, pair = sentence.splitlines()
    assert first.startswith("1 of 6 demonstrations contradict another")
    assert f"{rows}, line 5 answers 'crow'" in pair and f"{rows}, line 1 answers 'wren'" in pair


def test_another_picture_or_question_is_no_contradiction() -> None:
    rows = [{"question": f"{place}?", "answer": f"{place}"} for place in range(12)]
    assert told(*rows) == []


def labels(*counts: int) -> list[dict[str, str]]:
    names = [name for name, count in zip("abc", counts, strict=False) for _ in range(count)]
    return [{"question": f"{place}?", "answer": name} for place, name in enumerate(names)]


@pytest.mark.parametrize(
    ("counts", "warned"),
    [((8, 2), True), ((9, 1), True), ((7, 3), False), ((10,), False), ((8, 1), False)],
)
def test_one_answer_of_most_is_warned_of(counts: tuple[int, ...], warned: bool) -> None:
    said = told(*labels(*counts))
    assert len(said) == warned
    for sentence in said:
        assert sentence.startswith(f"{counts[0]} of 10 demonstrations have the answer 'a'")


def test_queries_are_asked_as_they_are() -> None:
    said: list[str] = []
    rows = [{"question": "A?", "answer": "x"}] * 9 + [{"question": "A?", "answer": "y"}]
    assert len(read_queries(rows, warn=said.append)) == 10
    assert said == []
