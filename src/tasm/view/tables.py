"""Tables and bars as plain values, for the templates. Knows neither HTML nor what is measured."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """One cell: what is read, and what a page may add to it.

    `order` is what the column is sorted by (None: last), `interval` the ends of a bar from 0 to 1
    with a tick at `order`, `best` marks the best of a column, `chip` is a number from 0 that is
    shown in its colour, `below` stands small under the text.
    """

    text: str
    order: float | str | None = None
    best: bool = False
    interval: tuple[float, float] | None = None
    chip: int | None = None
    below: str = ""


@dataclass(frozen=True)
class Column:
    """A column: figures are aligned to the right; `sorted` says that the rows stand by it."""

    name: str
    figures: bool = False
    sorted: bool = False


@dataclass(frozen=True)
class Row:
    """The cells of a row; a `reference` is there to be compared with and stands back."""

    cells: tuple[Cell, ...]
    reference: bool = False


@dataclass(frozen=True)
class Table:
    """A table; `name` is read out to those who do not see it."""

    name: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    sortable: bool = False

    @classmethod
    def of(
        cls,
        name: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[object]],
        figures: Sequence[str] = (),
    ) -> "Table":
        """A table of texts; columns named in `figures` are aligned to the right.

        ```python
        >>> Table.of("Layers", ["layer", "tokens"], [[0, 12]], ["tokens"]).rows[0].cells[1].text
        '12'
        ```
        """
        return cls(
            name,
            tuple(Column(column, column in figures) for column in columns),
            tuple(Row(tuple(Cell(str(value)) for value in row)) for row in rows),
        )


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table in Markdown.

    ```python
    >>> markdown(["layer", "tokens"], [["0", "12"]])
    ['| layer | tokens |', '|---|---|', '| 0 | 12 |']
    ```
    """
    head, *body = ("| " + " | ".join(cells) + " |" for cells in (columns, *rows))
    return [head, "|---" * len(columns) + "|", *body]


@dataclass(frozen=True)
class Bar:
    """One horizontal bar: its name, its parts as (value, kind), what is written after it.

    Kinds are "core", "bank", "rest" and "accent".
    """

    name: str
    parts: tuple[tuple[float, str], ...]
    label: str


@dataclass(frozen=True)
class BarChart:
    """Bars under a title; `largest` is the value of a bar as long as the chart is wide."""

    title: str
    bars: tuple[Bar, ...]
    largest: float

    @classmethod
    def of(cls, title: str, bars: Sequence[Bar], largest: float | None = None) -> "BarChart":
        """A chart as wide as its longest bar, or as `largest`.

        ```python
        >>> BarChart.of("Bytes", [Bar("core", ((2.0, "core"), (1.0, "bank")), "3")]).largest
        3.0
        ```
        """
        longest = max((sum(value for value, _ in bar.parts) for bar in bars), default=0.0)
        return cls(title, tuple(bars), (longest if largest is None else largest) or 1.0)
