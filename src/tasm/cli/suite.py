"""`tasm suite`: demonstrations and queries to try things on. Imports no torch."""

from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Option

from tasm.cli import completion
from tasm.cli.files import check_out
from tasm.cli.frame import Result, command
from tasm.cli.options import Overwrite, count, file, folder
from tasm.files import check_replaceable, whole_folder

Split = Literal["held-out", "train"]
FILES = ("demonstrations.jsonl", ("demonstrations.jsonl", "queries.jsonl", "images"))
"""What tells a suite's folder, and all that is in one."""


@command
def suite(
    name: Annotated[
        str,
        Argument(
            metavar="NAME",
            help="bind, needle, late …; of text alone: past, category …",
            autocompletion=completion.suites,
        ),
    ],
    out: Annotated[Path, folder(help="The folder to write.")],
    demonstrations: Annotated[int | None, count(help="How many. Default: the suite's own.")] = None,
    queries: Annotated[
        int | None, Option(metavar="M", min=1, help="How many. Default: 40.")
    ] = None,
    seed: Annotated[int, Option(metavar="S", help="One seed is one task.")] = 0,
    split: Annotated[
        Split, Option(help="held-out: classes and words the model never saw.")
    ] = "held-out",
    ways: Annotated[
        int | None, Option(metavar="N", min=2, help="How many classes, where there are classes.")
    ] = None,
    font: Annotated[Path | None, file(help="A TrueType font to draw with.")] = None,
    cosine: Annotated[
        float | None,
        Option(
            metavar="X",
            help="Harder: held-out glyphs that look less than this like any training glyph (0.85).",
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> Result:
    """Write a task of the reference suites: demonstrations.jsonl, queries.jsonl and images.

    \b
    Example:
      tasm suite bind --out bind --ways 8 --demonstrations 40 --queries 10
      tasm build bind/demonstrations.jsonl --model reference --out bind.tasm
      tasm ask bind.tasm --queries bind/queries.jsonl
    """
    from tasm.suites.suites import check_suite, write_suite

    given: dict[str, Any] = {
        "demonstrations": demonstrations,
        "queries": queries,
        "ways": ways,
        "font": None if font is None else str(font),
        "cosine": cosine,
    }
    chosen = {option: value for option, value in given.items() if value is not None}
    check_out(out, overwrite, inputs=[font])
    check_suite(name, split=split, **chosen)
    check_replaceable(out, *FILES)
    with whole_folder(out, *FILES) as folder:
        written = write_suite(name, folder, seed=seed, split=split, **chosen)
    document = {
        "demonstrations": str(out / "demonstrations.jsonl"),
        "queries": str(out / "queries.jsonl"),
        "files": written["files"],
    }
    return Result(document, f"{document['demonstrations']}\n{document['queries']}")
