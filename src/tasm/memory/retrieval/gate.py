"""What a memory records of its gate: when a query retrieves, how much, and what was measured.

Knows neither the bank nor the cache; the gates themselves are `tasm.memory.retrieval.gates`.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from tasm.arguments import GateKind
from tasm.errors import InputError, did_you_mean
from tasm.memory.retrieval.gates import GATES

Asking = Literal["mean", "each"]
_KINDS: tuple[str, ...] = tuple(GATES)
_ASKING: tuple[str, ...] = get_args(Asking)


@dataclass(frozen=True)
class GateSettings:
    """When a query retrieves, and how much.

    Attributes:
        kind: a row of `tasm.memory.retrieval.gates`: "missing" weighs core and bank, "js"
            compares distributions, "entropy" asks how undecided a query is, "always" retrieves at
            every step, "never" not at all.
        epsilon: threshold in nats, or "calibrated" for the one measured while building, where the
            gate has one, else the gate's own.
        layers: layers that may retrieve; None for every layer that has a bank.
        top_k: tokens retrieved per layer and KV head.
        largest_share: `top_k` is capped at this share of the demonstrations' tokens; 1.0 for the
            literal `top_k`.
        granularity: what a retrieved token brings with it: "token" (nothing), "neighbourhood",
            "image"; or which blocks a search brings: "page", "block", "image-mean",
            "selecting-layers" (see `tasm.memory.retrieval.key_blocks`).
        interval: an "always" gate opens at the first step and at every `interval`-th after it.
        asking: how the query heads of a KV head search: by their "mean", equation (16), or "each",
            a token counting as much as the head that wants it most; blocks of tokens come in the
            order in which any head has them.
        first_steps: how many steps of an answer ask the gate; what they brought stays. None for
            all.
    """

    kind: GateKind = "js"
    epsilon: float | Literal["calibrated"] = "calibrated"
    layers: tuple[int, ...] | None = None
    top_k: int = 96
    largest_share: float = 0.1
    granularity: str = "token"
    asking: Asking = "mean"
    interval: int = 1
    first_steps: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise InputError(
                f"The gate {self.kind!r} is unknown; expected one of {', '.join(_KINDS)}."
                + did_you_mean(str(self.kind), _KINDS)
            )
        if self.asking not in _ASKING:
            raise InputError(
                f"The gate's query heads ask by {self.asking!r}; expected one of "
                f"{', '.join(_ASKING)}." + did_you_mean(str(self.asking), _ASKING)
            )
        epsilon = self.epsilon
        if epsilon != "calibrated" and not (
            isinstance(epsilon, int | float) and 0 <= epsilon < math.inf
        ):
            raise InputError(
                f"The gate's threshold is {epsilon!r}; expected nats (0 or more) or 'calibrated'."
            )
        if self.top_k < 0 or not 0 <= self.largest_share <= 1:
            raise InputError(
                f"The gate retrieves top_k={self.top_k} tokens, at most {self.largest_share} of "
                "the demonstrations'; expected 0 or more, and a share between 0 and 1."
            )

        if self.interval < 1:
            raise InputError(
                f"The gate opens every {self.interval} steps; expected 1 (every step) or more."
            )
        if self.first_steps is not None and self.first_steps < 1:
            raise InputError(
                f"The gate is asked at the first {self.first_steps} steps; expected 1 or more, or "
                "None for all."
            )

    @property
    def is_calibrated(self) -> bool:
        """Whether building measures a reference and thresholds for this gate."""
        gate = GATES[self.kind]
        if gate is None or not gate.is_calibrated:
            return False
        return gate.compares or self.epsilon == "calibrated"

    @property
    def compares(self) -> bool:
        """Whether it compares distributions over the core, which the memory then holds."""
        gate = GATES[self.kind]
        return gate is not None and gate.compares

    @property
    def own_threshold(self) -> float | Literal["calibrated"]:
        """The gate's own threshold in nats; "calibrated" for a gate that asks none."""
        gate = GATES[self.kind]
        return "calibrated" if gate is None else gate.threshold

    def tokens_to_retrieve(self, demonstration_tokens: int) -> int:
        """`top_k`, capped at the largest share of that many tokens, but one at least."""
        cap = max(1, int(self.largest_share * demonstration_tokens))
        return min(self.top_k, cap) if self.largest_share > 0 else 0


@dataclass(frozen=True, eq=False)
class GateReference:
    """What the gate learned while the memory was built.

    Attributes:
        layers: per layer (kv_heads, core tokens), how the demonstrations' own answer queries look
            at the reduced core: probabilities, each row sums to one; None for a layer not gated,
            and with a gate that compares nothing.
        thresholds: per layer, nats: the first step retrieves above it; None for the gate's own.
        step_thresholds: the same for later steps, which compare with the step before; None, as a
            whole or for a layer, to use `thresholds`.
    """

    layers: tuple[Tensor | None, ...]
    thresholds: tuple[float | None, ...]
    step_thresholds: tuple[float | None, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "thresholds", _finite(self.thresholds))
        if self.step_thresholds is not None:
            object.__setattr__(self, "step_thresholds", _finite(self.step_thresholds))

    def threshold(self, layer: int, is_first: bool) -> float | None:
        """The calibrated threshold of a layer in nats; None where there is none."""
        threshold = self.thresholds[layer]
        if not is_first and self.step_thresholds is not None:
            later = self.step_thresholds[layer]
            threshold = threshold if later is None else later
        return threshold

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(layer.nbytes for layer in self.layers if layer is not None)


NEVER = 1e6
"""Nats that no signal reaches: an infinite threshold is kept as this, which a file holds."""


def _finite(thresholds: tuple[float | None, ...]) -> tuple[float | None, ...]:
    """The same thresholds, infinite ones as `NEVER`; raises InputError for NaN."""
    for number, one in enumerate(thresholds):
        if one is not None and math.isnan(one):
            raise InputError(
                f"The threshold of layer {number} is {one}; expected a number of nats, or None for "
                "the gate's own."
            )
    return tuple(None if one is None else min(float(one), NEVER) for one in thresholds)
