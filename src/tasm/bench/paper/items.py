"""A dataset's row as a demonstration or a query: prompt, answer, picture at the right size."""

import base64
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from PIL import Image

from tasm.bench.paper.benchmarks import Benchmark
from tasm.bench.paper.reading import Row
from tasm.demonstrations import Demonstration, Picture, Query, make_query, read_demonstrations
from tasm.errors import InputError


@dataclass(frozen=True)
class Item:
    """One row of a benchmark: what is asked, what a demonstration answers, what counts as right."""

    benchmark: Benchmark
    row: Row
    question: str
    answer: str
    accepted: tuple[str, ...]

    def picture(self) -> Image.Image:
        """Return the picture, scaled to the benchmark's size."""
        side = self.benchmark.side
        return _image(self.row, self.benchmark).resize((side, side), Image.Resampling.BICUBIC)

    def demonstration(self, number: int) -> Demonstration:
        """Return the row as a demonstration."""
        row = {
            "id": f"{self.benchmark.name}-{number}",
            "images": [self.picture()],
            "question": self.question,
            "answer": self.answer,
        }
        return read_demonstrations([row])[0]

    def query(self) -> Query:
        """Return the row as a query."""
        return make_query(self.question, images=[self.picture()])


def item(benchmark: Benchmark, row: Row) -> Item:
    """Make an item of a row.

    Raises:
        InputError: if the row lacks a column, or its answer is not what the benchmark says.
    """
    for column in (benchmark.image, benchmark.answer_column):
        if column not in row:
            raise InputError(
                f"{benchmark.title}: a row has the columns {', '.join(map(str, row))}; expected "
                f"{column!r} among them, as in {benchmark.url}."
            )
    options = [str(option) for option in row.get(benchmark.options_column) or ()]
    shown = [
        option if _letter_of(option) == letter else f"({letter}) {option}"
        for letter, option in zip(ascii_uppercase, options, strict=False)
    ]
    words = {key: _text(value) for key, value in row.items() if isinstance(key, str)}
    try:
        question = benchmark.question.format(**{**words, "options": "\n".join(shown)})
    except KeyError as error:
        raise InputError(
            f"{benchmark.title}: a row has no column {error}, which its question needs."
        ) from error
    answer, accepted = _answers(benchmark, row, options)
    return Item(benchmark, row, question, answer, accepted)


def _answers(benchmark: Benchmark, row: Row, options: list[str]) -> tuple[str, tuple[str, ...]]:
    value = row[benchmark.answer_column]
    if benchmark.answer == "class":
        return f"{value}.", (str(value),)
    if benchmark.answer == "box":
        text = "[" + ", ".join(f"{number:.2f}" for number in _corners(benchmark, row)) + "]"
        exact = "[" + ", ".join(f"{number:.6f}" for number in _corners(benchmark, row)) + "]"
        return text, (exact,)
    if benchmark.answer == "letter":
        letter = str(value).strip()
        if letter in options:
            letter = ascii_uppercase[options.index(letter)]
        letter = letter.strip("(). ").upper()
        if len(letter) != 1:
            raise InputError(
                f"{benchmark.title}: the answer {value!r} is neither a letter nor one of {options}."
            )
        return letter, (letter,)
    if benchmark.answer == "frequent":
        said = [str(one.get("answer", "") if isinstance(one, dict) else one) for one in value]
        return Counter(said).most_common(1)[0][0], tuple(said)
    return str(value), (str(value),)


def _corners(benchmark: Benchmark, row: Row) -> tuple[float, float, float, float]:
    """The box as corners between 0 and 1."""
    a, b, c, d = (float(number) for number in row[benchmark.answer_column])
    if benchmark.box == "relative corners":
        return a, b, c, d
    width, height = _image(row, benchmark).size
    return a / width, b / height, (a + c) / width, (b + d) / height


def _image(row: Row, benchmark: Benchmark) -> Image.Image:
    """The picture of a row, whatever form the dataset gives it: RGB, upright."""
    value: Any = row[benchmark.image]
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str):
        path = Path(row.get("__folder__", ".")) / value
        value = path if _is_file(path) else base64.b64decode(value)
    if isinstance(value, Image.Image):
        buffer = io.BytesIO()
        value.convert("RGB").save(buffer, "PNG")
        value = buffer.getvalue()
    return Picture(value).load()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a base64 text is too long for a name
        return False


def _letter_of(option: str) -> str | None:
    """The letter that an option begins with: `(A) a wren` and `A. a wren` are A's."""
    head = option.lstrip("( ")
    return head[0].upper() if len(head) > 1 and head[1] in ").:" else None


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], str):
        return value[0]
    return str(value)
