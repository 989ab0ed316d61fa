"""The three kinds of parts that a recipe composes, with what they are unless they say otherwise.

A part is a small frozen dataclass in a file of its own, derived from one of these, with one method.
Its fields are its settings. Any other public name must be one of its kind's, so that a misspelt one
fails when the class is made.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar

import torch
from torch import Tensor

from tasm.compress.evidence import Evidence, Selection, Stage
from tasm.compress.recipes.recipe import Part, Recipe
from tasm.compress.records.record import Record
from tasm.errors import RecipeError, did_you_mean
from tasm.memory.layer import LayerTokens


class _Part:
    """Checks what a class derived from a kind of part defines."""

    method: ClassVar[str]

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        kind: type[_Part] = next(base for base in cls.__mro__ if _Part in base.__bases__)
        if cls is kind:
            return
        known = [name for name in dir(kind) if not name.startswith("_") and name != "method"]
        settings = {n for n, a in inspect.get_annotations(cls).items() if "ClassVar" not in str(a)}
        for name in {*vars(cls), *settings}:
            is_misspelt = name in settings and get_close_matches(name, known, cutoff=0.8)
            if name.startswith("_") or name in known or (name in settings and not is_misspelt):
                continue
            raise RecipeError(
                f"{cls.__name__}.{name}: a {kind.__name__} has no {name!r}."
                f"{did_you_mean(name, known)} Expected {', '.join(known)}, settings (annotated "
                "fields), or a name that begins with an underscore."
            )
        if getattr(cls, kind.method) is getattr(kind, kind.method):
            raise RecipeError(
                f"{cls.__name__} has no method {kind.method!r}, which every {kind.__name__} has."
            )

    @property
    def records(self) -> tuple[Record, ...]:
        """What must be gathered while the demonstrations are read; it is in `evidence.records`."""
        return ()

    @property
    def replayed(self) -> tuple[Record, ...]:
        """What must be gathered while the demonstrations are read once more before scoring, against
        everything; it is in `evidence.replayed`."""
        return ()


class Scorer(_Part):
    """Gives every token an importance, per layer and KV head.

    ```python
    @dataclass(frozen=True)
    class KeyNorm(Scorer):
        def score(self, evidence: Evidence) -> Tensor:
            return -evidence.keys.float().norm(dim=-1)
    ```
    """

    method = "score"

    def source_layer(self, layer: int, layers: int) -> int:
        """Return the layer whose scores this one takes: its own, or another's."""
        return layer

    def score(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries) float32, larger is more important, finite.

        System prompt and BOS are kept whatever they get; padding is ignored.
        """
        raise NotImplementedError


class Budget(_Part):
    """Says how many tokens every layer and KV head keep."""

    method = "allocate"

    @property
    def reads_again(self) -> bool:
        """Whether it needs `stage.read`: a reading of the demonstrations over everything
        (`tasm.compress.replay`)."""
        return False

    def allocate(self, stage: Stage) -> list[Tensor | None]:
        """Return by layer (kv_heads,) int64 counts, the always kept ones included; None as in the
        stage.

        Their mean over competing layers and heads should be at most `stage.tokens`.
        """
        raise NotImplementedError

    def allocate_bank(
        self, stage: Stage, core: list[Tensor | None], bank: int
    ) -> list[Tensor | None]:
        """Return (kv_heads,) originals each layer banks, those of earlier chunks included: `bank`
        in each, unless the budget divides them among layers."""
        return [None if count is None else torch.full_like(count, bank) for count in core]


class Reducer(_Part):
    """Says how the others leave: dropped, or merged into what is kept."""

    method = "reduce"

    def reduce(self, evidence: Evidence, selection: Selection, scores: Tensor) -> LayerTokens:
        """Return the kept entries in the order of `selection.order`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Parts:
    """A recipe's parts, made."""

    scorer: Scorer
    budget: Budget
    reducer: Reducer
    name: str = "its own"
    others: tuple["Parts", ...] = ()
    """Parts that are tried beside these."""

    @classmethod
    def of(cls, recipe: Recipe) -> "Parts":
        """Make them; raises RecipeError where settings do not fit, or where one is of another
        kind."""
        others = tuple(
            cls(**_made(other.parts, recipe.name), name=other.name) for other in recipe.others
        )
        return cls(**_made(recipe.parts, recipe.name), others=others)

    @property
    def records(self) -> tuple[Record, ...]:
        """What the parts want gathered."""
        found = [*self.scorer.records, *self.budget.records, *self.reducer.records]
        found += [record for other in self.others for record in other.records]
        return tuple(dict.fromkeys(found))

    @property
    def replayed(self) -> tuple[Record, ...]:
        """What the parts want gathered while demonstrations are read again."""
        found = [*self.scorer.replayed, *self.budget.replayed, *self.reducer.replayed]
        found += [record for other in self.others for record in other.replayed]
        return tuple(dict.fromkeys(found))

    @property
    def reads_again(self) -> bool:
        """Whether a budget needs that reading."""
        return self.budget.reads_again or any(other.reads_again for other in self.others)


def _made(parts: Mapping[str, Part], recipe: str) -> dict[str, Any]:
    kinds = {"scorer": Scorer, "budget": Budget, "reducer": Reducer}
    made = {name: part.make() for name, part in parts.items()}
    for name, kind in kinds.items():
        if not isinstance(made.get(name), kind):
            raise RecipeError(
                f"The {name} of the recipe {recipe!r} is a "
                f"{type(made.get(name)).__name__}, which is no {kind.__name__}: derive its "
                f"class from {kind.__module__}.{kind.__name__}."
            )
    return made
