"""`tasm verify`: is a memory whole, is it this model's, and what does it lose?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from tasm.cli.frame import Result, command, say
from tasm.cli.opening import check_there, open_memory, read_asked
from tasm.cli.options import MemoryPath, ModelPlace, RecordedVisionMemory, file, share
from tasm.cli.progress import Progress
from tasm.errors import ModelError

if TYPE_CHECKING:
    from tasm.check.verify import Verification


@command
def verify(
    memory: MemoryPath,
    model: ModelPlace = None,
    vision_memory: RecordedVisionMemory = None,
    queries: Annotated[
        Path | None, file(help="What is asked. Default: the demonstrations themselves.")
    ] = None,
    demonstrations: Annotated[
        Path | None,
        Option(metavar="DEMOS", help="The demonstrations, where the original files have moved."),
    ] = None,
    min_agreement: Annotated[
        float | None, share(help="Fail where fewer answers than this equal the full context's.")
    ] = None,
) -> Result:
    """Check a memory's integrity and identity, then measure its fidelity to the full context.

    \b
    Examples:
      tasm verify birds.tasm
      tasm verify birds.tasm --queries queries.jsonl --min-agreement 0.95 --json
    """
    from tasm.check.verify import Verification
    from tasm.check.verify import verify as verify_memory

    check_there(memory)
    asked = None if queries is None else read_asked(queries)
    with Progress() as progress:
        try:
            found = verify_memory(
                memory,
                model,
                asked,
                demonstrations,
                min_agreement=min_agreement,
                vision_memory=vision_memory,
                notice=say,
                progress=progress,
            )
        except ModelError as error:  # the files are whole, whatever became of the model
            opened = open_memory(memory)
            whole = Verification(
                intact=True,
                core_bytes=opened.core_bytes,
                full_bytes=opened.full_bytes,
                complaint=str(error),
            )
            return _result(whole, error.exit_code)
    if queries is not None and found.queries_from is not None:
        found.queries_from = str(queries)
    return _result(found)


def _result(found: "Verification", failed: int = 1) -> Result:
    return Result(
        found.to_json(),
        lambda: _for_people(found),
        exit_code=0 if found.holds else failed,
        complaint=None if found.holds else f"Error: {found.complaint}",
    )


def _for_people(found: "Verification") -> Any:
    from tasm.cli.text import core_text, number_text, table

    yes_no = {True: "yes", False: "NO", None: "not checked"}
    rows = [
        ("Files intact", yes_no[found.intact]),
        ("Made for this model", yes_no[found.model_matches]),
    ]
    if found.core_bytes is not None and found.full_bytes is not None:
        rows.append(("Core", core_text(found.core_bytes, found.full_bytes)))
    if found.queries:
        rows += [
            ("Queries", f"{found.queries} from {found.queries_from}"),
            ("Agreement with the full context", number_text(found.agreement, 3)),
            ("Largest logit error, first token", number_text(found.max_logit_error, 4)),
            ("Mean Jensen-Shannon divergence (nats)", number_text(found.mean_js, 5)),
        ]
        rows += [
            (f"Accuracy, {name.replace('_', '-')}", number_text(value, 3))
            for name, value in found.accuracy.items()
        ]
    return table(("What was checked", "Result"), rows)
