"""Which recipes are measured at which budgets: the columns of a leaderboard.

Knows the table of recipes, not how one is run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasm.bench.cards import CARDS, RANDOM_SHARE
from tasm.compress.recipes.table import find_recipe
from tasm.errors import InputError

WITHOUT_BUDGET = ("full", "zero-shot")


@dataclass(frozen=True)
class Cell:
    """One recipe at one core budget and one bank budget, as the user wrote them.

    `core` and `bank` are None where the recipe has none.
    """

    recipe: str
    core: str | None
    bank: str | None

    @property
    def settings(self) -> Mapping[str, Any]:
        """Everything of the recipe that could change its figures, as JSON."""
        recipe = CARDS[self.recipe] if self.recipe in CARDS else find_recipe(self.recipe)
        return {"recipe": recipe.to_json(), "core": self.core, "bank": self.bank}


def expand(recipes: Sequence[str], cores: Sequence[str], bank: str | None) -> list[Cell]:
    """Return the cells of a leaderboard: every recipe at every core budget.

    `bank` overrides the recipes' own bank where a recipe can have one (it has a scorer). `full`
    and `zero-shot` have no budget and give one cell each.

    ```python
    >>> expand(["full", "tasm"], ["20%", "5%"], None)
    [Cell(recipe='full', core=None, bank=None), Cell(recipe='tasm', core='20%', bank='40%'), ...]
    ```

    Raises:
        RecipeError: if a recipe is not known.
        InputError: if a recipe or a budget is named twice.
    """
    for kind, names in (("--recipes", recipes), ("--core", cores)):
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"{kind} names {name!r} twice.")
    cells = []
    for name in recipes:
        recipe = find_recipe(name)
        if name in WITHOUT_BUDGET:
            cells.append(Cell(name, None, None))
            continue
        chosen = bank if bank is not None and recipe.kind == "memory" else recipe.bank
        cells += [Cell(name, core, chosen) for core in cores]
    return cells


def card_cells() -> list[Cell]:
    """Return the cells that a suite's card needs."""
    return [
        Cell("full", None, None),
        Cell("zero-shot", None, None),
        Cell("random", RANDOM_SHARE, find_recipe("random").bank),
        *(Cell(name, None, None) for name in CARDS),
    ]
