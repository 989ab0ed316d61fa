"""Which recipe at which core is evaluated next, and which one is taken in the end."""

from collections.abc import Callable, Sequence

from tasm.compress.recipes.recipe import Recipe
from tasm.compress.recipes.table import find_recipe
from tasm.sizing.judge import Evaluation, Judge
from tasm.sizing.search import MOST_EVALUATIONS, grid, smallest_that_passes
from tasm.sizing.target import Target, stored_bytes

Report = Callable[[str, int, int], None]


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
        return min(found, key=stored_bytes, default=None)

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

        def fits(place: int) -> bool:
            memory = self.judge.build(recipe, cores[place])
            return memory.core_bytes + memory.bank_bytes <= most

        low, high = -1, len(cores)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return cores[: low + 1]

    def _evaluate(self, recipe: Recipe, core: str | None) -> Evaluation:
        most = MOST_EVALUATIONS * len(self.recipes) if self.target.searches else len(self.recipes)
        self.report("Evaluating", len(self.evaluations), most)
        self.evaluations.append(self.judge.evaluate(recipe, core))
        self.report("Evaluating", len(self.evaluations), most)
        return self.evaluations[-1]
