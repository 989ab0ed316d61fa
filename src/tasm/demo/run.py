"""`tasm demo`: one task told from end to end with the bundled model.

It builds a memory from demonstrations on disk, asks it, asks without demonstrations and with all of
them as an ordinary prompt, and writes a page about it. It measures nothing that `tasm bench` would.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from tasm.demonstrations import Query, is_correct, read_demonstrations, read_queries
from tasm.files import whole_folder, write_text

if TYPE_CHECKING:
    from tasm.answer import Answer

SUITE = "bind"
DEMONSTRATIONS, WAYS, QUERIES, SEED = 40, 8, 10, 0
FILES = ("report.html", ("report.html", "task", f"{SUITE}.tasm"))
"""What tells a demo's folder, and all that is in one."""

Report = Callable[[str, int, int], None]


def run_demo(out: Path, *, progress: Report | None = None) -> dict[str, Any]:
    """Run the demo into the folder `out`, replacing it, and return what was found.

    The folder gets the task (`task/`), the memory (`bind.tasm/`) and `report.html`; it is put in
    place whole, at the end.

    ```python
    found = run_demo(Path("out/demo"))
    print(found["ways"])
    ```
    """
    with whole_folder(out, *FILES) as folder:
        document = _run(folder, progress)
    return {**document, "memory": str(out / f"{SUITE}.tasm"), "report": str(out / "report.html")}


def _run(folder: Path, progress: Report | None) -> dict[str, Any]:
    import tasm
    from tasm.answer import load_model, ordinary_answers, zero_shot_answers
    from tasm.answer.ask import default_new_tokens
    from tasm.check.fidelity import agreement
    from tasm.demo.report import report_page
    from tasm.memory import TaskMemory
    from tasm.suites.suites import write_suite
    from tasm.view.thumbnails import thumbnails

    task = folder / "task"
    write_suite(SUITE, task, demonstrations=DEMONSTRATIONS, queries=QUERIES, ways=WAYS, seed=SEED)
    demonstrations = read_demonstrations(task / "demonstrations.jsonl")
    queries = read_queries(task / "queries.jsonl")
    model = load_model("reference")
    built = tasm.build(model, demonstrations, progress=progress)
    built.save(folder / f"{SUITE}.tasm", pictures=thumbnails(demonstrations))
    memory = TaskMemory.load(folder / f"{SUITE}.tasm")
    memory.check_all()

    model.ask_all(memory, queries[:1])  # what is only slow the first time is not timed
    asked = [model.ask_all(memory, [query])[0] for query in queries]
    new_tokens = default_new_tokens(memory)
    zero_shot = zero_shot_answers(model.backbone, queries, batch_size=1, max_new_tokens=new_tokens)
    full = ordinary_answers(
        model.backbone,
        demonstrations,
        queries,
        layout=memory.layout,
        max_new_tokens=new_tokens,
        progress=progress,
    )
    document = {
        "demonstrations": len(demonstrations),
        "queries": len(queries),
        "answers": [
            {
                "id": query.id,
                "expected": query.answers[0],
                "zero_shot": zero_shot[number].text,
                "memory": asked[number].text,
                "full": full[number].text,
            }
            for number, query in enumerate(queries)
        ],
        "ways": [
            _way("Without demonstrations", zero_shot, queries, 0),
            _way("Task memory", asked, queries, memory.core_bytes),
            _way("Full context, ordinary prompt", full, queries, memory.full_bytes),
        ],
        "agreement": fmean(agreement([one.text for one in asked], [one.text for one in full])),
        "core_bytes": memory.core_bytes,
        "bank_bytes": memory.bank_bytes,
        "full_bytes": memory.full_bytes,
        "build_seconds": built.report["seconds"]["total"],
    }
    write_text(folder / "report.html", report_page(document, memory, queries))
    return document


def _way(
    name: str, answers: "Sequence[Answer]", queries: Sequence[Query], held_bytes: int
) -> dict[str, Any]:
    correct = [
        is_correct(answer.text, query.answers)
        for answer, query in zip(answers, queries, strict=True)
    ]
    first = fmean(answer.seconds["prefill"] for answer in answers)
    rest = fmean(answer.seconds["decode"] for answer in answers)
    return {
        "name": name,
        "accuracy": fmean(correct),
        "bytes": held_bytes,
        "first_token_ms": 1000 * first,
        "answer_ms": 1000 * (first + rest),
    }
