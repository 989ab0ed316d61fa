"""Segments: the immutable runs of keys and values that attention reads beside the live tokens.

Knows nothing of models, caches or where a segment comes from (a core, a bank, a committed chunk).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

UNUSED = -1e30
"""A bias that switches a slot off; finite, so that a segment without any used slot gives no NaN."""


@dataclass(frozen=True, eq=False)
class Segment:
    """An immutable run of keys and values of one layer, already rotated at their positions.

    ```python
    segment = Segment(keys, values)                       # (1, kv_heads, tokens, head_dim) each
    counted = Segment(keys, values, bias=counts.log())    # a merged token weighs as many
    ```

    Shapes: `keys`, `values` are (1 or batch, kv_heads, tokens, head_dim); batch 1 is shared by all
    rows and never expanded. `bias` is None or float32 (1 or batch, 1 or kv_heads, tokens), in nats,
    added to the logits; `UNUSED` switches a slot off. `index` is None or integers
    (1 or kv_heads, tokens), optionally with a leading batch: the logical sequence index that
    sliding-window layers compare with the query's; without it a token is in every window.
    """

    keys: Tensor
    values: Tensor
    bias: Tensor | None = None
    index: Tensor | None = None
    _elsewhere: "dict[tuple[torch.device, torch.dtype], Segment]" = field(
        default_factory=dict, init=False, repr=False
    )

    def lies_as(self, live: Tensor) -> bool:
        """Whether the keys have the device and dtype of a layer's live ones."""
        return self.keys.dtype == live.dtype and self.keys.device == live.device

    def as_live(self, live: Tensor) -> "Segment":
        """Return the segment on the device and in the dtype of `live`: made once, then shared by
        all caches over this segment."""
        if self.lies_as(live):
            return self
        if (found := self._elsewhere.get((live.device, live.dtype))) is None:
            bias = None if self.bias is None else self.bias.to(live.device)
            index = None if self.index is None else self.index.to(live.device)
            keys, values = self.keys.to(live), self.values.to(live)
            found = Segment(keys, values, bias, index)
            self._elsewhere[live.device, live.dtype] = found
        return found

    @property
    def tokens(self) -> int:
        """Slots a head, unused ones included."""
        return self.keys.shape[2]

    def map_rows(self, change: Callable[[Tensor], Tensor]) -> "Segment":
        """Return the segment with `change` applied to what it holds a row; a shared one as is."""

        def apply(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor if tensor.shape[0] == 1 else change(tensor)

        if self.keys.shape[0] == 1 and (self.bias is None or self.bias.shape[0] == 1):
            return self
        index = apply(self.index) if self.index is not None and self.index.ndim == 3 else self.index
        keys, values = apply(self.keys), apply(self.values)
        return Segment(keys, values, apply(self.bias), index)  # type: ignore[arg-type]

    def last(self, tokens: int) -> "Segment":
        """Return the last `tokens` slots, copied so that the others can be freed."""

        def cut(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[..., -tokens:].clone()

        if tokens >= self.tokens:
            return self
        keys, values = self.keys[:, :, -tokens:].clone(), self.values[:, :, -tokens:].clone()
        return Segment(keys, values, cut(self.bias), cut(self.index))

    def __deepcopy__(self, memo: dict[int, Any]) -> "Segment":
        return self  # never written, so a copy of a cache may share it


def join(segments: Sequence[Segment]) -> Segment:
    """Return one segment with the tokens of several in order; see `can_join`.

    ```python
    whole = join([first, second])
    ```
    """
    if len(segments) == 1:
        return segments[0]
    biases = [s.bias for s in segments if s.bias is not None]
    indices = [s.index for s in segments if s.index is not None]
    return Segment(
        torch.cat([s.keys for s in segments], 2),
        torch.cat([s.values for s in segments], 2),
        torch.cat(biases, -1) if biases else None,
        torch.cat(indices, -1) if indices else None,
    )


def can_join(first: Segment, second: Segment) -> bool:
    """Whether two segments can become one without inventing a bias or an index."""
    return (
        first.keys.shape[:2] == second.keys.shape[:2]
        and _same_rows(first.bias, second.bias)
        and _same_rows(first.index, second.index)
    )


def _same_rows(first: Tensor | None, second: Tensor | None) -> bool:
    if first is None or second is None:
        return first is None and second is None
    return first.shape[:-1] == second.shape[:-1]


Weight = Callable[[], Tensor]
"""Gives a log-sum-exp to who asks for it."""


class Extra(Protocol):
    """What brings further tokens into an attention call: in tasm, a gate over a latent bank.

    It owns its state per row of the batch; the cache tells it when rows move. `chunkable` is False
    where every call would ask again, so that a query read in several calls, assisted decoding and
    `crop` have no meaning and are refused.
    """

    @property
    def chunkable(self) -> bool:
        """Whether reading a query in several calls gives the same as reading it in one."""
        ...

    def __call__(
        self, layer: int, query: Tensor, scaling: float, weight: "Weight | None" = None
    ) -> Segment | None:
        """Return what this layer's live tokens attend to in this call, or None.

        `query` is (batch, kv_heads, group, head_dim): the rotated query of each row's last live
        token that is no padding. `weight()` gives the log-sum-exp of its logits over the layer's
        one segment, (batch, kv_heads, group) float32, that attention has worked out already; None
        where there is no such number, or a soft cap is in it.
        """
        ...

    def map_rows(self, change: Callable[[Tensor], Tensor]) -> None:
        """Reorder, repeat or select rows: `change` makes of a tensor (rows, …) that of new rows."""
        ...

    def reset(self) -> None:
        """Drop what was retrieved."""
        ...

    def fork(self) -> "Extra":
        """Return another over the same bank; the cache resets it before use."""
        ...
