"""Which recipe at which core is evaluated next, and which one is taken in the end.

The smallest entry of a growing grid that passes is found in few evaluations: bisection takes for
granted that what is larger passes too. Measured agreement only nearly does, so what evaluations are
left try whether something much smaller passes as well.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence

from tasm.compress.recipes.recipe import Recipe
from tasm.compress.recipes.table import find_recipe
from tasm.sizing.judge import Evaluation, Judge
from tasm.sizing.target import Target

Report = Callable[[str, int, int], None]
MOST_EVALUATIONS = 6
STEPS_A_HALF = 4
"""Of the grid: so many steps down halve the core."""


def grid(smallest: float) -> list[str]:
    """Return cores as shares from `smallest` to 100%, each 2^(1/4) times the one before.

    ```python
    >>> grid(0.5)
    ['50%', '59.5%', '70.7%', '84.1%', '100%']
    ```
    """
    shares = [100 * 2 ** (-step / STEPS_A_HALF) for step in range(27)]
    kept = [share for share in shares if share >= 100 * smallest]
    return [f"{share:.3g}%" for share in reversed(kept)]


def smallest_that_passes(
    count: int, passes: Callable[[int], bool], most: int = MOST_EVALUATIONS
) -> int | None:
    """Return the place of the smallest entry found to pass, None where the largest does not.

    `passes` is called at most `most` times for up to 2 ** (most - 1) entries, never twice for one.

    ```python
    >>> smallest_that_passes(27, lambda place: place >= 11)
    11
    ```
    """
    known: dict[int, bool] = {}

    def ask(place: int) -> bool:
        if place not in known:
            known[place] = passes(place)
        return known[place]

    low, high = -1, count - 1  # low fails, or is below the grid; high passes, or is the last hope
    while high - low > 1:
        middle = (low + high) // 2
        if ask(middle):
            high = middle
        else:
            low = middle
    if not ask(high):
        return None
    for step in (STEPS_A_HALF, STEPS_A_HALF // 2):
        further = high - step
        if len(known) < most and further >= 0 and further not in known and ask(further):
            high = further
    return high


class Search:
    """Evaluates recipes until the smallest memory that reaches the target is known."""

    def __init__(
        self,
        judge: Judge,
        recipes: Sequence[Recipe],
        target: Target,
        bank: str | None,
        report: Report,
    ) -> None:
        self.judge = judge
        self.recipes = recipes
        self.target = target
        self.bank = bank
        self.report = report
        self.evaluations: list[Evaluation] = []

    def chosen(self) -> Evaluation | None:
        """The evaluation that takes the fewest bytes of those within the target."""
        found = [one for recipe in self.recipes if (one := self._of(recipe)) is not None]
        return min(found, key=lambda one: one.stored_bytes, default=None)

    def _of(self, recipe: Recipe) -> Evaluation | None:
        if not recipe.takes_core or not self.target.searches:
            one = self._evaluate(recipe, recipe.core if recipe.takes_core else None)
            return one if self.target.hold(one) else None
        cores = grid(self.judge.whole.smallest(recipe, self.bank))
        if self.target.max_bytes is not None:
            cores = self._within_bytes(recipe, cores)
            if not cores:
                return None
        if not self.target.is_aimed:  # the largest that fits
            return self._evaluate(recipe, cores[-1])
        known: dict[int, Evaluation] = {}

        def passes(place: int) -> bool:
            known[place] = self._evaluate(recipe, cores[place])
            return self.target.hold(known[place])

        place = smallest_that_passes(len(cores), passes)
        return None if place is None else known[place]

    def _within_bytes(self, recipe: Recipe, cores: list[str]) -> list[str]:
        """The cores whose memories fit; building costs little beside asking."""
        most = self.target.bytes_of(self.judge.build(find_recipe("full"), None).full_bytes)

        def passes_over(place: int) -> bool:
            memory = self.judge.build(recipe, cores[place])
            return memory.core_bytes + memory.bank_bytes > most

        return cores[: bisect_left(range(len(cores)), True, key=passes_over)]

    def _evaluate(self, recipe: Recipe, core: str | None) -> Evaluation:
        most = MOST_EVALUATIONS * len(self.recipes) if self.target.searches else len(self.recipes)
        self.report("Evaluating", len(self.evaluations), most)
        self.evaluations.append(self.judge.evaluate(recipe, core))
        self.report("Evaluating", len(self.evaluations), most)
        return self.evaluations[-1]
