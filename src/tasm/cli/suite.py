"""`tasm suite`: demonstrations and queries to try things on. Imports no torch."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tasm.cli.files import check_out
from tasm.cli.frame import Result, command
from tasm.cli.options import Json, Overwrite
from tasm.errors import InputError, did_you_mean
from tasm.folders import whole_folder

Split = Literal["held-out", "train"]


@command
def suite(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="bind, needle, late …", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="The folder to write.", show_default=False)
    ],
    demonstrations: Annotated[
        int | None,
        typer.Option(
            "--demonstrations",
            metavar="N",
            min=1,
            help="How many. Default: the suite's own.",
            show_default=False,
        ),
    ] = None,
    queries: Annotated[
        int | None,
        typer.Option(
            "--queries", metavar="M", min=1, help="How many. Default: 40.", show_default=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="S", help="One seed is one task.")] = 0,
    split: Annotated[
        Split, typer.Option("--split", help="held-out: classes and words the model never saw.")
    ] = "held-out",
    ways: Annotated[
        int | None,
        typer.Option(
            "--ways",
            metavar="N",
            min=2,
            help="How many classes, where there are classes.",
            show_default=False,
        ),
    ] = None,
    font: Annotated[
        Path | None,
        typer.Option(
            "--font", metavar="FILE", help="A TrueType font to draw with.", show_default=False
        ),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> Result:
    """Write a task of the reference suites: demonstrations.jsonl, queries.jsonl and images.

    \b
    Example:
      tasm suite bind --out bind --ways 8 --demonstrations 40 --queries 10
      tasm build bind/demonstrations.jsonl --model reference --out bind.tasm
      tasm ask bind.tasm --queries bind/queries.jsonl
    """
    from tasm.suites.suites import SUITES, write_suite

    if name not in SUITES:
        raise InputError(
            f"There is no suite {name!r}.{did_you_mean(name, SUITES)} "
            f"The suites are {', '.join(SUITES)}."
        )
    check_out(out, overwrite)
    given: dict[str, Any] = {
        "demonstrations": demonstrations,
        "queries": queries,
        "ways": ways,
        "font": font,
    }
    chosen = {option: value for option, value in given.items() if value is not None}
    try:
        with whole_folder(out, mark="demonstrations.jsonl") as folder:
            written = write_suite(name, folder, seed=seed, split=split, **chosen)
    except ValueError as error:
        raise InputError(f"{error}.") from error
    document = {
        "demonstrations": str(out / "demonstrations.jsonl"),
        "queries": str(out / "queries.jsonl"),
        "files": written["files"],
    }
    return Result(document, f"{document['demonstrations']}\n{document['queries']}")
