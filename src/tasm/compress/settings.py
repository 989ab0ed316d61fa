"""The settings of a build, checked and resolved against a model and a transcript.

What `build` and `plan` share: which recipe, which mode, how many tokens, at what cost in bytes.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch

from tasm.arguments import one_of, text, whole_number
from tasm.backbone.model import Backbone
from tasm.backbone.prompt.transcript import Transcript
from tasm.compress.chunks import CHUNK_TOKENS
from tasm.compress.recipes.recipe import Recipe
from tasm.compress.recipes.table import find_recipe
from tasm.compress.sizes import Costs, bank_tokens, core_tokens, parse_size
from tasm.errors import BudgetError, InputError, RecipeError
from tasm.memory import GateSettings
from tasm.memory.packing.vectors import STORES as PACKED
from tasm.memory.packing.vectors import Store, row_bytes

Mode = Literal["joint", "streaming", "independent"]
Notice = Callable[[str], None]
STORES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
LARGEST_SEED = 2**32 - 1
_INDEX_BYTES = 4
_REFERENCE_BYTES = 4
_BIAS_BYTES = 4
_TABLE_BYTES = 1 + 4 + 4 * 2
_POSITION_BYTES = 4


@dataclass(frozen=True)
class Settings:
    """A build's settings as given, but for the recipe, which is found, and the mode, which is
    checked."""

    recipe: Recipe
    core: str
    bank: str
    mode: Mode
    chunk_tokens: int
    system: str | None
    max_pixels: int | None
    store: str | None
    seed: int
    shown: int = 1
    """Of an independent build: how many demonstrations all others are read after."""
    polish: int = 0
    """Gradient steps on what is kept."""

    @classmethod
    def of(
        cls,
        *,
        recipe: str | Recipe,
        core: str | float | None,
        bank: str | float | None,
        mode: str,
        chunk_tokens: int | None,
        system: str | None,
        max_pixels: int | None,
        store: str | torch.dtype | None,
        seed: int,
        shown: int = 1,
        polish: int = 0,
    ) -> "Settings":
        """Check what can be checked without a model."""
        found = find_recipe(recipe if isinstance(recipe, Recipe) else text(recipe, "recipe"))
        if found.kind == "prompt":
            raise RecipeError(
                f"The recipe {found.name!r} is an ordinary prompt: there is no memory to build. "
                "It is a reference of `tasm bench accuracy`."
            )
        one_of(mode, "mode", CHUNK_TOKENS)
        if mode not in found.modes:
            raise RecipeError(
                f"The recipe {found.name!r} cannot be built in mode {mode!r}; it can in "
                f"{' and '.join(found.modes)}."
            )
        if chunk_tokens is not None:
            chunk_tokens = whole_number(chunk_tokens, "chunk_tokens", least=1)
            if mode == "independent" and chunk_tokens != CHUNK_TOKENS[mode]:
                raise InputError(
                    f"chunk_tokens={chunk_tokens} has no effect in mode independent, which reads "
                    "one demonstration at a time. Leave it out."
                )
        shown = whole_number(shown, "shown", least=1)
        if shown > 1 and mode != "independent":
            raise InputError(
                f"shown={shown} has no effect in mode {mode}, where a demonstration sees all "
                "before it. Leave it out, or build in mode independent."
            )
        polish = whole_number(polish, "polish", least=0)
        if polish and (mode != "joint" or found.keeps_everything):
            where = f"in mode {mode}" if mode != "joint" else f"of the recipe {found.name!r}"
            raise InputError(
                f"polish={polish} cannot be done {where}: it brings what is kept of demonstrations "
                "read together nearer to the full context. Leave it out, or build in mode joint "
                "with a recipe that compresses."
            )
        if max_pixels is not None:
            max_pixels = whole_number(max_pixels, "max_pixels", least=1)
        if system is not None:
            text(system, "system")
        return cls(
            recipe=found,
            core=_budget(core, "core", found.core),
            bank=_budget(bank, "bank", found.bank),
            mode=cast(Mode, mode),
            chunk_tokens=CHUNK_TOKENS[mode] if chunk_tokens is None else chunk_tokens,
            system=system,
            max_pixels=max_pixels,
            store=_store(found.store if store is None else store),
            seed=whole_number(seed, "seed", least=0, most=LARGEST_SEED),
            shown=shown,
            polish=polish,
        )

    @property
    def proportion(self) -> float:
        """Tokens of the recipe's bank for one of its core, by its own budgets."""
        core, bank = parse_size(self.recipe.core, "core"), parse_size(self.recipe.bank, "bank")
        return bank.amount / core.amount

    @property
    def gate(self) -> GateSettings:
        """The recipe's gate."""
        known = {name: value for name, value in self.recipe.gate.items() if name != "quantile"}
        gate = GateSettings(**known)
        if gate.epsilon != "calibrated" or gate.is_calibrated:
            return gate
        return replace(gate, epsilon=gate.own_threshold)  # recorded, whatever becomes of the row

    @property
    def quantile(self) -> float | Literal["need"]:
        """Share of what demonstrations' own queries say to the gate, below a calibrated
        threshold."""
        quantile = self.recipe.gate.get("quantile", 0.9)
        return "need" if quantile == "need" else float(quantile)

    def dtype(self, backbone: Backbone) -> torch.dtype:
        """What keys and values are stored as; packed ones, what they are unpacked to."""
        return STORES.get(self.store or "", backbone.dtype)

    @property
    def packing(self) -> Store | None:
        """How keys and values are packed, or None."""
        return next((store for store in PACKED if store == self.store), None)

    def to_json(self) -> dict[str, Any]:
        """What a memory records, and `rebuild` repeats."""
        return {
            **self.recipe.to_json(),
            "settings": {
                "core": self.core,
                "bank": self.bank,
                "mode": self.mode,
                "chunk_tokens": self.chunk_tokens,
                "system": self.system,
                "max_pixels": self.max_pixels,
                "store": self.store,
                "seed": self.seed,
                **({"shown": self.shown} if self.shown > 1 else {}),
                **({"polish": self.polish} if self.polish else {}),
            },
        }


