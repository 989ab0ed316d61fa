"""Other forms of published recipes, for fair comparisons: tuned here, or stored in four bits.

Rivals' settings were chosen on training classes, with the same allowance as ours: what was tried,
`benchmarks/tune_rivals.py` holds; what each choice came to, docs/bench.md. In four bits a recipe
keeps about four times the tokens at equal bytes. Any memory can be packed (`tasm build --store
int4`, `tasm pack`); these rows are there so that leaderboards compare packed with packed. Knows no
torch.
"""

from collections.abc import Mapping
from dataclasses import replace

from tasm.compress.recipes.recipe import Part, Recipe

_PACKED = ("compact", "kvzip", "kvzip-tuned", "snapkv-answers", "h2o-tuned", "recent")

_ANSWERS = {"attending": "answer-spans", "source": "reading", "answer_bonus": 0.0, "pool": 1}


def tuned(published: Mapping[str, Recipe]) -> tuple[Recipe, ...]:
    """Return the tuned form of each published recipe that has one.

    ```python
    [row.name for row in tuned(RECIPES)][0]      # 'kvzip-tuned'
    ```
    """
    snapkv, h2o, cam = published["snapkv"], published["h2o"], published["cam"]
    expected = published["expected-attention"]
    return (
        _row(
            published["kvzip"].with_settings(scorer={"repeats": "each"}, budget={"heads": "alike"}),
            "each demonstration repeated by itself, heads alike",
        ),
        _row(
            replace(snapkv, scorer=Part("answer-aware", _ANSWERS)),
            "rows from the token before an answer to its end, no pooling",
        ),
        _row(h2o.with_settings(scorer={"recent": 0.0}), "no share for the newest"),
        _row(
            expected.with_settings(scorer={"rows": "text", "sinks": 0, "epsilon": 0.0}),
            "queries of text rows, no sinks, no epsilon",
        ),
        _row(
            cam.with_settings(
                scorer={"recent": 0.1}, reducer={"values": "averaged", "following": 1}
            ),
            "values averaged into one, a tenth for the newest",
        ),
    )


def _row(recipe: Recipe, how: str) -> Recipe:
    """The recipe under the name of its tuned form."""
    return replace(
        recipe,
        name=f"{recipe.name}-tuned",
        title=f"{recipe.title}; tuned here: {how}",
        form="tuned",
        note="",
    )


def in_four_bits(recipes: Mapping[str, Recipe]) -> tuple[Recipe, ...]:
    """Return those that have such a row, as they are but for what keys and values are stored as.

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
        for name in _PACKED
    )
