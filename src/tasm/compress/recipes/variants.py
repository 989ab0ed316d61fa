"""Ablations of TASM as recipes: its tables 3, 7 and 8, and figure 4. Knows no torch."""

from dataclasses import replace

from tasm.compress.recipes.recipe import Part, Recipe

_UNIFORM = Part("uniform")
_DROP = Part("drop")
_SPATIAL = Part(
    "spatial-merge",
    {"threshold": 0.8, "sharpness": 8.0, "sink_weight": "itself"},
)


def variants(tasm: Recipe) -> tuple[Recipe, ...]:
    """Return what `tasm` becomes with a part taken away or another rule.

    ```python
    [row.name for row in variants(find_recipe("tasm"))][0]      # 'tasm-hard-pruning'
    ```
    """
    spatial = replace(tasm, reducer=_SPATIAL)
    even = replace(spatial, budget=_UNIFORM)
    static = replace(even, bank="0", gate={"kind": "never"})
    pruned = replace(static, reducer=_DROP)
    steps = (
        _row(
            pruned.with_settings(scorer={"task_share": 0.0}),
            "tasm-hard-pruning",
            "TASM's table 3: hard pruning by answer attention",
        ),
        _row(pruned, "tasm-task-vector", "TASM's table 3: + task vector"),
        _row(static, "tasm-merging", "TASM's table 3: + merging"),
        _row(even, "tasm-even-layers", "TASM's table 3: + retrieval"),
        _row(spatial, "tasm-spatial-merging", "+ tokens divided among layers (not in the paper)"),
    )
    shares = tuple(
        _row(
            tasm.with_settings(scorer={"task_share": share}),
            f"tasm-share-{share:g}",
            f"TASM's figure 4: λ = {share:g} in every layer",
        )
        for share in (0.0, 0.1, 0.3, 0.5, 0.7, 1.0)
    )
    others = (
        _row(
            tasm.with_settings(scorer={"direction": "random"}),
            "tasm-random-direction",
            "TASM's table 8: a random τ",
        ),
        _row(
            tasm.with_settings(scorer={"extracted_from": "other answers"}),
            "tasm-transferred-direction",
            "TASM's table 8: τ of demonstrations with other answers",
        ),
        _row(
            replace(tasm, scorer=Part("random")),
            "tasm-random-score",
            "what the score is worth: random numbers in its place",
        ),
        _row(
            tasm.with_settings(gate={"kind": "never"}),
            "tasm-retrieval-never",
            "TASM's table 7: a bank that is never asked",
        ),
        _row(
            tasm.with_settings(gate={"kind": "missing", "epsilon": 3.0, "first_steps": 2}),
            "tasm-missing-gate",
            "a gate that weighs core and bank, asked at two steps",
        ),
        _row(
            tasm.with_settings(gate={"kind": "missing", "quantile": 0.75, "first_steps": 1}),
            "tasm-weighing-gate",
            "a gate that weighs core and bank, its thresholds measured, asked once a query",
        ),
        _row(
            tasm.with_settings(gate={"kind": "always"}),
            "tasm-retrieval-always",
            "TASM's table 7: retrieval at every step",
        ),
        *(
            _row(
                tasm.with_settings(gate={"kind": "always", "interval": steps}),
                f"tasm-retrieval-every-{steps}",
                f"TASM's table 7: retrieval at every {steps}th step",
            )
            for steps in (10, 50)
        ),
    )
    return steps + shares + others


def _row(recipe: Recipe, name: str, title: str) -> Recipe:
    return replace(recipe, name=name, title=title)
