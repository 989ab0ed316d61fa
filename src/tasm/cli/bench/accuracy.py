"""`tasm bench accuracy`: memory methods compared on equal terms."""

from pathlib import Path
from typing import Annotated, Any

from typer import Option

from tasm.cli import completion
from tasm.cli.files import check_beside, check_out_folder
from tasm.cli.frame import Result, command, say
from tasm.cli.options import Device, Dtype, ModelName, VisionMemoryPlace, count, file, folder
from tasm.cli.parsing import listed
from tasm.cli.progress import Progress
from tasm.compress.recipes.table import DEFAULT_RECIPE
from tasm.errors import InputError

DEFAULT_SEEDS = 10
DEFAULT_QUERIES = 40
DEFAULT_CORE = "20%"
WRITTEN = ("rows.jsonl", "leaderboard.md", "report.html", "cards.md", "plots")
MOST_SEEDS = 10_000


@command
def accuracy(
    model: ModelName,
    out: Annotated[Path, folder(help="Where rows, tables and plots go.")],
    recipes: Annotated[
        str, Option(help="Recipes, separated by commas.", autocompletion=completion.many_recipes)
    ] = f"full,zero-shot,{DEFAULT_RECIPE},tasm",
    suites: Annotated[
        str | None,
        Option(
            help="Bundled suites: bind,needle@100,bind@8:ways=4 …",
            autocompletion=completion.many_suites,
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        count(
            max=MOST_SEEDS, help=f"Tasks a suite; one seed is one task. Default: {DEFAULT_SEEDS}."
        ),
    ] = None,
    first_seed: Annotated[
        int | None, Option(metavar="S", min=0, max=2**32, help="The first seed. Default: 0.")
    ] = None,
    queries: Annotated[
        str | None,
        Option(
            metavar="N|FILE",
            help="With --suites, queries a seed (40); otherwise a file of queries with answers.",
        ),
    ] = None,
    demonstrations: Annotated[Path | None, file(help="Your own demonstrations.")] = None,
    core: Annotated[
        str | None,
        Option(
            help=f"Core budgets, separated by commas: 20%,10%,5%,2.5%. Default: {DEFAULT_CORE}."
        ),
    ] = None,
    stored: Annotated[
        str | None,
        Option(
            "--bytes",
            help="Budgets of core and bank together, as shares of the full context's bytes: "
            "60%,20%,5%. Each recipe divides them in its own proportion.",
        ),
    ] = None,
    bank: Annotated[
        str | None, Option(help="Bank budget of every recipe. Default: the recipe's own.")
    ] = None,
    split: Annotated[
        str | None, Option(help="held-out or train classes of the suites. Default: held-out.")
    ] = None,
    cards: Annotated[
        bool, Option("--cards", help="Measure what each kind of token gives, a suite.")
    ] = False,
    batch_size: Annotated[int, Option(min=1)] = 40,
    workers: Annotated[
        int | None,
        Option(min=1, max=1024, help="Processes. Default: one a core, small models only."),
    ] = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
    vision_memory: VisionMemoryPlace = None,
) -> Result:
    """Compare recipes: accuracy, agreement with the full context, tokens, bytes and time.

    \b
    Finished rows in DIR/rows.jsonl are never measured again, so a run can be interrupted, repeated
    and extended. DIR gets leaderboard.md, report.html and plots.

    \b
    Example:
      tasm bench accuracy --model reference --suites bind,needle
        --recipes full,zero-shot,tasm,random --core 20%,5% --out out/bench
      tasm bench accuracy --model reference --suites bind,needle
        --recipes full,tasm,random --bytes 60%,20%,5% --out out/bytes
      tasm bench accuracy --model MODEL --demonstrations train.jsonl --queries test.jsonl
        --recipes tasm --out out/mine
    """
    from tasm.bench.cells import card_cells, expand

    own_files = demonstrations is not None
    read = [demonstrations, None if queries is None or not own_files else Path(queries)]
    check_out_folder(out, WRITTEN, inputs=read)
    check_beside(out, model=model, demonstrations=demonstrations, vision_memory=vision_memory)
    if own_files:
        _refuse_for_own_files(seeds=seeds, first_seed=first_seed, split=split)
    chosen = listed(recipes, "--recipes")
    _check_budgets(chosen, core, bank, stored)
    cells = expand(
        chosen,
        listed(core or DEFAULT_CORE, "--core") if core or not stored else [],
        bank,
        listed(stored, "--bytes") if stored else [],
    )
    if cards:
        cells += [cell for cell in card_cells() if cell not in cells]
    sources = _sources(suites, queries, demonstrations, split or "held-out")

    from tasm.bench.accuracy import Plan, run
    from tasm.bench.pool import pool
    from tasm.bench.publish import publish

    first = first_seed or 0
    plan = Plan(
        model=model,
        sources=sources,
        seeds=(0,) if own_files else range(first, first + (seeds or DEFAULT_SEEDS)),
        cells=cells,
        batch_size=batch_size,
        workers=workers,
        dtype=dtype,
        device=device,
        vision_memory=vision_memory,
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


def _refuse_for_own_files(**given: int | str | None) -> None:
    """Own files are one task, with neither seeds nor classes to draw."""
    for name, value in given.items():
        if value is not None:
            raise InputError(
                f"--{name.replace('_', '-')} has no effect with --demonstrations: your own files "
                "are the only task. Leave it out."
            )


def _check_budgets(
    recipes: list[str], core: str | None, bank: str | None, stored: str | None
) -> None:
    """Refuse a budget that none of the recipes takes, and a bank where bytes decide it."""
    from tasm.bench.cells import takes_bank, takes_core, takes_stored

    if bank is not None and stored is not None and core is None:
        raise InputError(
            f"--bank {bank} has no effect with --bytes, which divides core and bank in each "
            "recipe's own proportion. Leave it out, or give --core as well."
        )
    options = (("--core", core, takes_core), ("--bank", bank, takes_bank))
    for option, size, takes in (*options, ("--bytes", stored, takes_stored)):
        if size is not None and not any(map(takes, recipes)):
            raise InputError(
                f"{option} {size} has no effect: no such budget belongs to {', '.join(recipes)}. "
                "Leave it out, or add a recipe."
            )


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
    if not queries.isdecimal() or int(queries) < 1:
        raise InputError(
            f"--queries {queries!r}: with --suites it is a number of queries a seed, 40 for one."
        )
    return int(queries)


def _text(rows: list[Any], files: list[Path]) -> Any:
    from tasm.cli.text import bytes_text, number_text, table

    figures = ("accuracy", "95 %", "agrees", "tokens", "core", "bank", "build s", "answer ms")
    lines = [
        (
            row.suite,
            row.recipe,
            row.budget or None,
            f"{row.accuracy:.3f}",
            f"{row.ci95[0]:.3f}–{row.ci95[1]:.3f}",
            number_text(row.agreement),
            number_text(row.attended_tokens, 0),
            bytes_text(row.core_bytes),
            bytes_text(row.bank_bytes),
            number_text(row.build_seconds),
            number_text(row.answer_ms, 1),
        )
        for row in rows
    ]
    listing = table(("suite", "recipe", "budget", *figures), lines, right=figures)
    return [listing, "Written: " + ", ".join(map(str, files))]
