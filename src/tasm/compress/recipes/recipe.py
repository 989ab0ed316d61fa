"""What a recipe is: a published method as parts with settings. Knows no torch.

Parts are called by name (`parts`), and their classes imported when made.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, Literal

from tasm.compress.recipes.parts import name_of, place_of
from tasm.errors import RecipeError


@dataclass(frozen=True)
class Part:
    """One part of a recipe: which it is, by name or by where its class lives, and its settings.

    ```python
    Part("task-scorer", {"value_weight": 0.2}).make()
    Part("my_package.module:MyScorer").name      # 'my-scorer': what is stored of it
    ```

    Raises RecipeError for a part there is not.
    """

    part: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        place_of(self.part)

    @property
    def name(self) -> str:
        """What memories and leaderboards call it."""
        return name_of(self.part)

    @property
    def class_name(self) -> str:
        """The class's name, for tables."""
        return place_of(self.part).rpartition(":")[2]

    def find(self) -> type:
        """Import the class; raises RecipeError where it is not found."""
        module, _, name = place_of(self.part).partition(":")
        try:
            found: type = getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise RecipeError(f"The part {self.part!r} cannot be imported: {error}.") from error
        return found

    def make(self) -> Any:
        """Make it; raises RecipeError where the class does not take the settings."""
        made = self.find()
        try:
            return made(**self.settings)
        except TypeError as error:
            raise RecipeError(
                f"The part {self.part!r} does not take {dict(self.settings)}: {error}."
            ) from error

    def to_json(self) -> dict[str, Any]:
        """Return the part as JSON values."""
        return {"part": self.name, "settings": dict(self.settings)}


@dataclass(frozen=True)
class Alternative:
    """Other parts that a build tries beside a recipe's own, and takes where they change less."""

    name: str
    scorer: Part
    budget: Part
    reducer: Part

    @property
    def parts(self) -> dict[str, Part]:
        """Its parts by what they do."""
        return {"scorer": self.scorer, "budget": self.budget, "reducer": self.reducer}

    def to_json(self) -> dict[str, Any]:
        """Return the parts as JSON values."""
        parts = {name: part.to_json() for name, part in self.parts.items()}
        return {"name": self.name, **parts}


@dataclass(frozen=True)
class Recipe:
    """A method: what it is called, whose it is, and what it is made of.

    `kind` is "memory", or "prompt" for a reference that is an ordinary prompt and builds nothing
    (its parts are None). `core` and `bank` are the budgets it uses unless told otherwise. `gate`
    holds settings of `tasm.memory.GateSettings`, and under `quantile` the share of the
    demonstrations' own divergences below a calibrated threshold. `streaming` says what a new chunk
    does to what is kept: "recompress" lets earlier and new tokens compete for the whole budget,
    "append" gives every chunk its share and never touches it again. `bank_choice` says which
    originals are banked: "score" (the best outside the core), "random", or "images" (image tokens
    first). `others` are parts that a build tries beside these, by asking at most `asked`
    demonstrations; what surely changes their answers less is taken. `takes_core` is False where a
    bound of the method's own decides how much is kept. `whose` says whose parts it is made of,
    where they are not all of one paper. `form` says whose settings they are: the paper's, those of
    a rival's method tuned here on training classes, or ours. `store` is what keys and values are
    stored as unless told otherwise, None for the model's own dtype.
    """

    name: str
    title: str
    year: int
    url: str
    scorer: Part | None = None
    budget: Part | None = Part("uniform")
    reducer: Part | None = Part("drop")
    kind: Literal["memory", "prompt"] = "memory"
    core: str = "20%"
    bank: str = "0"
    bank_choice: str = "score"
    gate: Mapping[str, Any] = field(default_factory=dict)
    modes: tuple[str, ...] = ("joint", "streaming", "independent")
    streaming: Literal["recompress", "append"] = "recompress"
    takes_core: bool = True
    others: tuple[Alternative, ...] = ()
    asked: int = 8
    note: str = ""
    whose: str = ""
    form: Literal["published", "tuned", "ours"] = "published"
    store: str | None = None

    @property
    def parts(self) -> dict[str, Part]:
        """Scorer, budget and reducer by those names; empty for a prompt."""
        parts = {"scorer": self.scorer, "budget": self.budget, "reducer": self.reducer}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def keeps_everything(self) -> bool:
        """Whether no budget applies to it."""
        return self.kind == "memory" and self.core == "100%"

    @property
    def has_bias(self) -> bool:
        """Whether kept tokens carry a bias: how many they stand for, or one that is fitted."""
        settings = {} if self.reducer is None else self.reducer.settings
        return bool(settings.get("count_bias") or settings.get("bias_limit"))

    def with_settings(self, **parts: Mapping[str, Any]) -> "Recipe":
        """Return the recipe with other settings of its parts.

        ```python
        find_recipe("tasm").with_settings(scorer={"value_weight": 0.0}, gate={"kind": "never"})
        ```

        Where a part changes nothing else is tried beside it. Raises RecipeError for a part the
        recipe does not have.
        """
        changed: dict[str, Any] = {} if set(parts) <= {"gate"} else {"others": ()}
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
        """Return every setting as JSON values: what a memory records, and what tells two rows
        apart."""
        return {
            "name": self.name,
            "kind": self.kind,
            **dict.fromkeys(("scorer", "budget", "reducer")),
            **{name: part.to_json() for name, part in self.parts.items()},
            "core": self.core,
            "bank": self.bank,
            "bank_choice": self.bank_choice,
            "gate": dict(self.gate),
            "streaming": self.streaming,
            **({} if self.store is None else {"store": self.store}),
            **self._trial(),
        }

    def _trial(self) -> dict[str, Any]:
        """What is tried, for recipes that try anything."""
        if not self.others:
            return {}
        return {"others": [other.to_json() for other in self.others], "asked": self.asked}
