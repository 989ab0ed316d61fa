"""The table of recipes: one row a published method. Knows no torch.

To add a method write its new part (one file under `scorers/`, `budgets/`, `reducers/`) and one row
in `published`; a package of someone else offers rows through the entry point group `tasm.recipes`
(each entry a `Recipe` or a list of them).
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points

from tasm.compress.recipes.forms import in_four_bits, tuned
from tasm.compress.recipes.published import ROWS as _PUBLISHED
from tasm.compress.recipes.recipe import Alternative, Part, Recipe
from tasm.compress.recipes.retrieving import ROWS as _RETRIEVING
from tasm.compress.recipes.variants import variants
from tasm.errors import RecipeError, did_you_mean

__all__ = [
    "DEFAULT_RECIPE",
    "PACKED",
    "RECIPES",
    "TUNED",
    "VARIANTS",
    "Part",
    "Recipe",
    "all_recipes",
    "find_recipe",
    "table",
]

DEFAULT_RECIPE = "compact"
"""What a build takes unless told otherwise: first at equal bytes on all instruments."""

_TASM = "https://arxiv.org/abs/2606.11853"

# Layers, merging and gate differ from the paper: docs/experiments.md has the figures.
_TASK = Part("task-scorer", {"attending": "predictions"})
_EFFECT = Part("effect", {"norm": 2.0})
_MEASURED = Part("measured", {"floor": 0.1})
_FITTED = Part("fitted-values")
_LAYERS = Part("neyman", {"power": 1.0})
_COUNTED = Part(
    "nearest-merge",
    {"weighting": "count", "count_bias": 1.0, "layers": "below the mean"},
)

_ROWS = (
    Recipe(
        "tasm",
        "Task-Aware Structured Memory",
        2026,
        _TASM,
        scorer=_TASK,
        budget=_LAYERS,
        reducer=_COUNTED,
        others=(
            Alternative(
                "measured layers",
                _TASK,
                Part("measured", {"source": "reading", "at_most": 64}),
                _COUNTED,
            ),
        ),
        asked=3,
        bank="40%",
        bank_choice="random",
        gate={
            "kind": "js",
            "epsilon": "calibrated",
            "top_k": 48,
            "quantile": "need",
            "asking": "each",
        },
        whose="task score, core, bank and gate are TASM's; that layers get unequal shares, how "
        "tokens merge, the random bank and the calibrated gate are this project's",
        form="ours",
    ),
    Recipe(
        "compact",
        "Measured layers, fitted values, no bank",
        2026,
        "",
        scorer=Part("reconstruction", {"among": "both", "last_rows": "predictions"}),
        budget=Part("compromise", {"floor": 0.1}),
        reducer=_FITTED,
        others=(
            Alternative("by effect", _EFFECT, _MEASURED, _FITTED),
            Alternative("by effect, even layers", _EFFECT, Part("uniform"), _FITTED),
        ),
        note="for the fewest bytes; building reads the demonstrations twice and asks some of them "
        "again",
        asked=3,
        whose="nothing of it is TASM's: the score is KVzip's, fitted values are Attention "
        "Matching's; layers lie between KVzip's and measured ones; measuring, effect and trial are "
        "this project's",
        form="ours",
    ),
    Recipe(
        "tasm-compact",
        "What `compact` was before 0.2",
        2026,
        _TASM,
        scorer=Part("reconstruction"),
        budget=_LAYERS,
        reducer=_COUNTED,
        note="for memories that were built with it; its layers starve real language models, take "
        "`compact`",
        form="ours",
    ),
    Recipe(
        "tasm-paper",
        "Task-Aware Structured Memory, as printed",
        2026,
        _TASM,
        scorer=Part(
            "task-scorer",
            {"direction": "hidden", "scaling": "literal", "value_weight": 1.0},
        ),
        reducer=Part(
            "spatial-merge",
            {"keys": "rotated", "metric": "manhattan", "text_scope": "anywhere"},
        ),
        bank="40%",
        gate={"kind": "js", "epsilon": 0.002, "top_k": 96, "largest_share": 1.0},
    ),
    Recipe(
        "full",
        "Full context: every token, unaltered",
        2026,
        "",
        scorer=Part("equal"),
        core="100%",
        takes_core=False,
        note="the oracle for exactness",
    ),
    Recipe(
        "zero-shot",
        "No demonstrations",
        2026,
        "",
        kind="prompt",
        budget=None,
        reducer=None,
        modes=(),
    ),
    Recipe(
        "retrieve-demos",
        "The demonstrations nearest by picture as an ordinary prompt (RICES)",
        2022,
        "https://arxiv.org/abs/2109.05014",
        kind="prompt",
        budget=None,
        reducer=None,
        modes=(),
    ),
    Recipe(
        "random",
        "Random tokens",
        2026,
        "",
        scorer=Part("random"),
    ),
    Recipe(
        "recent",
        "Sinks and the most recent tokens (StreamingLLM)",
        2023,
        "https://arxiv.org/abs/2309.17453",
        scorer=Part("recent", {"sinks": 4}),
    ),
)


def table(rows: Iterable[Recipe]) -> dict[str, Recipe]:
    """Return recipes by name; raises RecipeError where two have the same."""
    found: dict[str, Recipe] = {}
    for row in rows:
        if row.name in found:
            raise RecipeError(f"two recipes are called {row.name!r}")
        found[row.name] = row
    return found


VARIANTS: tuple[Recipe, ...] = variants(replace(_ROWS[0], others=()))
"""Ablations of `tasm`, after the others in listings."""

TUNED: tuple[Recipe, ...] = tuned(table(_PUBLISHED))
"""Rivals' methods tuned on training classes, after the published ones in listings."""

PACKED: tuple[Recipe, ...] = in_four_bits(table([*_ROWS, *_PUBLISHED, *TUNED]))
"""Recipes stored in four bits, after the tuned ones in listings."""

RECIPES: dict[str, Recipe] = table([*_ROWS, *_PUBLISHED, *_RETRIEVING, *TUNED, *PACKED, *VARIANTS])
"""The recipes of this package; `all_recipes` adds those of others."""


@cache
def all_recipes() -> dict[str, Recipe]:
    """Return this package's recipes and those that installed packages register."""
    rows = list(RECIPES.values())
    for entry in entry_points(group="tasm.recipes"):
        offered = entry.load()
        for recipe in [offered] if isinstance(offered, Recipe) else list(offered):
            if not isinstance(recipe, Recipe):
                raise RecipeError(
                    f"the entry point {entry.name!r} of group tasm.recipes offers a "
                    f"{type(recipe).__name__}; expected a Recipe or a list of them"
                )
            rows.append(recipe)
    return table(rows)


def find_recipe(name: str | Recipe) -> Recipe:
    """Return the recipe of that name.

    ```python
    find_recipe("tasm").bank       # '40%'
    ```

    Raises RecipeError for an unknown one, with the nearest name.
    """
    if isinstance(name, Recipe):
        return name
    recipes = all_recipes()
    if name not in recipes:
        raise RecipeError(
            f"There is no recipe {name!r}.{did_you_mean(name, recipes)} `tasm recipes` lists them."
        )
    return recipes[name]
