"""Recipes stored in four bits a number: at equal bytes they keep about four times the tokens.

Knows no torch. Any memory can be packed (`tasm build --store int4`, `tasm pack`); these rows are
there so that leaderboards compare packed with packed at equal bytes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from tasm.compress.recipes.recipe import Recipe

NAMES = ("compact", "kvzip", "kvzip-tuned", "snapkv-answers", "h2o-tuned", "recent")
"""The recipes that have a row in four bits."""


def in_four_bits(recipes: Mapping[str, Recipe], names: Iterable[str] = NAMES) -> tuple[Recipe, ...]:
    """Return the named recipes as they are but for what keys and values are stored as.

    ```python
    [row.name for row in in_four_bits(RECIPES)][0]      # 'compact-int4'
    ```
    """
    return tuple(
        replace(
            recipes[name],
            name=f"{name}-int4",
            title=f"{recipes[name].title}; in four bits",
            store="int4",
        )
        for name in names
    )
