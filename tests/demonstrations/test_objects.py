"""Rows in Python: whatever holds them, the same demonstrations and queries come out."""

import io
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasm.demonstrations import Query, read_demonstrations, read_queries
from tasm.errors import DemonstrationError

pandas = pytest.importorskip("pandas")

ANSWERS = ["red", "green", "blue"]
PIXELS = [np.full((4, 6, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 9, 0), (0, 0, 255))]
ROWS = [
    {"image": pixels, "question": "Which?", "answer": answer}
    for pixels, answer in zip(PIXELS, ANSWERS, strict=True)
]
COLUMNS = {name: [row[name] for row in ROWS] for name in ("image", "question", "answer")}


class Indexed:
    """A data set of torch: rows by number, no iterator."""

    def __len__(self) -> int:
        return len(ROWS)

    def __getitem__(self, place: int) -> dict[str, Any]:
        return ROWS[place]


class Iterated:
    def __iter__(self):
        return iter(ROWS)


def the_same_twice() -> dict[str, Any]:
    read = read_demonstrations(ROWS)
    return {
        "list": ROWS,
        "tuple": tuple(ROWS),
        "generator": (row for row in ROWS),
        "iterator": iter(ROWS),
        "iterable": Iterated(),
        "indexed": Indexed(),
        "columns": COLUMNS,
        "columns of tuples": {name: tuple(values) for name, values in COLUMNS.items()},
        "columns of arrays": {**COLUMNS, "image": np.stack(PIXELS), "answer": np.array(ANSWERS)},
        "columns of series": {**COLUMNS, "answer": pandas.Series(ANSWERS)},
        "DataFrame": pandas.DataFrame(COLUMNS),
        "DataFrame with another index": pandas.DataFrame(COLUMNS, index=[7, 7, 9]),
        "Series of rows": pandas.Series(ROWS),
        "array of rows": np.array(ROWS, dtype=object),
        "demonstrations": read,
        "generator of demonstrations": (one for one in read),
        "mixed": [read[0], *ROWS[1:]],
    }


@pytest.mark.parametrize("kind", the_same_twice())
def test_every_kind_gives_the_same_demonstrations(kind: str) -> None:
    read = read_demonstrations(the_same_twice()[kind])
    assert read == read_demonstrations(ROWS)
    assert [one.answer for one in read] == ANSWERS


@pytest.mark.parametrize("kind", the_same_twice())
def test_every_kind_gives_the_same_queries(kind: str) -> None:
    queries = read_queries(the_same_twice()[kind])
    assert [one.answers for one in queries] == [(answer,) for answer in ANSWERS]
    assert [one.messages for one in queries] == [one.messages for one in read_queries(ROWS)]


def test_queries_stay_as_they_are() -> None:
    queries = read_queries(ROWS)
    assert read_queries(queries) == queries
    assert read_queries(iter(queries)) == queries
    assert read_queries(queries[0]) == queries[:1]
    with pytest.raises(DemonstrationError, match="found a Query, which has no answer of its own"):
        read_demonstrations(queries)


@pytest.mark.parametrize(
    "row",
    [
        ROWS[0],
        {"images": [PIXELS[0]], "question": "Which?", "answer": "red"},
        {"messages": [{"role": "user", "content": "A?"}, {"role": "assistant", "content": "b"}]},
        {"question": "A?", "answer": "b"},
    ],
)
def test_one_row_alone(row: dict[str, Any]) -> None:
    assert read_demonstrations(row) == read_demonstrations([row])


