"""`tasm tune`: how small a memory may be, and how good it will be, judged on the demonstrations."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from tasm.cli import completion, options
from tasm.cli.building import check_settings, read_files
from tasm.cli.files import check_beside, check_no_input, check_out_file, check_out_memory
from tasm.cli.frame import Result, command, say, warn
from tasm.cli.opening import read_asked, read_rows
from tasm.cli.options import file, share
from tasm.cli.parsing import listed
from tasm.cli.progress import Progress
from tasm.compress.recipes.table import DEFAULT_RECIPE
from tasm.errors import InputError
from tasm.files import write_text

if TYPE_CHECKING:
    from tasm.sizing import Tuned

SHOWN_CONFUSIONS = 10


@command
def tune(
    demonstrations: options.DemonstrationsPath,
    model: options.ModelName,
    out: Annotated[
        Path | None,
        Option(metavar="MEMORY", help="Write the chosen memory here. Default: none is written."),
    ] = None,
    queries: Annotated[
        Path | None,
        file(help="What is asked. Default: every demonstration, hidden from its own query."),
    ] = None,
    folds: Annotated[
        int | None,
        Option(
            metavar="K",
            min=2,
            help="Ask each of K parts of a memory read without it. Alone: how good will the "
            "recipe's own core be?",
        ),
    ] = None,
    target_agreement: Annotated[
        float | None,
        share(
            help="The share of answers that must be the full context's. Default: 0.95 where no "
            "other target is given."
        ),
    ] = None,
    target_accuracy: Annotated[
        float | None, share(help="The share of answers that must be right.")
    ] = None,
    max_bytes: Annotated[
        str | None,
        Option(
            metavar="SIZE",
            help="The most that core and bank may take: 4MB, or 10% of the full context.",
        ),
    ] = None,
    recipe: Annotated[
        str,
        Option(
            metavar="NAME[,NAME…]",
            help="The method, or several: the one that needs the fewest bytes is taken.",
            autocompletion=completion.recipes,
        ),
    ] = DEFAULT_RECIPE,
    bank: options.Bank = None,
    metric: Annotated[options.MetricName, Option(help="How answers are judged.")] = "exact",
    plot: Annotated[
        Path | None, file(help="Write the curve of sizes and answers here, as SVG.")
    ] = None,
    question: options.Question = None,
    system: options.System = None,
    max_pixels: options.MaxPixels = None,
    overwrite: options.Overwrite = False,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
) -> Result:
    """Find the smallest core that keeps what all demonstrations can do, and say how good it is.

    \b
    Examples:
      tasm tune birds.jsonl --model reference --out birds.tasm
      tasm tune birds.jsonl --model reference --folds 5
      tasm tune birds.jsonl --model reference --recipe tasm,compact --target-accuracy 0.9
    """
    from tasm.answer import load_model
    from tasm.sizing import tune as tuned_by
    from tasm.view.thumbnails import thumbnails

    recipes = listed(recipe, "--recipe")
    for name in recipes:
        check_settings(name, None, bank)
    if overwrite and out is None and plot is None:
        raise InputError("--overwrite has no effect without --out or --plot. Leave it out.")
    given = [place for place in (demonstrations, queries, Path(model)) if place is not None]
    if out is not None:
        check_out_memory(out, overwrite, inputs=given)
        check_beside(out, model=model)
    if plot is not None:
        check_out_file(plot, overwrite, option="--plot", inputs=given)
        check_beside(plot, model=model, option="--plot")
    rows = read_rows(demonstrations, question)
    asked = None if queries is None else read_asked(queries)
    for option, place in (("--out", out), ("--plot", plot)):
        if place is not None:
            check_no_input(place, read_files(rows), option=option)
    started = time.perf_counter()
    backbone = load_model(model, dtype=dtype, device=device).backbone
    load_seconds = time.perf_counter() - started
    with Progress() as progress:
        tuned = tuned_by(
            backbone,
            rows,
            recipes=recipes,
            bank=bank,
            queries=asked,
            folds=folds,
            target_agreement=target_agreement,
            target_accuracy=target_accuracy,
            max_bytes=max_bytes,
            metric=metric,
            system=system,
            max_pixels=max_pixels,
            progress=progress,
            notice=warn,
        )
    document: dict[str, Any] = {"memory": None, "model": backbone.name, **tuned.to_json()}
    document["seconds"] = {"load": load_seconds, **document["seconds"]}
    if out is not None and tuned.memory is not None:
        tuned.memory.save(out, overwrite=overwrite, pictures=thumbnails(rows))
        document["memory"] = str(out)
    if plot is not None and tuned.evaluations:  # where no core fits, there is no curve
        from tasm.view.tuning_curve import tuning_curve

        write_text(plot, tuning_curve(document))
        say(f"Curve written to {plot}")
    missed = tuned.chosen is None
    return Result(
        document,
        lambda: for_people(document, tuned),
        exit_code=int(missed),
        complaint=f"Error: {tuned.why}" if missed else None,
    )


def for_people(document: Mapping[str, Any], tuned: "Tuned") -> Any:
    """Return what is printed without `--json`."""
    from tasm.cli.text import bytes_text, number_text, table

    figures = ("Core", "Core and bank", "Agreement", "Accuracy")
    rows = [
        (
            one.recipe + (" *" if one is tuned.chosen else ""),
            one.core,
            bytes_text(one.stored_bytes),
            number_text(one.agreement, 3),
            number_text(one.accuracy, 3),
        )
        for one in tuned.evaluations
    ]
    lines = [] if tuned.chosen is None else [tuned.why]
    if tuned.interval is not None:
        low, high = tuned.interval
        lines.append(
            f"Accuracy {tuned.accuracy:.3f}, between {low:.3f} and {high:.3f} with 95 % "
            f"confidence; all demonstrations together: {tuned.full_accuracy:.3f} "
            f"({tuned.queries} {_asked(tuned)})."
        )
    wrong = sorted(
        (one for one in tuned.confusions if one.expected != one.said), key=lambda one: -one.times
    )
    lines += [
        f"  {one.times} × {one.expected!r} was answered with {one.said!r}"
        for one in wrong[:SHOWN_CONFUSIONS]
    ]
    if document["memory"] is not None:
        lines.append(f"{document['memory']} written.")
    return [table(("Recipe", *figures), rows, right=figures), *lines]


def _asked(tuned: "Tuned") -> str:
    return {
        "queries": "queries",
        "demonstrations": "demonstrations, each hidden from its own question",
        "folds": "demonstrations, each asked of a memory read without it",
    }[tuned.judged_by]
