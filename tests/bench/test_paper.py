"""The published benchmarks on small files in the datasets' own schemas."""

import base64
import io
import json

import pytest
from PIL import Image

from tasm.bench.paper.benchmarks import BENCHMARKS, find_benchmark
from tasm.bench.paper.items import item
from tasm.bench.paper.protocol import DEPTHS, PaperData, measure
from tasm.bench.paper.published import TABLES, Line
from tasm.bench.paper.reading import read_rows
from tasm.bench.paper.tables import reprint
from tasm.compress.recipes.table import find_recipe
from tasm.errors import InputError


def png(colour="red", size=(40, 20)):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


# One row of each dataset with the columns and types that its page on the hub lists.
ROWS = {
    "imagenet-100": {"image": {"bytes": png(), "path": "a.png"}, "label": "house finch"},
    "screenspot": {
        "file_name": "a.png",
        "bbox": [0.25, 0.5, 0.75, 1.0],
        "instruction": "close the window",
        "data_type": "icon",
        "data_source": "macos",
        "image": {"bytes": png(), "path": None},
    },
    "mme-realworld-lite": {
        "index": "7",
        "bytes": base64.b64encode(png()).decode(),
        "question": "What colour is the car?",
        "multi-choice options": ["(A) red", "(B) blue", "(C) green", "(D) white", "(E) unclear"],
        "answer": "B",
        "category": "Perception/Monitoring",
        "l2-category": "color",
    },
    "illusionvqa": {
        "image": {"bytes": png(), "path": None},
        "question": "Which object is impossible?",
        "options": ["Left", "Right", "Both", "Neither"],
        "answer": "Right",
    },
    "ok-vqa": {
        "question_id": "1",
        "image": {"bytes": png(), "path": None},
        "question": "What sport is this?",
        "answers": ["race", "racing", "racing", "sport"],
        "question_type": "four",
        "answer_type": "other",
    },
    "refcocog": {
        "question_id": "1",
        "image": {"bytes": png(), "path": None},
        "question": "Provide a short description for this region.",
        "answer": ["the man in the blue shirt", "man"],
        "bbox": [10.0, 5.0, 20.0, 10.0],
        "file_name": "a.jpg",
        "iscrowd": 0,
    },
    "v-niah": {
        "image": {"bytes": png(), "path": None},
        "question": "What animal sits on the sofa?",
        "answer": "a cat",
    },
}

WANTED = {
    "imagenet-100": ("house finch.", ("house finch",)),
    "screenspot": ("[0.25, 0.50, 0.75, 1.00]", ("[0.250000, 0.500000, 0.750000, 1.000000]",)),
    "mme-realworld-lite": ("B", ("B",)),
    "illusionvqa": ("B", ("B",)),
    "ok-vqa": ("racing", ("race", "racing", "racing", "sport")),
    # 40 x 20 pixels: corner (10, 5), size (20, 10)
    "refcocog": ("[0.25, 0.25, 0.75, 0.75]", ("[0.250000, 0.250000, 0.750000, 0.750000]",)),
    "v-niah": ("a cat", ("a cat",)),
}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_row_becomes_prompt_answer_and_picture(name):
    benchmark = find_benchmark(name)
    made = item(benchmark, ROWS[name])
    assert (made.answer, made.accepted) == WANTED[name]
    assert made.picture().size == (benchmark.side, benchmark.side)
    shown = made.demonstration(0)
    assert shown.answer == made.answer and len(shown.pictures) == 1
    assert "{" not in shown.question


def test_prompts_hold_what_is_asked():
    def question(name):
        return item(find_benchmark(name), ROWS[name]).question

    assert "close the window" in question("screenspot")
    assert "(A) red\n(B) blue" in question("mme-realworld-lite")
    assert "(A) Left\n(B) Right" in question("illusionvqa")
    assert "the man in the blue shirt" in question("refcocog")


def test_a_row_without_its_columns_is_named():
    with pytest.raises(InputError, match="'bbox' among them"):
        item(find_benchmark("screenspot"), {"image": png(), "instruction": "x"})


def write_parquet(folder, name, rows):
    import pyarrow
    import pyarrow.parquet

    folder.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / name)


@pytest.fixture
def screenspot(tmp_path):
    pytest.importorskip("pyarrow")
    rows = [{**ROWS["screenspot"], "instruction": f"press button {n}"} for n in range(60)]
    for number, row in enumerate(rows):
        row["image"] = {"bytes": png("red", (40 + number, 20)), "path": None}
    write_parquet(tmp_path / "screenspot", "test-00000-of-00001.parquet", rows)
    return tmp_path