def test_columns_of_pictures_and_of_chats() -> None:
    chat = [{"role": "user", "content": "A?"}, {"role": "assistant", "content": "b"}]
    assert len(read_demonstrations({"messages": [chat]})) == 1
    columns = {"images": [PIXELS[:2], [PIXELS[2]]], "answer": ["two", "one"]}
    read = read_demonstrations(columns, question="How many?")
    assert [len(one.pictures) for one in read] == [2, 1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"question": ["A?", "B?"], "answer": ["x"]}, "columns of different lengths"),
        ({"train": ROWS, "test": ROWS}, "lists of rows under the names 'train', 'test'"),
        (np.zeros((4, 4, 3), np.uint8), "Demonstrations: found"),
        (b"x", "Demonstrations: found bytes"),
        (io.BytesIO(b"x"), "Demonstrations: found a BytesIO"),
        (7, "Demonstrations: found a number"),
        ("", "found an empty path"),
        ("  ", "found an empty path"),
        ("https://a.org/birds.jsonl", "Nothing is fetched from a network"),
        ("hf://datasets/a/b", "Nothing is fetched from a network"),
        ("file://server/share/a.jsonl", "fetched from a network"),
        ("\\\\server\\share\\a.jsonl", "fetched from a network"),
        ("a\0b", "a NUL character"),
        ("a" * 5000, "cannot be read"),
        (["birds.jsonl"], "found the string 'birds.jsonl'"),
        ([(PIXELS[0], "red")], "found a list; expected an object"),
    ],
)
def test_what_holds_no_rows(given: Any, said: str) -> None:
    for read in (read_demonstrations, read_queries):
        with pytest.raises(DemonstrationError) as raised:
            read(given)
        assert said in str(raised.value)


def test_a_data_frame_with_gaps() -> None:
    frame = pandas.DataFrame(
        {"question": ["A?", "B?", "C?"], "answer": [1, None, 3], "image": [None, None, None]}
    )
    assert [one.answers for one in read_queries(frame)] == [("1",), (), ("3",)]
    twice = pandas.DataFrame([["A?", "x", "y"]], columns=["question", "answer", "answer"])
    with pytest.raises(DemonstrationError, match="column 'answer' appears twice"):
        read_queries(twice)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (3.0, "3"),
        (2.5, "2.5"),
        (-1, "-1"),
        (True, "true"),
        (False, "false"),
        (np.int64(3), "3"),
        (np.float32(0.1), "0.1"),
        (np.float64(3.0), "3"),
        (np.bool_(True), "true"),
        (np.str_("wren"), "wren"),
        (np.array(4), "4"),
        (Decimal("1.50"), "1.50"),
        (10**20, "1" + "0" * 20),
    ],
)
def test_numbers_are_answers(value: Any, text: str) -> None:
    (one,) = read_demonstrations([{"question": "How many?", "answer": value}])
    assert one.answer == text
    (query,) = read_queries([{"question": "How many?", "answer": [value, "or"]}])
    assert query.answers == (text, "or")


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), np.float32("nan"), 1j, {}, object(), b"x", [10**5000]]
)
def test_what_is_no_answer(value: Any) -> None:
    with pytest.raises(DemonstrationError, match=r"demonstrations\[0\], field 'answer': found"):
        read_demonstrations([{"question": "How many?", "answer": value}])


def of_picture(value: Any) -> Image.Image:
    (query,) = read_queries([{"image": value, "question": "Which?"}])
    return query.pictures[0].load()


GREY = np.arange(48, dtype=np.uint8).reshape(8, 6)
COLOURED = np.arange(144, dtype=np.uint8).reshape(8, 6, 3)
CLEAR = np.dstack([COLOURED, np.zeros((8, 6), np.uint8)])


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (GREY, np.dstack([GREY] * 3)),
        (GREY[:, :, None], np.dstack([GREY] * 3)),
        (COLOURED, COLOURED),
        (COLOURED.transpose(2, 0, 1), COLOURED),
        (COLOURED[::-1], COLOURED[::-1]),
        (CLEAR, np.full((8, 6, 3), 255)),
        (GREY.astype(np.uint16) * 257, np.dstack([GREY] * 3)),
    ],
)
def test_arrays_are_pictures(array: np.ndarray, expected: np.ndarray) -> None:
    assert np.array_equal(np.asarray(of_picture(array)), expected)


