"""Recipes: published methods as rows of a table. Knows no torch; the parts are imported when made.

A recipe composes a scorer, a budget, a reducer, a bank and a gate. To add a method write its new part
(one file under `scorers/`, `budgets/` or `reducers/`) and one row here; a package of someone else
offers rows through the entry point group `tasm.recipes` (each entry a `Recipe` or a list of them).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal

from tasm.errors import RecipeError, did_you_mean


@dataclass(frozen=True)
class Part:
    """One part of a recipe: where its class lives and the settings it is made with.

    ```python
    Part("tasm.build.scorers.tasm:TaskScorer", {"value_weight": 0.2}).make()
    ```
    """

    place: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The class's name, for tables."""
        return self.place.rpartition(":")[2]

    def make(self) -> Any:
        """Import the class and make it; raises RecipeError where it does not take the settings."""
        module, _, name = self.place.partition(":")
        try:
            return getattr(import_module(module), name)(**self.settings)
        except TypeError as error:
            raise RecipeError(
                f"{self.place} does not take {dict(self.settings)}: {error}"
            ) from error

    def to_json(self) -> dict[str, Any]:
        """Return the part as JSON values."""
        return {"part": self.place, "settings": dict(self.settings)}


@dataclass(frozen=True)
class Recipe:
    """A method: what it is called, whose it is, and what it is made of.

    `kind` is "memory", or "prompt" for a reference that is an ordinary prompt and builds nothing (its
    parts are None). `core` and `bank` are the budgets it uses unless told otherwise. `gate` holds
    settings of `tasm.memory.GateSettings`, and under `quantile` the share of the demonstrations' own
    divergences below a calibrated threshold. `streaming` says what a new chunk does to what is kept:
    "recompress" lets earlier and new tokens compete for the whole budget, "append" gives every chunk
    its share and never touches it again. `bank_choice` says which originals are banked: "score" (the
    best outside the core), "random", or "images" (image tokens first).
    """

    name: str
    title: str
    year: int
    url: str
    scorer: Part | None = None
    budget: Part | None = Part("tasm.build.budgets.uniform:Uniform")
    reducer: Part | None = Part("tasm.build.reducers.drop:Drop")
    kind: Literal["memory", "prompt"] = "memory"
    core: str = "20%"
    bank: str = "0"
    bank_choice: str = "score"
    gate: Mapping[str, Any] = field(default_factory=dict)
    modes: tuple[str, ...] = ("joint", "streaming")
    streaming: Literal["recompress", "append"] = "recompress"
    note: str = ""

    @property
    def keeps_everything(self) -> bool:
        """Whether no budget applies to it."""
        return self.kind == "memory" and self.core == "100%"

    def with_settings(self, **parts: Mapping[str, Any]) -> "Recipe":
        """Return the recipe with other settings of its parts.

        ```python
        find_recipe("tasm").with_settings(scorer={"value_weight": 0.0}, gate={"kind": "never"})
        ```

        Raises RecipeError for a part the recipe does not have.
        """
        changed: dict[str, Any] = {}
        for name, settings in parts.items():
            part = getattr(self, name, None)
            if isinstance(part, Part):
                changed[name] = replace(part, settings={**part.settings, **settings})
            elif name == "gate":
                changed[name] = {**self.gate, **settings}
            else:
                raise RecipeError(f"recipe {self.name!r} has no {name!r} to set")
        return replace(self, **changed)

    def to_json(self) -> dict[str, Any]:
        """Return every setting as JSON values: what a memory records, and what tells two rows apart."""
        parts = {
            name: None if part is None else part.to_json()
            for name, part in (
                ("scorer", self.scorer),
                ("budget", self.budget),
                ("reducer", self.reducer),
            )
        }
        return {
            "name": self.name,
            "kind": self.kind,
            **parts,
            "core": self.core,
            "bank": self.bank,
            "bank_choice": self.bank_choice,
            "gate": dict(self.gate),
            "streaming": self.streaming,
        }


_TASM = {
    "title": "Task-Aware Structured Memory",
    "year": 2026,
    "url": "https://arxiv.org/abs/2606.11853",
}
_NONE = {"year": 2026, "url": ""}

_ROWS = (
    Recipe(
        "tasm",
        **_TASM,
        scorer=Part("tasm.build.scorers.tasm:TaskScorer"),
        reducer=Part("tasm.build.reducers.merge:SpatialMerge"),
        bank="40%",
        gate={"kind": "js", "epsilon": "calibrated", "top_k": 96, "quantile": 0.9},
    ),
    Recipe(
        "tasm-paper",
        title="Task-Aware Structured Memory, as printed",
        year=2026,
        url=_TASM["url"],
        scorer=Part(
            "tasm.build.scorers.tasm:TaskScorer",
            {"direction": "hidden", "scaling": "literal", "value_weight": 1.0},
        ),
        reducer=Part(
            "tasm.build.reducers.merge:SpatialMerge",
            {"keys": "rotated", "metric": "manhattan", "text_scope": "anywhere"},
        ),
        bank="40%",
        gate={"kind": "js", "epsilon": 0.002, "top_k": 96, "largest_share": 1.0},
    ),
    Recipe(
        "full",
        title="Full context: every token, unaltered",
        **_NONE,
        scorer=Part("tasm.build.scorers.simple:Equal"),
        core="100%",
        note="the oracle for exactness",
    ),
    Recipe(
        "zero-shot",
        title="No demonstrations",
        **_NONE,
        kind="prompt",
        budget=None,
        reducer=None,
        modes=(),
    ),
    Recipe(
        "random",
        title="Random tokens",
        **_NONE,
        scorer=Part("tasm.build.scorers.simple:Random"),
    ),
    Recipe(
        "recent",
        title="Sinks and the most recent tokens (StreamingLLM)",
        year=2023,
        url="https://arxiv.org/abs/2309.17453",
        scorer=Part("tasm.build.scorers.simple:Recent", {"sinks": 4}),
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


RECIPES: dict[str, Recipe] = table(_ROWS)
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
            f"There is no recipe {name!r}.{did_you_mean(name, recipes)} "
            f"`tasm recipes` lists them: {', '.join(recipes)}."
        )
    return recipes[name]
