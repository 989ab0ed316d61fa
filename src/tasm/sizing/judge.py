"""How a memory of some recipe and core answers queries that it was not made from.

Demonstrations are read once; every recipe and core is compressed from that reading. Three ways to
have queries: the demonstrations, each hidden from its own query (`leave_out`; later demonstrations
have seen it, so it leaks a little); folds, each asked of memories read without it; or queries.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean

from tasm.answer import Answer
from tasm.answer.ask import ask_batches
from tasm.answer.labels import Labels
from tasm.compress.encoded import Encoded
from tasm.compress.recipes.recipe import Recipe
from tasm.demonstrations import Demonstration, Query
from tasm.demonstrations.metrics import METRICS
from tasm.memory import TaskMemory

Z = 1.959964


@dataclass(frozen=True)
class Evaluation:
    """One recipe at one core: `agreement` is the share of answers that are the full context's,
    `accuracy` None where no answers are known; bytes are those of the memory of everything."""

    recipe: str
    core: str | None
    agreement: float
    accuracy: float | None
    core_bytes: int
    bank_bytes: int
    seconds: float

    @property
    def stored_bytes(self) -> int:
        """What the memory takes, core and bank."""
        return self.core_bytes + self.bank_bytes


@dataclass(frozen=True, eq=False)
class Asked:
    """Some queries and the reading that answers them; `left_out` hides a demonstration each."""

    encoded: Encoded
    queries: list[Query]
    left_out: list[int] | None = None


class Judge:
    """Answers the same queries from memories of one set of demonstrations, `whole`.

    ```python
    recipes = [find_recipe("tasm")]
    judge = Judge(demonstrations, lambda some: Encoded(backbone, some, recipes))
    judge.full = judge.answers(find_recipe("full"), None)
    judge.evaluate(recipes[0], core="10%").agreement
    ```

    What has to be read is read once, and once more for every fold.
    """

    def __init__(
        self,
        demonstrations: Sequence[Demonstration],
        read: Callable[[Sequence[Demonstration]], Encoded],
        *,
        queries: Sequence[Query] | None = None,
        folds: int | None = None,
        bank: str | None = None,
        metric: str = "exact",
        batch_size: int = 16,
    ) -> None:
        self.whole = whole = read(demonstrations)
        own = [one.as_query() for one in demonstrations]
        if queries is not None:
            self.asked = [Asked(whole, list(queries))]
        elif folds is None:
            self.asked = [Asked(whole, own, list(range(len(own))))]
        else:
            self.asked = [
                Asked(
                    read([one for n, one in enumerate(demonstrations) if n % folds != fold]),
                    own[fold::folds],
                )
                for fold in range(folds)
            ]
        self.queries = [query for one in self.asked for query in one.queries]
        self.full: list[Answer] = []
        self._bank = bank
        self._metric = METRICS[metric]
        self._batch_size = batch_size

    def score(self, answers: Sequence[Answer]) -> list[float]:
        """Return each answer's score by the metric, of those whose expected answer is known."""
        return [self._metric(one.text, one.expected) for one in answers if one.expected]

    def build(self, recipe: Recipe, core: str | None) -> TaskMemory:
        """Return the memory of everything."""
        return self._build(self.whole, recipe, core)

    def answers(
        self,
        recipe: Recipe,
        core: str | None,
        *,
        memory: TaskMemory | None = None,
        labels: Labels | None = None,
    ) -> list[Answer]:
        """Ask all queries; `memory` is that of everything, where it is built already."""
        found: list[Answer] = []
        for asked in self.asked:
            same = memory is not None and asked.encoded is self.whole
            built = memory if same else self._build(asked.encoded, recipe, core)
            assert built is not None
            for batch in ask_batches(
                self.whole.backbone,
                built,
                asked.queries,
                batch_size=self._batch_size,
                labels=labels,
                left_out=asked.left_out,
            ):
                found += batch.answers
        return found

    def evaluate(self, recipe: Recipe, core: str | None) -> Evaluation:
        """Build, ask, and compare with the full context's answers, `full`."""
        started = time.perf_counter()
        memory = self.build(recipe, core)
        answers = self.answers(recipe, core, memory=memory)
        same = [one.text == full.text for one, full in zip(answers, self.full, strict=True)]
        scores = self.score(answers)
        return Evaluation(
            recipe=recipe.name,
            core=core,
            agreement=fmean(same),
            accuracy=fmean(scores) if scores else None,
            core_bytes=memory.core_bytes,
            bank_bytes=memory.bank_bytes,
            seconds=time.perf_counter() - started,
        )

    def _build(self, encoded: Encoded, recipe: Recipe, core: str | None) -> TaskMemory:
        if recipe.keeps_everything:
            return encoded.build(recipe)
        return encoded.build(recipe, core=core, bank=self._bank)


@dataclass(frozen=True)
class Confusion:
    """How often `said` was answered where `expected` was right."""

    expected: str
    said: str
    times: int


def interval(mean: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of `count` answers (Wilson 1927).

    ```python
    >>> low, high = interval(1.0, 40)
    >>> round(low, 3), high
    (0.912, 1.0)
    ```
    """
    centre = mean + Z**2 / (2 * count)
    spread = Z * sqrt(mean * (1 - mean) / count + Z**2 / (4 * count**2))
    scale = 1 + Z**2 / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def confusions(pairs: Sequence[tuple[str, str]]) -> list[Confusion]:
    """Return every (expected, said) with how often it came, right ones included, in order.

    ```python
    >>> confusions([("wren", "robin"), ("wren", "wren")])[0].said
    'robin'
    ```
    """
    return [Confusion(*pair, times) for pair, times in sorted(Counter(pairs).items())]