def test_tensors_are_pictures() -> None:
    torch = pytest.importorskip("torch")
    for tensor in (torch.from_numpy(COLOURED), torch.from_numpy(COLOURED).permute(2, 0, 1)):
        assert np.array_equal(np.asarray(of_picture(tensor)), COLOURED)
    for other in (torch.rand(3, 8, 6), torch.rand(3, 8, 6).bfloat16(), torch.ones(3, 8, 6).long()):
        with pytest.raises(DemonstrationError, match=r"field 'image': found an array of .*uint8"):
            of_picture(other)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((4, 6, 3)), "float64, 4 × 6 × 3; expected uint8"),
        (np.zeros((4, 6, 3), np.float32), "(array * 255).round()"),
        (np.zeros((4, 6, 3), np.int64), "int64"),
        (np.zeros((4, 6), bool), "bool"),
        (np.zeros((4, 6, 2), np.uint8), "4 × 6 × 2"),
        (np.zeros((2, 4, 6, 3), np.uint8), "2 × 4 × 6 × 3"),
        (np.zeros((3, 6, 3), np.uint8), "channels at one end only"),
        (np.zeros((0, 6, 3), np.uint8), "at least one pixel"),
        (np.array(3, np.uint8), "no size"),
        (np.zeros((4, 6, 3), np.uint16), "uint16"),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray, said: str) -> None:
    with pytest.raises(DemonstrationError) as raised:
        of_picture(array)
    assert str(raised.value).startswith("demonstrations[0], field 'image': found an array of ")
    assert said in str(raised.value)


def test_files_and_bytes_are_pictures(tmp_path: Path) -> None:
    Image.fromarray(COLOURED).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    with (tmp_path / "a.png").open("rb") as file:
        for value in (content, bytearray(content), memoryview(content), io.BytesIO(content), file):
            assert np.array_equal(np.asarray(of_picture(value)), COLOURED)
    with pytest.raises(DemonstrationError, match="field 'image': found a file that cannot be read"):
        of_picture(file)  # closed by now
    with pytest.raises(DemonstrationError, match='expected a file opened with mode "rb"'):
        of_picture(io.StringIO("x"))


def test_a_picture_that_pillow_opened_and_cannot_decode(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:3000])
    half = Image.open(tmp_path / "a.png")
    with pytest.raises(DemonstrationError, match="field 'image': found a picture in memory: a d"):
        of_picture(half)
    half.close()
    with pytest.raises(DemonstrationError, match="a damaged picture"):
        of_picture(half)


def test_tables_of_arrow() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"question": ["A?", "B?"], "answer": ["x", "y"]})
    assert [one.answer for one in read_demonstrations(table)] == ["x", "y"]
    assert [one.answer for one in read_demonstrations(table.to_batches()[0])] == ["x", "y"]


def labelled(folder: Path) -> Any:
    """A data set with class labels and pictures inside it, and labels of several kinds."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "question": datasets.Value("string"),
            "answer": datasets.ClassLabel(names=["wren", "crow"]),
        }
    )
    columns = {"image": PIXELS[:2], "question": ["Which?"] * 2, "answer": [1, 0]}
    return datasets.Dataset.from_dict(columns, features=features)


def test_a_dataset_in_any_format(tmp_path: Path) -> None:
    dataset = labelled(tmp_path)
    expected = read_demonstrations(dataset)
    assert [one.answer for one in expected] == ["crow", "wren"]
    for name in ("numpy", "pandas", "arrow"):
        assert read_demonstrations(dataset.with_format(name)) == expected
    assert read_demonstrations(dataset.to_iterable_dataset()) == expected


def test_class_labels_in_a_parquet_file_are_names(tmp_path: Path) -> None:
    dataset = labelled(tmp_path)
    dataset.to_parquet(tmp_path / "a.parquet")
    read = read_demonstrations(tmp_path / "a.parquet")
    assert [one.answer for one in read] == ["crow", "wren"]
    assert read == read_demonstrations(dataset)


def test_a_list_of_class_labels(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    label = datasets.ClassLabel(names=["wren", "crow"])
    features = datasets.Features(
        {"question": datasets.Value("string"), "answer": datasets.Sequence(label)}
    )
    dataset = datasets.Dataset.from_dict(
        {"question": ["A?"], "answer": [[1, 0]]}, features=features
    )
    dataset.to_parquet(tmp_path / "a.parquet")
    for source in (dataset, tmp_path / "a.parquet"):
        assert read_queries(source)[0].answers == ("crow", "wren")


def test_a_query_is_made_of_one_picture_of_any_kind() -> None:
    from tasm.demonstrations import make_query

    for images in (COLOURED, [COLOURED], (COLOURED,), iter([COLOURED]), Image.fromarray(COLOURED)):
        query = make_query("Which?", images)
        assert isinstance(query, Query)
        assert np.array_equal(np.asarray(query.pictures[0].load()), COLOURED)
    assert make_query("Which?", None).pictures == ()