def _budget(given: Any, name: str, of_recipe: str) -> str:
    """A budget as it is recorded: the recipe's own unless one is given."""
    if given is None or given == "auto":
        return of_recipe
    return parse_size(given, name).written


def _store(given: Any) -> str | None:
    """What keys and values are stored as, by name; torch's own dtypes are taken as well."""
    if given is None:
        return None
    name = str(given).removeprefix("torch.") if isinstance(given, torch.dtype) else given
    return one_of(name, "store", (*STORES, *PACKED))


@dataclass(frozen=True)
class Targets:
    """What a build comes to: tokens per layer and KV head, and the bytes they take."""

    core: int
    bank: int
    core_bytes: int
    bank_bytes: int
    full_bytes: int

    @classmethod
    def of(cls, core: int, bank: int, costs: Costs) -> "Targets":
        """So many tokens at known costs."""
        return cls(
            core,
            bank,
            core_bytes=costs.fixed_bytes + core * costs.core_token_bytes,
            bank_bytes=bank * costs.bank_token_bytes,
            full_bytes=costs.full_bytes,
        )


def targets(
    settings: Settings, backbone: Backbone, transcript: Transcript, notice: Notice
) -> Targets:
    """Resolve budgets to tokens; raises BudgetError where they are impossible."""
    return targets_at(settings, costs_of(settings, backbone, transcript), notice)


def targets_at(settings: Settings, costs: Costs, notice: Notice) -> Targets:
    """Resolve budgets to tokens at known costs, as `targets` does."""
    if not settings.recipe.takes_core and settings.core != settings.recipe.core:
        why = "keeps everything" if settings.recipe.keeps_everything else "has a bound of its own"
        notice(
            f"The recipe {settings.recipe.name!r} {why}: the core budget {settings.core} is not "
            "used."
        )
    core = (
        costs.tokens
        if settings.recipe.keeps_everything
        else core_tokens(settings.core, costs, notice)
    )
    return Targets.of(core, bank_tokens(settings.bank, core, costs, notice), costs)


def costs_of(settings: Settings, backbone: Backbone, transcript: Transcript) -> Costs:
    """Return what tokens cost in a memory of this model and these settings."""
    head = int((transcript.demonstration < 0).sum())
    return costs_for(settings, backbone, len(transcript), head)


def costs_for(settings: Settings, backbone: Backbone, tokens: int, head: int) -> Costs:
    """Return what so many tokens cost, the first `head` of them always kept."""
    geometry, dtype = backbone.geometry, settings.dtype(backbone)
    kinds = geometry.layer_kinds
    whole = min(tokens, (geometry.sliding_window or 1) - 1)
    whole_pair = pair = 2 * geometry.kv_heads * geometry.head_dim * dtype.itemsize
    index, reference_bytes, bias_bytes, means = _INDEX_BYTES, _REFERENCE_BYTES, _BIAS_BYTES, 0
    table_bytes = _TABLE_BYTES + _POSITION_BYTES * geometry.position_rows
    if settings.packing is not None:
        pair = 2 * geometry.kv_heads * row_bytes(geometry.head_dim, settings.packing)
        index = bias_bytes = table_bytes = 1
        reference_bytes, means = 2, pair * geometry.layers
    index *= geometry.kv_heads
    full_layers, sliding = kinds.count("full"), kinds.count("sliding")
    has_gate = settings.gate.compares and settings.bank not in ("0", "0%")
    reference = reference_bytes * geometry.kv_heads if has_gate else 0
    bias = bias_bytes * geometry.kv_heads if settings.recipe.has_bias else 0
    return Costs(
        tokens=tokens,
        always=head,
        core_token_bytes=full_layers * (pair + index + bias + reference),
        bank_token_bytes=full_layers * (pair + index),
        fixed_bytes=table_bytes * tokens + means + sliding * whole * (pair + index),
        full_bytes=whole_pair * (full_layers * tokens + sliding * whole),
    )


def within_bytes(settings: Settings, room: float, costs: Costs) -> Settings:
    """Return the settings with as many tokens as fit into `room` bytes, core and bank together, in
    the recipe's own proportion of bank to core.

    ```python
    within_bytes(settings, 1.5e6, costs_of(settings, backbone, transcript)).core       # '361'
    ```

    Raises BudgetError where what is always kept does not fit.
    """
    core = costs.tokens_within(room, settings.proportion)
    if core < max(1, costs.always):
        least = costs.least_bytes(settings.proportion)
        raise BudgetError(
            f"The recipe {settings.recipe.name!r} cannot be stored in {room / 1e6:.3g} MB, "
            f"{100 * room / costs.full_bytes:.3g}% of the full context; the smallest possible "
            f"here is {math.ceil(1000 * least / costs.full_bytes) / 10:g}%."
        )
    return replace(settings, core=str(core), bank=str(math.floor(settings.proportion * core)))


def warn(sentence: str) -> None:
    """The default notice: a Python warning."""
    warnings.warn(sentence, stacklevel=3)
