"""Which recipes are measured at which budgets: the columns of a leaderboard.

Knows the table of recipes, not how one is run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasm.bench.cards import CARDS, RANDOM_SHARE
from tasm.compress.recipes.table import find_recipe
from tasm.compress.sizes import parse_size
from tasm.errors import InputError


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

    `bank` overrides the recipes' own bank where a recipe can have one (it has a scorer). Recipes
    that take no budget (`full`, `zero-shot`, `emloc-paper`) give one cell each.

    ```python
    >>> expand(["full", "tasm"], ["20%", "5%"], None)
    [Cell(recipe='full', core=None, bank=None), Cell(recipe='tasm', core='20%', bank='40%'), ...]
    ```

    Raises:
        RecipeError: if a recipe is not known.
        BudgetError: if a budget cannot be read.
        InputError: if a recipe or a budget is named twice.
    """
    for kind, names in (("--recipes", recipes), ("--core", cores)):
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"{kind} names {name!r} twice.")
    for what, sizes in (("core", cores), ("bank", [] if bank is None else [bank])):
        for size in sizes:
            parse_size(size, what)
    cells = []
    for name in recipes:
        recipe = find_recipe(name)
        if recipe.kind == "prompt" and not takes_core(name):
            cells.append(Cell(name, None, None))
            continue
        chosen = bank if bank is not None and takes_bank(name) else recipe.bank
        if takes_core(name):
            cells += [Cell(name, core, chosen) for core in cores]
        else:
            cells.append(Cell(name, None, None if recipe.keeps_everything else chosen))
    return cells


def takes_core(name: str) -> bool:
    """Return whether a core budget changes a recipe's figures; for prompts, whether it bounds them.

    ```python
    >>> takes_core("tasm"), takes_core("emloc-paper"), takes_core("retrieve-demos")
    (True, False, True)
    ```
    """
    recipe = find_recipe(name)
    return recipe.takes_core and name != "zero-shot"


def takes_bank(name: str) -> bool:
    """Return whether a recipe can have a bank: it has a scorer, and leaves something out."""
    recipe = find_recipe(name)
    return recipe.kind == "memory" and not recipe.keeps_everything


def card_cells() -> list[Cell]:
    """Return the cells that a suite's card needs."""
    return [
        Cell("full", None, None),
        Cell("zero-shot", None, None),
        Cell("random", RANDOM_SHARE, find_recipe("random").bank),
        *(Cell(name, None, None) for name in CARDS),
    ]
