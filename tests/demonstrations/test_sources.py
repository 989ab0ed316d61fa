"""Rows come from files, folders, lists and datasets; a file that is damaged is refused."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from tasm.demonstrations import read_demonstrations, read_queries
from tasm.errors import DemonstrationError

ROWS = [
    {"image": "wren.png", "question": "Which bird?", "answer": "wren"},
    {"image": "robin.jpg", "question": "Which bird?", "answer": "robin"},
]


def answers(source, **options) -> list[tuple[str, str]]:
    read = read_demonstrations(source, **options)
    return [(one.pictures[0].path.name, one.answer) for one in read]


EXPECTED = [("wren.png", "wren"), ("robin.jpg", "robin")]


def test_json_lines_with_empty_lines_and_bom(folder: Path) -> None:
    text = "\ufeff" + "\r\n\n".join(json.dumps(row) for row in ROWS) + "\n\n"
    (folder / "a.jsonl").write_bytes(text.encode())
    assert answers(folder / "a.jsonl") == EXPECTED


def test_line_separators_inside_a_string_do_not_end_a_row(folder: Path) -> None:
    row = json.dumps({"question": "a\u2028b\x85c", "answer": "x"}, ensure_ascii=False)
    (folder / "a.jsonl").write_text(row, encoding="utf-8")
    (one,) = read_demonstrations(folder / "a.jsonl")
    assert one.question == "a\u2028b\x85c"


def test_json(folder: Path) -> None:
    (folder / "a.JSON").write_text(json.dumps(ROWS))
    assert answers(folder / "a.JSON") == EXPECTED


def test_csv(folder: Path) -> None:
    (folder / "a.csv").write_text(
        "image,question,answer\nwren.png,Which bird?,wren\n\nrobin.jpg,Which bird?,robin\n"
    )
    assert answers(folder / "a.csv") == EXPECTED


def test_csv_with_several_images_and_lines_in_a_cell(folder: Path) -> None:
    (folder / "a.csv").write_text(
        "id,images,question,answer\n"
        '1,wren.png; crow.png,"One,\ntwo?",wren\n'
        '2,"[""crow.png"", ""wren.png""]",Which?,crow\n'
        "3,,No picture?,right\n"
    )
    read = read_demonstrations(folder / "a.csv")
    names = [[picture.path.name for picture in one.pictures] for one in read]
    assert names == [["wren.png", "crow.png"], ["crow.png", "wren.png"], []]
    assert read[0].question == "<image><image>One,\ntwo?"
    assert [one.origin.rpartition(", ")[2] for one in read] == ["line 2", "line 4", "line 5"]


def test_csv_queries_with_accepted_answers(folder: Path) -> None:
    (folder / "a.csv").write_text('question,answer\nA?,"[""x"", ""y""]"\nB?,[x]\nC?,\n')
    read = read_queries(folder / "a.csv")
    assert [query.answers for query in read] == [("x", "y"), ("[x]",), ()]


def test_parquet(folder: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    picture = {"bytes": (folder / "crow.png").read_bytes(), "path": None}
    by_path = {"bytes": None, "path": "wren.png"}
    rows = [
        {"images": [by_path, picture], "question": "Which?", "answer": "wren"},
        {"images": [], "question": "And?", "answer": "none"},
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "a.parquet")
    first, second = read_demonstrations(folder / "a.parquet")
    assert [picture.load().getpixel((0, 0)) for picture in first.pictures] == [
        (255, 0, 0),
        (0, 0, 0),
    ]
    assert second.pictures == ()
    assert second.origin == f"{folder / 'a.parquet'}, row 2"


def test_damaged_parquet(folder: Path) -> None:
    pytest.importorskip("pyarrow")
    (folder / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DemonstrationError, match=r"a\.parquet: found a file that is no Parquet"):
        read_demonstrations(folder / "a.parquet")


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
def test_folder_with_metadata(folder: Path, name: str) -> None:
    rows = [
        {"file_name": row["image"], "question": row["question"], "answer": row["answer"]}
        for row in ROWS
    ]
    if name.endswith("csv"):
        lines = ["file_name,question,answer", *(",".join(row.values()) for row in rows)]
    else:
        lines = [json.dumps(row) for row in rows]
    (folder / name).write_text("\n".join(lines))
    assert answers(folder) == EXPECTED
    assert answers(folder / name) == EXPECTED


def test_metadata_without_questions_takes_the_given_one(folder: Path) -> None:
    (folder / "metadata.csv").write_text("file_name,answer\nwren.png,wren\nrobin.jpg,robin\n")
    assert answers(folder, question="Which bird?") == EXPECTED
    with pytest.raises(DemonstrationError, match=r"2 of 2 rows.*\n.*field 'question'"):
        read_demonstrations(folder)


def test_metadata_must_name_the_pictures(folder: Path) -> None:
    (folder / "metadata.jsonl").write_text(json.dumps({"question": "Which?", "answer": "wren"}))
    with pytest.raises(DemonstrationError, match=r"metadata\.jsonl, line 1, field 'file_name'"):
        read_demonstrations(folder)


def class_folders(root: Path) -> Path:
    for name, colours in {"wren": ["red", "green"], "crow": ["black"]}.items():
        (root / name).mkdir(parents=True)
        for place, colour in enumerate(colours):
            Image.new("RGB", (4, 4), colour).save(root / name / f"{place}.PNG")
    (root / ".cache").mkdir()
    (root / "wren" / "notes.txt").write_text("not a picture")
    (root / "wren" / ".hidden.png").write_text("not a picture")
    return root


def test_class_folders(tmp_path: Path) -> None:
    read = read_demonstrations(class_folders(tmp_path / "birds"), question="Which bird?")
    assert [(one.question, one.answer) for one in read] == [
        ("<image>Which bird?", "crow"),
        ("<image>Which bird?", "wren"),
        ("<image>Which bird?", "wren"),
    ]
    assert read[2].pictures[0].path == tmp_path / "birds" / "wren" / "1.PNG"


def test_a_relative_folder_of_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_folders(tmp_path / "birds")
    monkeypatch.chdir(tmp_path)
    assert len(read_demonstrations("birds", question="Which bird?")) == 3


def test_class_folders_need_a_question(tmp_path: Path) -> None:
    with pytest.raises(DemonstrationError, match=r"\(crow, …\) and no question.*--question"):
        read_demonstrations(class_folders(tmp_path))


def test_a_class_without_pictures(tmp_path: Path) -> None:
    (class_folders(tmp_path) / "robin").mkdir()
    with pytest.raises(DemonstrationError, match="robin, found no picture in this class"):
        read_demonstrations(tmp_path, question="Which bird?")


def test_a_folder_in_no_layout(folder: Path) -> None:
    with pytest.raises(DemonstrationError, match=r"neither metadata\.jsonl nor metadata\.csv"):
        read_demonstrations(folder)


def test_a_folder_beside_a_file_of_rows_names_the_file(tmp_path: Path) -> None:
    class_folders(tmp_path)
    (tmp_path / "demonstrations.jsonl").touch()
    with pytest.raises(DemonstrationError, match=r"Did you mean the file .*demonstrations\.jsonl"):
        read_demonstrations(tmp_path)


def test_a_memory_is_no_folder_of_classes(tmp_path: Path) -> None:
    class_folders(tmp_path)
    (tmp_path / "memory.json").touch()
    with pytest.raises(DemonstrationError, match="is a task memory already"):
        read_demonstrations(tmp_path, question="Which bird?")


def test_a_folder_with_both_metadata_files(folder: Path) -> None:
    for name in ("metadata.jsonl", "metadata.csv"):
        (folder / name).write_text("")
    with pytest.raises(DemonstrationError, match="expected one of them"):
        read_demonstrations(folder)


def test_a_list(folder: Path) -> None:
    image = Image.open(folder / "wren.png")
    picture = {"bytes": (folder / "wren.png").read_bytes(), "path": None}
    given = [image, str(folder / "wren.png"), folder / "wren.png", picture["bytes"], picture]
    rows = [
        {"images": [one], "question": f"{place}?", "answer": "wren"}
        for place, one in enumerate(given)
    ]
    read = read_demonstrations(iter(rows))
    assert len({one.pictures[0].sha256 for one in read}) == 1
    assert read[4].origin == "demonstrations[4]"


def test_demonstrations_and_queries_pass_through() -> None:
    row = {"question": "Which?", "answer": "wren"}
    demonstrations, queries = read_demonstrations([row]), read_queries([row])
    assert read_demonstrations(demonstrations) == demonstrations
    assert read_queries(queries) == queries


def test_a_dataset(folder: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "question": datasets.Value("string"),
            "answer": datasets.ClassLabel(names=["wren", "robin"]),
        }
    )
    columns = {
        "image": [str(folder / "wren.png"), str(folder / "robin.jpg")],
        "question": ["Which bird?", None],
        "answer": [0, 1],
    }
    dataset = datasets.Dataset.from_dict(columns, features=features)
    read = read_demonstrations(dataset, question="What is it?")
    assert [one.answer for one in read] == ["wren", "robin"]
    assert [one.question for one in read] == ["<image>Which bird?", "<image>What is it?"]
    from_file = read_demonstrations(
        [{"image": folder / "wren.png", "question": "Which bird?", "answer": "wren"}]
    )
    assert read[0].content_hash == from_file[0].content_hash


def test_a_dataset_with_lists_of_pictures(folder: Path) -> None:
    datasets = pytest.importorskip("datasets")
    with Image.open(folder / "wren.png") as wren, Image.open(folder / "crow.png") as crow:
        dataset = datasets.Dataset.from_dict(
            {"images": [[wren, crow], []], "question": ["A?", "B?"], "answer": ["x", "y"]},
            features=datasets.Features(
                {
                    "images": datasets.Sequence(datasets.Image()),
                    "question": datasets.Value("string"),
                    "answer": datasets.Value("string"),
                }
            ),
        )
    first, second = read_demonstrations(dataset)
    assert [picture.load().getpixel((0, 0)) for picture in first.pictures] == [
        (255, 0, 0),
        (0, 0, 0),
    ]
    assert second.pictures == ()


def test_a_dataset_with_splits_is_refused() -> None:
    datasets = pytest.importorskip("datasets")
    split = datasets.Dataset.from_dict({"question": ["A?"], "answer": ["x"]})
    with pytest.raises(DemonstrationError, match="choose one of its splits"):
        read_demonstrations(datasets.DatasetDict({"train": split}))


@pytest.mark.parametrize("given", [3, None, b"bytes", 2.5, object()])
def test_what_is_no_source(given: object) -> None:
    with pytest.raises(DemonstrationError, match=r"Demonstrations: found .*; expected "):
        read_demonstrations(given)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", b"{}", "found an empty object; expected a list"),
        ("a.json", b"[1,", "found no JSON"),
        ("a.json", b"[" * 100_000, "too deeply nested"),
        ("a.jsonl", b'{"question": "a"', "line 1, found no JSON"),
        ("a.jsonl", b'{"answer": "a", "answer": "b"}', "'answer' appears twice"),
        ("a.jsonl", b'{"id": ' + b"1" * 5000 + b"}", "line 1, found no JSON"),
        ("a.jsonl", b'\n{"question": "\xff"}', "line 2: found the byte 0xff"),
        ("a.jsonl", '{"question": "Q?"}'.encode("utf-16"), "not UTF-8"),
        ("a.jsonl", b"", "found no rows to use"),
        ("a.json", b"", "found no rows to use"),
        ("a.json", b"[]", "found no rows to use"),
        ("a.csv", b"", "found no rows to use"),
        ("a.csv", b"question,answer\n", "found no rows to use"),
        ("a.csv", b"question,answer\nA?\n", "line 2, found 1 cells; expected 2"),
        ("a.csv", b"question,answer\nA?,x,y\n", "line 2, found 3 cells; expected 2"),
        ("a.csv", b'question,answer\n"A?,x\n', "found no CSV"),
        ("a.csv", b"question,question\nA?,x\n", "'question' appears twice"),
        ("a.csv", b"question;answer\nA?;x\n", "separated by commas"),
        ("a.csv", b"question,label\nA?,x\n", "field 'answer': found no such field"),
        ("a.txt", b"", "ends in '.txt'; expected one of .jsonl, .json, .csv, .parquet"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DemonstrationError) as raised:
        read_demonstrations(tmp_path / name)
    assert str(raised.value).startswith(str(tmp_path / name))
    assert said in str(raised.value)
    assert raised.value.exit_code == 2


def test_a_missing_file_with_a_hint(folder: Path, write_rows) -> None:
    write_rows(*ROWS)
    with pytest.raises(
        DemonstrationError, match=r"'.*bird\.jsonl'\. Did you mean 'birds\.jsonl'\?"
    ):
        read_demonstrations(folder / "bird.jsonl")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_not_waited_for(folder: Path, write_rows) -> None:
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "pipe.jsonl")
    with pytest.raises(DemonstrationError, match=r"pipe\.png: something that is not a plain file"):
        read_demonstrations(write_rows({**ROWS[0], "image": "pipe.png"}))
    with pytest.raises(DemonstrationError, match="expected a plain file"):
        read_demonstrations(folder / "pipe.jsonl")
