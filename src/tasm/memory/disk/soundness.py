"""Whether a memory's tensors can be what a build makes: finite values, places that exist.

Held against every core when it is first read and before it is written; of a bank on disk, against
what a search brings. Knows tensors; nothing of files.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tasm.backbone.prompt.transcript import Role
from tasm.memory.layer import LayerTokens
from tasm.memory.packing.core import Core
from tasm.memory.tokens import TokenTable


def check_core(core: Core, next_position: int, spans: Sequence[Sequence[tuple[int, int]]]) -> None:
    """Judge a core; `spans` are the demonstrations' own, empty where none are recorded.

    Raises:
        ValueError: a sentence about what cannot be.
    """
    _check_table(core.tokens, next_position)
    _check_spans(core.tokens.demonstration, spans)
    for number, layer in enumerate(core.layers):
        if layer is not None:
            check_layer(layer, len(core.tokens), f"layer {number}")
    for number, distribution in enumerate(core.distributions):
        if distribution is not None and not bool((distribution >= 0).all()):
            raise ValueError(f"the gate's reference of layer {number} has no probabilities")
        if distribution is not None:
            _check_finite(distribution, f"the gate's reference of layer {number}")
    if core.asked is not None:
        check_index(core.asked.index, len(core.tokens), "what is kept for the gate")
        for number, asked in enumerate(core.asked.layers):
            if asked is not None:
                _check_finite(asked, f"a query kept of layer {number}")
    for number, state in enumerate(core.states):
        for name, part in (state or {}).items():
            _check_finite(part, f"the state {name} of layer {number}")


def _check_table(tokens: TokenTable, next_position: int) -> None:
    """Judge a token table; raises ValueError."""
    if len(tokens) == 0:
        return
    positions = tokens.positions
    if int(positions.min()) < 0 or int(positions.max()) + 1 != next_position:
        raise ValueError(
            f"its positions go from {int(positions.min())} to {int(positions.max())}; next_position"
            f" of the manifest is {next_position}, and must be the one after the last"
        )
    if int(tokens.roles.max()) > max(Role):
        raise ValueError(f"it names a role {int(tokens.roles.max())}, which there is not")
    if int(tokens.demonstration.min()) < -1 or int(tokens.place.min()) < -1:
        raise ValueError("it names a demonstration or a place below -1")
    if int(tokens.place.max()) >= len(tokens):  # a grid has a token for each of its cells
        raise ValueError(f"it names a place {int(tokens.place.max())} among {len(tokens)} tokens")


def _check_spans(demonstration: Tensor, spans: Sequence[Sequence[tuple[int, int]]]) -> None:
    """Judge the demonstrations' spans against whose each token is; raises ValueError."""
    if not spans:
        return
    count = int(demonstration.max()) + 1 if demonstration.numel() else 0
    if count > len(spans):
        raise ValueError(
            f"it holds tokens of {count} demonstrations; 'demonstrations' of the manifest lists "
            f"{len(spans)}"
        )
    for number, one in enumerate(spans):
        for start, end in one:
            if not bool((demonstration[start:end] == number).all()):
                raise ValueError(
                    f"tokens {start} to {end} are not all of demonstration {number}; "
                    f"demonstrations[{number}].spans of the manifest says so"
                )


def check_layer(layer: LayerTokens, tokens: int, name: str) -> None:
    """Judge a layer; raises ValueError."""
    check_tokens(layer.keys, layer.values, layer.index, tokens, name)
    if layer.bias is not None:
        _check_finite(layer.bias, f"a bias of {name}")


def check_tokens(keys: Tensor, values: Tensor, index: Tensor, tokens: int, name: str) -> None:
    """Judge keys, values and places of any shape; raises ValueError."""
    _check_finite(keys, f"a key of {name}")
    _check_finite(values, f"a value of {name}")
    check_index(index, tokens, name)


def check_index(index: Tensor, tokens: int, name: str) -> None:
    """Judge places in the transcript; raises ValueError."""
    if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < tokens:
        raise ValueError(
            f"{name} names the tokens {int(index.min())} to {int(index.max())}; the table has "
            f"{tokens}, counted from 0"
        )


def _check_finite(values: Tensor, what: str) -> None:
    # The sum first: it needs no second tensor, and is infinite or NaN if anything is.
    total = values.sum(dtype=torch.float64 if values.dtype == torch.float64 else torch.float32)
    if not bool(total.isfinite()) and not bool(values.isfinite().all()):
        raise ValueError(f"{what} is infinite or not a number")
