"""How figures and tables look on a terminal. Knows no command."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.table import Table

WIDTH_OF_A_PIPE = 160


def rendered(item: Any, stream: TextIO) -> str:
    """Return what rich would print to the stream; of a list, one below the other.

    What is read by a program is not folded at 80 columns.
    """
    from rich.console import Console

    target = Console(file=stream, width=None if stream.isatty() else WIDTH_OF_A_PIPE)
    with target.capture() as captured:
        for one in item if isinstance(item, list) else [item]:
            target.print(plain(one) if isinstance(one, str) else one, highlight=False)
    return captured.get()


def table(
    columns: Sequence[str],
    rows: Iterable[Iterable[Any]],
    *,
    title: str | None = None,
    right: Sequence[str] = (),
) -> "Table":
    """Return a table of a user's texts, a dash for None; columns in `right` hold figures."""
    from rich import box
    from rich.table import Table

    result = Table(
        title=None if title is None else plain(title),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title_justify="left",
        title_style="bold",
        show_header=any(columns),
    )
    for column in columns:
        result.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        result.add_row(*("–" if cell is None else plain(cell) for cell in row))
    return result


def bytes_text(count: float | None) -> str:
    """Return a number of bytes for people, in powers of ten.

    ```python
    >>> bytes_text(64_000_000)
    '64.0 MB'
    ```
    """
    if count is None:
        return "–"
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def share_text(part: float | None, whole: float | None) -> str:
    """Return a share in per cent: `share_text(20, 100) == "20.0 %"`."""
    if part is None or not whole:
        return "–"
    return f"{100 * part / whole:.1f} %"


def core_text(core: int, full: int) -> str:
    """Return a core's bytes and their share of the full context's, or why there is no saving.

    ```python
    >>> core_text(200, 1000)
    "200 B, 20.0 % of the full context's 1.0 kB"
    ```
    """
    if core <= full:
        return (
            f"{bytes_text(core)}, {share_text(core, full)} of the full context's {bytes_text(full)}"
        )
    return (
        f"{bytes_text(core)}, more than the full context's {bytes_text(full)}: the memory's own "
        "tables, such as its tokens' positions, weigh more than what was left out"
    )


def number_text(value: float | None, digits: int = 2) -> str:
    """Return a number for people, with a dash for what is not known."""
    return "–" if value is None else f"{value:,.{digits}f}"


def seconds_text(value: float | None) -> str:
    """Return a time: milliseconds below a second, then seconds."""
    if value is None:
        return "–"
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.1f} s"


def plain(text: Any) -> str:
    """Return a user's text for a table: one line, and no rich markup in it."""
    from rich.markup import escape

    return escape(" ".join(str(text).split()))
