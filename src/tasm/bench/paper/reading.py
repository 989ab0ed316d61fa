"""The published datasets as rows: from a folder, or from the hub through `datasets`.

`DIR/NAME/` (or `DIR/NAME/SPLIT/`) may hold Parquet files as they lie on the hub, a `.jsonl` with
image paths, or one folder of images a class. Knows nothing of prompts.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasm.bench.paper.benchmarks import Benchmark
from tasm.demonstrations.files import READERS
from tasm.demonstrations.problems import RowProblem, describe
from tasm.errors import InputError

Row = dict[str, Any]

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def read_rows(benchmark: Benchmark, split: str, data: Path | None) -> list[Row]:
    """Return all rows of a split; a picture stays what it is in the file (bytes, a path …).

    Raises:
        InputError: if the dataset is neither in `data` nor can be had from the hub.
    """
    if data is None:
        return _from_hub(benchmark, split)
    folder = data / benchmark.name
    for place in (folder / split, folder):
        rows = list(_from_folder(place, split)) if place.is_dir() else []
        if rows:
            return rows
    raise InputError(
        f"{folder} holds no rows of {benchmark.title}, split {split!r}. Expected Parquet files, a "
        f".jsonl file or one folder of images a class, as in {benchmark.url}."
    )


def _from_hub(benchmark: Benchmark, split: str) -> list[Row]:
    way_out = (
        f"Install `datasets` and be online, or put the files of {benchmark.url} into "
        f"DIR/{benchmark.name}/ and give --data DIR."
    )
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            f"{benchmark.title} is not here: `datasets` is missing. {way_out}"
        ) from error
    try:
        found = datasets.load_dataset(benchmark.dataset, split=split)
    except Exception as error:  # the hub's errors have no common class
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{benchmark.title} could not be loaded: {reason}. {way_out}") from error
    names = getattr(found.features.get(benchmark.answer_column), "names", None)
    rows = [dict(row) for row in found]
    if names and benchmark.answer == "class":
        for row in rows:
            row[benchmark.answer_column] = names[row[benchmark.answer_column]]
    return rows


def _from_folder(folder: Path, split: str) -> Iterator[Row]:
    tables = sorted(folder.glob("*.parquet"))
    of_split = [file for file in tables if file.name.startswith(f"{split}-")]
    lists = sorted(folder.glob("*.jsonl"))
    for file in (*(of_split or tables), *lists):
        for origin, row in READERS[file.suffix](file):
            if not isinstance(row, dict):
                if not isinstance(row, RowProblem):
                    row = RowProblem("", describe(row), "one JSON object a line")
                raise InputError(f"{origin}, {row}.")
            yield {**row, "__folder__": folder} if file in lists else row
    if tables or lists:
        return
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        for picture in sorted(place.iterdir()):
            if picture.suffix.lower() in _PICTURES:
                yield {"image": picture, "label": place.name.replace("_", " ")}
