"""Suite cards: what a suite can tell, seen from how much each kind of token gives.

Accuracy with all demonstration tokens, none, a random fifth, answer tokens only and image tokens
only. A suite that answer tokens alone solve cannot tell one memory method from another. Imports
no torch.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tasm.bench.pool import PooledRow
from tasm.compress.recipes.table import Part, Recipe
from tasm.view.tables import markdown

if TYPE_CHECKING:
    from tasm.memory.tokens import TokenTable

_TITLES = {
    "answer-tokens": "The demonstrations' answer tokens and nothing else",
    "image-tokens": "The demonstrations' image tokens and nothing else",
}
_ROLES = {"answer-tokens": "ANSWER", "image-tokens": "IMAGE"}

CARDS: dict[str, Recipe] = {
    name: Recipe(
        name,
        title,
        2026,
        "",
        scorer=Part("tasm.bench.one_role:OneRole", {"role": _ROLES[name]}),
    )
    for name, title in _TITLES.items()
}
"""Recipes that keep the tokens of one role, by name; not offered for building."""

COLUMNS = {
    "all tokens": "full",
    "none": "zero-shot",
    "a random fifth": "random",
    "answer tokens": "answer-tokens",
    "image tokens": "image-tokens",
}
"""A card's columns and the recipe that each one shows."""

RANDOM_SHARE = "20%"


def role_tokens(recipe: Recipe, tokens: "TokenTable") -> int:
    """Return how many tokens a card's recipe keeps: its role's, and the system prompt's."""
    from tasm.backbone.prompt.transcript import Role

    role = int(Role[_ROLES[recipe.name]])
    in_demonstrations = tokens.demonstration >= 0
    wanted = (tokens.roles == role) & in_demonstrations
    return int(wanted.sum() + (~in_demonstrations).sum())


def card_table(rows: Iterable[PooledRow]) -> str:
    """Return the cards of all measured suites as a Markdown table of accuracies."""
    header, *body = card_texts(rows)
    return "\n".join(markdown(header, body)) + "\n"


def card_texts(rows: Iterable[PooledRow]) -> list[list[str]]:
    """Return the cards as cells: a header, then one row a suite.

    The last column is what is lost when only answer tokens are kept.
    """
    found: dict[str, dict[str, PooledRow]] = {}
    for row in rows:
        if row.recipe in COLUMNS.values() and (row.recipe != "random" or row.core == RANDOM_SHARE):
            found.setdefault(row.suite, {})[row.recipe] = row
    made = [["suite", *COLUMNS, "lost with answer tokens only"]]
    for suite, by_recipe in found.items():
        cells = [suite, *(_figure(by_recipe.get(recipe)) for recipe in COLUMNS.values())]
        full, answers = by_recipe.get("full"), by_recipe.get("answer-tokens")
        lost = None if full is None or answers is None else full.accuracy - answers.accuracy
        cells.append("–" if lost is None else f"{lost:.2f}")
        made.append(cells)
    return made


def _figure(row: PooledRow | None) -> str:
    if row is None:
        return "–"
    return f"{row.accuracy:.2f} [{row.ci95[0]:.2f}, {row.ci95[1]:.2f}]"
