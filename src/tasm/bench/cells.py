"""Which recipes are measured at which budgets: the columns of a leaderboard.

Knows the table of recipes, not how one is run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasm.bench.cards import CARDS, RANDOM_SHARE
from tasm.compress.recipes.table import Recipe, find_recipe
from tasm.compress.sizes import parse_size
from tasm.errors import BudgetError, InputError


@dataclass(frozen=True)
class Cell:
    """One recipe at one core budget and one bank budget, as the user wrote them.

    `core` and `bank` are None where the recipe has none, or where `stored` says what both together
    may take: a share of the full context's bytes, or bytes.
    """

    recipe: str
    core: str | None
    bank: str | None
    stored: str | None = None

    @property
    def form(self) -> Recipe:
        """The recipe, or the card's."""
        return CARDS[self.recipe] if self.recipe in CARDS else find_recipe(self.recipe)

    @property
    def settings(self) -> Mapping[str, Any]:
        """Everything of the recipe that could change its figures, as JSON."""
        budgets = {"core": self.core, "bank": self.bank, "stored": self.stored}
        return {"recipe": self.form.to_json(), **budgets}


def expand(
    recipes: Sequence[str], cores: Sequence[str], bank: str | None, stored: Sequence[str] = ()
) -> list[Cell]:
    """Return the cells of a leaderboard: every recipe at every core budget, then at every budget
    of stored bytes.

    `bank` overrides the recipes' own bank where a recipe can have one (it has a scorer); within
    stored bytes core and bank have the recipe's own proportion. Recipes that take no budget
    (`full`, `zero-shot`, `emloc-paper`) give one cell each, prompts none of stored bytes.

    ```python
    >>> expand(["full", "tasm"], ["20%", "5%"], None)
    [Cell(recipe='full', core=None, bank=None), Cell(recipe='tasm', core='20%', bank='40%'), ...]
    ```

    Raises:
        RecipeError: if a recipe is not known.
        BudgetError: if a budget cannot be read.
        InputError: if a recipe or a budget is named twice.
    """
    for kind, names in (("--recipes", recipes), ("--core", cores), ("--bytes", stored)):
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"{kind} names {name!r} twice.")
    for what, sizes in (("core", cores), ("bank", [] if bank is None else [bank])):
        for size in sizes:
            parse_size(size, what)
    for size in stored:
        if parse_size(size, "stored").unit == "tokens":
            raise BudgetError(
                f"--bytes {size} is a number of tokens; expected a share of the full context's "
                "bytes (20%), or bytes (64MB)."
            )
    cells = []
    for name in recipes:
        recipe = find_recipe(name)
        if recipe.kind == "prompt" and not takes_core(name):
            cells.append(Cell(name, None, None))
            continue
        chosen = bank if bank is not None and takes_bank(name) else recipe.bank
        if takes_core(name):
            cells += [Cell(name, core, chosen) for core in cores]
            cells += [Cell(name, None, None, size) for size in stored if takes_stored(name)]
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


def takes_stored(name: str) -> bool:
    """Return whether a recipe divides a budget of bytes between its core and its bank."""
    return find_recipe(name).kind == "memory" and takes_core(name)


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
