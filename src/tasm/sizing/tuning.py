"""`tasm.tune(...)`: the smallest memory that keeps what all demonstrations together can do."""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

import torch

from tasm.answer import Answer
from tasm.answer.confidence import fit_temperature, sureness
from tasm.answer.given import as_queries
from tasm.answer.labels import FEW
from tasm.arguments import listener, one_of, unheard, whole_number
from tasm.backbone.given import as_backbone
from tasm.compress.encoded import Encoded
from tasm.compress.given import as_demonstrations
from tasm.compress.recipes.recipe import Recipe
from tasm.compress.recipes.table import DEFAULT_RECIPE, find_recipe
from tasm.demonstrations import Demonstration
from tasm.demonstrations.metrics import METRICS
from tasm.errors import InputError, RecipeError
from tasm.memory import TaskMemory
from tasm.sizing.judge import Confusion, Evaluation, Judge, confusions, interval
from tasm.sizing.search import Report, Search
from tasm.sizing.target import Target


@dataclass(frozen=True, eq=False)
class Tuned:
    """What `tune` found; `chosen` and `memory` are None where nothing reached the target.

    `accuracy` is that of `chosen`, with its 95 % `interval`; `full_accuracy` the full context's.
    `temperature` sets the confidences of labels right (`calibration="demonstrations"`); None where
    answers are too many to be labels. `why` is a sentence for people.
    """

    chosen: Evaluation | None
    memory: TaskMemory | None
    evaluations: tuple[Evaluation, ...]
    full_accuracy: float | None
    interval: tuple[float, float] | None
    confusions: tuple[Confusion, ...]
    temperature: float | None
    judged_by: str
    queries: int
    metric: str
    seconds: dict[str, float]
    why: str
    answers: tuple[Answer, ...] = field(default=(), repr=False)

    @property
    def accuracy(self) -> float | None:
        """Of the chosen memory."""
        return None if self.chosen is None else self.chosen.accuracy

    def to_json(self) -> dict[str, Any]:
        """Return the document that `tasm tune --json` prints, but for `memory`."""
        of_chosen = ("recipe", "core", "agreement", "accuracy")
        plain = ("interval", "full_accuracy", "judged_by", "queries", "metric", "temperature")
        return {
            **{name: getattr(self.chosen, name, None) for name in of_chosen},
            **{name: getattr(self, name) for name in plain},
            "evaluations": [asdict(one) for one in self.evaluations],
            "confusions": [asdict(one) for one in self.confusions],
            "seconds": self.seconds,
            "why": self.why,
        }


