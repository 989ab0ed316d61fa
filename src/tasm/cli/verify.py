"""`tasm verify`: is a memory whole, is it this model's, and what does it lose?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasm.cli.frame import Result, command, say, warn
from tasm.cli.opening import open_memory, open_model
from tasm.cli.options import Json, MemoryPath, ModelPlace
from tasm.cli.progress import Progress
from tasm.errors import DamageError

if TYPE_CHECKING:
    from tasm.check.verify import Verification
    from tasm.demonstrations import Demonstration
    from tasm.memory import TaskMemory


@command
def verify(
    memory: MemoryPath,
    model: ModelPlace = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            "--queries",
            metavar="FILE",
            help="What is asked. Default: the demonstrations themselves.",
            show_default=False,
        ),
    ] = None,
    demonstrations: Annotated[
        Path | None,
        typer.Option(
            "--demonstrations",
            metavar="DEMOS",
            help="The demonstrations, where the original files have moved.",
            show_default=False,
        ),
    ] = None,
    min_agreement: Annotated[
        float | None,
        typer.Option(
            "--min-agreement",
            metavar="X",
            min=0.0,
            max=1.0,
            help="Fail where fewer answers than this equal the full context's.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> Result:
    """Check a memory's integrity and identity, then measure its fidelity to the full context.

    \b
    Examples:
      tasm verify birds.tasm
      tasm verify birds.tasm --queries queries.jsonl --min-agreement 0.95 --json
    """
    from tasm.check.verify import Verification

    try:
        opened = open_memory(memory)
        opened.check_all()
    except DamageError as error:
        return _result(Verification(intact=False), f"Error: {error}")
    found = Verification(intact=True, core_bytes=opened.core_bytes, full_bytes=opened.full_bytes)
    complaint = _check(found, opened, model, queries, demonstrations)
    if complaint is None and min_agreement is not None:
        complaint = _too_little(found, min_agreement)
    return _result(found, complaint)


def _check(
    found: "Verification",
    memory: "TaskMemory",
    model: str | None,
    queries: Path | None,
    demonstrations: Path | None,
) -> str | None:
    """Identity, then fidelity; returns the sentence of what did not hold."""
    from tasm.check.verify import check_identity, demonstrations_as_queries, measure_fidelity
    from tasm.demonstrations import read_queries

    with Progress() as progress:
        asked = None if queries is None else read_queries(queries, warn=warn, progress=progress)
        originals = _originals(memory, demonstrations)
    loaded = open_model(memory, model)
    difference = check_identity(loaded.backbone, memory)
    found.model_matches = difference is None
    if difference is not None:
        return f"Error: {difference}"
    if asked is None and originals is not None:
        asked = demonstrations_as_queries(originals)
    if asked is None:
        say("There is nothing to ask: give --queries, or the demonstrations with --demonstrations.")
        return None
    found.queries_from = "demonstrations" if queries is None else str(queries)
    with Progress() as progress:
        measure_fidelity(
            found, loaded.backbone, memory, asked, originals, notice=say, progress=progress
        )
    return None


def _originals(memory: "TaskMemory", given: Path | None) -> "list[Demonstration] | None":
    from tasm.check.originals import given_demonstrations, recorded_demonstrations
    from tasm.demonstrations import read_demonstrations

    if given is not None:
        rows = read_demonstrations(
            given, question=_common_question(memory), skip_bad_rows=True, warn=lambda sentence: None
        )
        return given_demonstrations(memory, rows, str(given))
    originals = recorded_demonstrations(memory)
    if originals is None:
        say(
            "The original demonstrations are gone or were changed, so nothing can be compared with "
            "the full context. --demonstrations says where they are."
        )
    return originals


def _common_question(memory: "TaskMemory") -> str | None:
    """What `tasm build --question` was given for a folder of classes, if it was."""
    from tasm.demonstrations import IMAGE_MARK

    questions = {entry.question for entry in memory.demonstrations}
    only = questions.pop() if len(questions) == 1 else None
    return None if only is None else only.replace(IMAGE_MARK, "")


def _too_little(found: "Verification", wanted: float) -> str | None:
    if found.agreement is None:
        return f"Error: --min-agreement {wanted} could not be checked: there is no full context."
    if found.agreement < wanted:
        return f"Error: Agreement is {found.agreement:.3f}; at least {wanted} was wanted."
    return None


def _result(found: "Verification", complaint: str | None) -> Result:
    return Result(
        found.to_json(),
        lambda: _for_people(found),
        exit_code=0 if complaint is None else 1,
        complaint=complaint,
    )


def _for_people(found: "Verification") -> Any:
    from tasm.cli.text import core_text, number_text, table

    yes_no = {True: "yes", False: "NO", None: "not checked"}
    listing = table("What was checked", "Result")
    listing.add_row("Files intact", yes_no[found.intact])
    listing.add_row("Made for this model", yes_no[found.model_matches])
    if found.core_bytes is not None and found.full_bytes is not None:
        listing.add_row("Core", core_text(found.core_bytes, found.full_bytes))
    if found.queries:
        listing.add_row("Queries", f"{found.queries} from {found.queries_from}")
        listing.add_row("Agreement with the full context", number_text(found.agreement, 3))
        listing.add_row("Largest logit error, first token", number_text(found.max_logit_error, 4))
        listing.add_row("Mean Jensen-Shannon divergence (nats)", number_text(found.mean_js, 5))
        for name, value in found.accuracy.items():
            listing.add_row(f"Accuracy, {name.replace('_', '-')}", number_text(value, 3))
    return listing
