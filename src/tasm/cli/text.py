"""How figures and tables look on a terminal. Knows no command."""

from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDTH_OF_A_PIPE = 160


def console(stream: TextIO) -> "Console":
    """Return a console for a stream; what is read by a program is not folded at 80 columns."""
    from rich.console import Console

    width = None if stream.isatty() else WIDTH_OF_A_PIPE
    return Console(file=stream, width=width, highlight=False, soft_wrap=False)


def rendered(item: Any, stream: TextIO) -> str:
    """Return what rich would print to the stream."""
    target = console(stream)
    with target.capture() as captured:
        target.print(item)
    return captured.get()


def table(*columns: str, title: str | None = None, right: tuple[str, ...] = ()) -> "Table":
    """Return an empty table; the columns named in `right` hold figures."""
    from rich import box
    from rich.table import Table

    result = Table(
        title=title, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left", title_style="bold"
    )
    for column in columns:
        result.add_column(column, justify="right" if column in right else "left", overflow="fold")
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