def test_parquet_as_on_the_hub(screenspot):
    data = PaperData(find_benchmark("screenspot"), screenspot, limit=4)
    (episode,) = data.episodes("few")
    assert len(episode.demonstrations) == 5 and len(episode.items) == 4
    asked = {one.question for one in data.tested}
    assert not asked & {shown.question for shown in episode.demonstrations}
    again = next(PaperData(find_benchmark("screenspot"), screenspot).episodes("few"))
    assert [d.content_hash for d in again.demonstrations] == [
        d.content_hash for d in episode.demonstrations
    ]


def test_class_folders(tmp_path):
    for split, count in (("train", 3), ("validation", 2)):
        for label in ("house_finch", "robin"):
            folder = tmp_path / "imagenet-100" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number}.png").write_bytes(png(size=(40, 20 + number)))
    data = PaperData(find_benchmark("imagenet-100"), tmp_path)
    (episode,) = data.episodes("4")
    answers = [shown.answer for shown in episode.demonstrations]
    assert sorted(answers) == ["house finch.", "house finch.", "robin.", "robin."]
    assert len(episode.items) == 4


def test_jsonl_with_image_paths(tmp_path):
    folder = tmp_path / "illusionvqa"
    folder.mkdir()
    (folder / "a.png").write_bytes(png())
    row = {**ROWS["illusionvqa"], "image": "a.png"}
    (folder / "test.jsonl").write_text(json.dumps(row) + "\n")
    (found,) = read_rows(find_benchmark("illusionvqa"), "test", tmp_path)
    assert item(find_benchmark("illusionvqa"), found).picture().size == (448, 448)


def test_missing_data_says_where_to_get_it(tmp_path):
    with pytest.raises(InputError, match=r"rootsautomation/ScreenSpot"):
        read_rows(find_benchmark("screenspot"), "test", tmp_path)


def test_a_needle_is_put_at_every_depth(tmp_path):
    folder = tmp_path / "v-niah"
    (folder / "haystack").mkdir(parents=True)
    for number in range(4):
        (folder / "haystack" / f"{number}.png").write_bytes(png("blue", (40, 20 + number)))
    (folder / "needle.png").write_bytes(png("red"))
    row = {**ROWS["v-niah"], "image": "needle.png"}
    (folder / "test.jsonl").write_text(json.dumps(row) + "\n")
    data = PaperData(find_benchmark("v-niah"), tmp_path)
    episodes = list(data.episodes("5"))
    places = []
    for episode in episodes:
        reds = [d.pictures[0].load().getpixel((0, 0))[0] > 200 for d in episode.demonstrations]
        places.append(reds.index(True))
    assert places == [round(depth * 4) for depth in DEPTHS] == [0, 1, 2, 3, 4]
    with pytest.raises(InputError, match="of hay"):
        list(data.episodes("50"))


def test_a_table_is_measured_beside_its_figures(screenspot, backbone):
    found = reprint(5, backbone, data=screenspot, benchmarks=["screenspot"], limit=2)
    document = found.to_json()
    assert (document["table"], len(document["rows"])) == (5, len(TABLES[5].lines))
    by_label = {row["label"]: row["figures"][0] for row in document["rows"]}
    assert by_label["full context"]["printed"] == 19.8
    assert 0 <= by_label["full context"]["measured"] <= 100
    for line in TABLES[5].lines:
        figure = by_label[line.label]
        assert figure["measured"] is not None or figure["reason"]
    assert "19.8 / " in found.to_markdown()


def test_scores_are_the_metric_of_the_answers(screenspot, backbone, monkeypatch):
    from tasm.bench.paper import protocol

    right = ["[0.25, 0.50, 0.75, 1.00]", "nothing"]
    monkeypatch.setattr(protocol, "_answers", lambda *_: iter(right))
    data = PaperData(find_benchmark("screenspot"), screenspot, limit=2)
    assert measure(backbone, data, Line("any", {}, "full", demonstrations="few")).mean == 0.5


def test_tables_name_known_benchmarks_and_printed_means():
    for table in TABLES.values():
        for line in table.lines:
            assert set(line.values) == set(table.benchmarks)
            assert all(value is None or 0 < value < 100 for value in line.values.values())
    assert find_recipe("tasm-paper").name == "tasm-paper"
