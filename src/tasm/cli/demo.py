"""`tasm demo`: the whole story in a minute, with the bundled model."""

from pathlib import Path
from typing import Annotated, Any

from tasm.cli.files import check_out
from tasm.cli.frame import Result, command
from tasm.cli.options import Overwrite, folder
from tasm.cli.progress import Progress


@command
def demo(
    out: Annotated[Path, folder(help="The folder to write.")] = Path("out/demo"),
    overwrite: Overwrite = False,
) -> Result:
    """Build a memory with the bundled model, ask it, and compare it with the full context.

    Writes the demonstrations, the memory and report.html with heat maps and plots.

    \b
    Example:
      tasm demo --out out/demo
    """
    from tasm.demo import FILES, run_demo
    from tasm.files import check_replaceable

    check_out(out, overwrite, needed=20_000_000)
    check_replaceable(out, *FILES)
    with Progress() as progress:
        document = run_demo(out, progress=progress)
    return Result(document, lambda: _for_people(document))


def _for_people(document: dict[str, Any]) -> Any:
    from tasm.cli.text import bytes_text, number_text, seconds_text, table

    shown = ("id", "expected", "zero_shot", "memory", "full")
    figures = ("Accuracy", "Bytes", "ms to first token", "ms an answer")
    ways = [
        (
            row["name"],
            number_text(row["accuracy"]),
            bytes_text(row["bytes"]),
            number_text(row["first_token_ms"], 1),
            number_text(row["answer_ms"], 1),
        )
        for row in document["ways"]
    ]
    return [
        table(
            ("Query", "Expected", "Zero-shot", "Memory", "Full context"),
            ((row[name] for name in shown) for row in document["answers"]),
        ),
        table(("Way to ask", *figures), ways, right=figures),
        f"{100 * document['agreement']:.0f} % of the memory's answers are the full context's; it "
        f"was built in {seconds_text(document['build_seconds'])}.",
        f"Report: {document['report']}",
    ]