def tune(
    model: Any,
    demonstrations: Any,
    *,
    recipes: str | Recipe | Sequence[str | Recipe] = DEFAULT_RECIPE,
    bank: str | None = None,
    queries: Any = None,
    folds: int | None = None,
    target_agreement: float | None = None,
    target_accuracy: float | None = None,
    max_bytes: str | None = None,
    metric: str = "exact",
    question: str | None = None,
    system: str | None = None,
    max_pixels: int | None = None,
    batch_size: int = 16,
    progress: Report | None = None,
    notice: Callable[[str], None] | None = warnings.warn,
) -> Tuned:
    """Find the smallest core whose memory answers as all demonstrations together would.

    Demonstrations are read once. Every evaluation compresses that reading and asks the
    demonstrations themselves, each hidden from its own query; at most six a recipe.

    ```python
    tuned = tasm.tune(model, "birds.jsonl", target_agreement=0.95)
    print(tuned.why)
    tuned.memory.save("birds.tasm")
    ```

    Args:
        model, demonstrations, question, system, max_pixels: as `tasm.build` takes them.
        recipes: a name or a list of them; the one that needs the fewest bytes is chosen.
        bank: as `tasm.build` takes it.
        queries: what is asked instead of the demonstrations, as `Model.ask_all` takes it.
        folds: ask each of so many parts of a memory that was read without it: nothing leaks, at
            the price of a reading a fold. Without a target only the recipe's own core is judged.
        target_agreement: the share of answers that must be the full context's; 0.95 where no other
            target is given.
        target_accuracy: the share of right answers by `metric`.
        max_bytes: the most that core and bank may take, "4MB" or "10%".
        batch_size: queries asked together.
        progress: called with a stage's name, steps done and steps in all.
        notice: called with sentences the user should see.

    Raises:
        InputError: of the demonstrations, recipes, targets; fewer demonstrations than folds.
    """
    found = _recipes(recipes)
    target = Target.of(target_agreement, target_accuracy, max_bytes, folds)
    one_of(metric, "metric", METRICS)
    whole_number(batch_size, "batch_size", least=1)
    listener(progress, "progress")
    listener(notice, "notice")
    report = progress or unheard
    rows = as_demonstrations(demonstrations, question=question, notice=notice)
    asked = None if queries is None else as_queries(queries)
    _check(rows, asked, folds, target_accuracy)
    backbone = as_backbone(model)
    readings = 1 if folds is None or asked is not None else folds + 1
    started = time.perf_counter()
    done = 0

    def read(some: Sequence[Demonstration]) -> Encoded:
        nonlocal done
        report("Reading demonstrations", done, readings)
        encoded = Encoded(backbone, some, found, system=system, max_pixels=max_pixels)
        done += 1
        report("Reading demonstrations", done, readings)
        return encoded

    judge = Judge(
        rows, read, queries=asked, folds=folds, bank=bank, metric=metric, batch_size=batch_size
    )
    read_at = time.perf_counter()
    judge.full = judge.answers(find_recipe("full"), None)
    full_scores = judge.score(judge.full)
    search = Search(judge, found, target, bank, report)
    chosen = search.chosen()
    judged_by = "queries" if asked is not None else "demonstrations" if folds is None else "folds"
    full_accuracy = fmean(full_scores) if full_scores else None
    memory, temperature, answers = None, None, []
    if chosen is not None:
        recipe = next(one for one in found if one.name == chosen.recipe)
        memory = judge.build(recipe, chosen.core)
        answers = judge.answers(recipe, chosen.core, memory=memory)
        temperature = _temperature(judge, recipe, chosen.core, memory)
        facts = {
            "judged_by": judged_by,
            "queries": len(judge.queries),
            "agreement": chosen.agreement,
            "accuracy": chosen.accuracy,
            "full_accuracy": full_accuracy,
            "temperature": temperature,
            "sureness": sorted(
                sureness(one.log_probabilities) for one in answers if one.log_probabilities
            ),
        }
        memory = memory.replaced(recipe=memory.recipe | {"tuned": facts})
    scores = judge.score(answers)
    pairs = [(one.expected[0], one.text) for one in answers if one.expected]
    return Tuned(
        chosen=chosen,
        memory=memory,
        evaluations=tuple(search.evaluations),
        full_accuracy=full_accuracy,
        interval=interval(fmean(scores), len(scores)) if scores else None,
        confusions=tuple(confusions(pairs)),
        temperature=temperature,
        judged_by=judged_by,
        queries=len(judge.queries),
        metric=metric,
        seconds={
            "encode": read_at - started,
            "evaluate": sum(one.seconds for one in search.evaluations),
            "total": time.perf_counter() - started,
        },
        why=target.why(chosen, search.evaluations, full_accuracy),
        answers=tuple(answers),
    )


def _temperature(
    judge: Judge, recipe: Recipe, core: str | None, memory: TaskMemory
) -> float | None:
    """Fitted on the queries whose right answer is a label, where labels are few."""
    own = [entry.answer for entry in memory.demonstrations if entry.answer is not None]
    labels = list(dict.fromkeys(answer.strip() for answer in own))
    if not 1 < len(labels) <= FEW:
        return None
    answers = judge.answers(recipe, core, memory=memory, labels=labels)
    known = [one for one in answers if one.expected and one.expected[0].strip() in labels]
    if not known:
        return None
    scores = [{one.text: one.log_probability for one in answer.labels} for answer in known]
    table = torch.tensor([[row[label] for label in labels] for row in scores])
    return fit_temperature(table, [labels.index(one.expected[0].strip()) for one in known])


def _recipes(given: str | Recipe | Sequence[str | Recipe]) -> list[Recipe]:
    several = [given] if isinstance(given, str | Recipe) else list(given)
    found = [find_recipe(one) for one in several]
    if not found:
        raise InputError("recipes is empty; expected at least one.")
    prompt = next((one for one in found if one.kind == "prompt"), None)
    if prompt is not None:
        raise RecipeError(f"The recipe {prompt.name!r} is an ordinary prompt: nothing to tune.")
    return found


def _check(
    rows: Sequence[Demonstration], queries: Any, folds: int | None, target_accuracy: float | None
) -> None:
    if queries is not None and folds is not None:
        raise InputError("queries and folds are both given; expected one of them.")
    if queries is not None and not queries:
        raise InputError("There are no queries; expected at least one.")
    if target_accuracy is not None and queries and not any(one.answers for one in queries):
        raise InputError("target_accuracy needs queries with answers, and none has one.")
    if folds is not None:
        whole_number(folds, "folds", least=2)
    needed = max(2, folds or 0)
    if queries is None and len(rows) < needed:
        raise InputError(
            f"There are {len(rows)} demonstrations; expected at least {needed}, since some are "
            "left out to be asked. Give queries instead."
        )
