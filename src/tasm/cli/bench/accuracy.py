"""`tasm bench accuracy`: memory methods compared on equal terms."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tasm.cli.files import check_outside
from tasm.cli.frame import Result, command, say
from tasm.cli.options import Device, Dtype, Json, ModelName
from tasm.cli.progress import Progress
from tasm.errors import InputError

DEFAULT_SEEDS = 10
DEFAULT_QUERIES = 40


@command
def accuracy(
    model: ModelName,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where rows, tables and plots go.")
    ],
    recipes: Annotated[
        str, typer.Option("--recipes", help="Recipes, separated by commas.")
    ] = "full,zero-shot,tasm",
    suites: Annotated[
        str | None,
        typer.Option("--suites", help="Bundled suites: bind,needle@100,bind@8:ways=4 …"),
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="Tasks a suite; one seed is one task.")
    ] = DEFAULT_SEEDS,
    first_seed: Annotated[int, typer.Option("--first-seed", min=0, help="The first seed.")] = 0,
    queries: Annotated[
        str | None,
        typer.Option(
            "--queries",
            metavar="N|FILE",
            help="With --suites, queries a seed (40); otherwise a file of queries with answers.",
            show_default=False,
        ),
    ] = None,
    demonstrations: Annotated[
        Path | None,
        typer.Option("--demonstrations", metavar="FILE", help="Your own demonstrations."),
    ] = None,
    core: Annotated[
        str, typer.Option("--core", help="Core budgets, separated by commas: 20%,10%,5%,2.5%.")
    ] = "20%",
    bank: Annotated[
        str | None,
        typer.Option("--bank", help="Bank budget of every recipe. Default: the recipe's own."),
    ] = None,
    split: Annotated[
        str, typer.Option("--split", help="held-out or train classes of the suites.")
    ] = "held-out",
    cards: Annotated[
        bool, typer.Option("--cards", help="Measure what each kind of token gives, a suite.")
    ] = False,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1)] = 40,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Processes. Default: one a core, small models only."),
    ] = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
    json: Json = False,
) -> Result:
    """Compare recipes: accuracy, agreement with the full context, tokens, bytes and time.

    \b
    Finished rows in DIR/rows.jsonl are never measured again, so a run can be interrupted, repeated
    and extended. DIR gets leaderboard.md, report.html and plots.

    \b
    Example:
      tasm bench accuracy --model reference --suites bind,needle
        --recipes full,zero-shot,tasm,random --core 20%,5% --out out/bench
      tasm bench accuracy --model MODEL --demonstrations train.jsonl --queries test.jsonl
        --recipes tasm --out out/mine
    """
    from tasm.bench.accuracy import Plan, run
    from tasm.bench.cells import card_cells, expand
    from tasm.bench.pool import pool
    from tasm.bench.publish import publish

    check_outside(out / "rows.jsonl")
    sources = _sources(suites, queries, demonstrations, split)
    cells = expand(_listed(recipes), _listed(core), bank)
    if cards:
        cells += [cell for cell in card_cells() if cell not in cells]
    own_files = demonstrations is not None
    plan = Plan(
        model=model,
        sources=sources,
        seeds=(0,) if own_files else range(first_seed, first_seed + seeds),
        cells=cells,
        batch_size=batch_size,
        workers=workers,
        dtype=dtype,
        device=device,
    )
    with Progress() as progress:
        outcome = run(plan, out, progress=progress)
    for refusal in outcome.refusals:
        say(f"Not measured: {refusal}")
    files = publish(outcome.rows, model, out, cards=cards) if outcome.rows else []
    rows = pool(outcome.rows)
    refused = len(outcome.refusals)
    return Result(
        {"model": model, "rows": [row.to_json() for row in rows]},
        lambda: _text(rows, files),
        exit_code=1 if refused else 0,
        complaint=f"{refused} measurements were refused; see above." if refused else None,
    )


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _sources(
    suites: str | None, queries: str | None, demonstrations: Path | None, split: str
) -> list[Any]:
    from tasm.bench.sources import FileSource, parse_suites

    if (suites is None) == (demonstrations is None):
        raise InputError(
            "Give either --suites, or --demonstrations and --queries with your own files."
        )
    if suites is not None:
        count = DEFAULT_QUERIES if queries is None else _count(queries)
        if split not in ("held-out", "train"):
            raise InputError(f"--split {split!r}: expected held-out or train.")
        return list(parse_suites(suites, queries=count, split=split))
    assert demonstrations is not None
    if queries is None:
        raise InputError("--demonstrations needs --queries FILE: the questions, with answers.")
    return [FileSource(demonstrations, Path(queries))]


def _count(queries: str) -> int:
    if not queries.isdigit() or int(queries) < 1:
        raise InputError(
            f"--queries {queries!r}: with --suites it is a number of queries a seed, 40 for one."
        )
    return int(queries)


def _text(rows: list[Any], files: list[Path]) -> Any:
    from rich.console import Group

    from tasm.cli.text import bytes_text, number_text, table

    figures = ("accuracy", "95 %", "agrees", "tokens", "core", "bank", "build s", "answer ms")
    listing = table("suite", "recipe", "budget", *figures, right=figures)
    for row in rows:
        listing.add_row(
            row.suite,
            row.recipe,
            row.core or "–",
            f"{row.accuracy:.3f}",
            f"{row.ci95[0]:.3f}–{row.ci95[1]:.3f}",
            number_text(row.agreement),
            number_text(row.attended_tokens, 0),
            bytes_text(row.core_bytes),
            bytes_text(row.bank_bytes),
            number_text(row.build_seconds),
            number_text(row.answer_ms, 1),
        )
    return Group(listing, "Written: " + ", ".join(str(file) for file in files))
