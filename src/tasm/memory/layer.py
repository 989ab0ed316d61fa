"""The kept tokens of one layer: keys, values, where they stood, and what they weigh.

Knows nothing of how tokens were chosen, of files, or of the model that made them.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from tasm.backbone.attention.segment import UNUSED, Segment
from tasm.memory.per_head import by_head, packed, take


@dataclass(frozen=True, eq=False)
class LayerTokens:
    """Tokens that one layer keeps, per KV head; never written to once made.

    ```python
    kept = LayerTokens(keys[:, chosen], values[:, chosen], index=chosen.expand(kv_heads, -1))
    segment = kept.segment(device="cpu", dtype=torch.float32)
    ```

    Attributes:
        keys: (kv_heads, tokens, head_dim), after rotation.
        values: (kv_heads, tokens, head_dim).
        index: (kv_heads, tokens) int32, each token's place in the transcript; a merged token has
            its sink's. `TokenTable` tells positions and roles by it.
        bias: (kv_heads, tokens) float32 added to the attention logits (the logarithm of how many
            tokens a merged one stands for), or None.
        lengths: tokens of each KV head when they differ; what lies past a head's length is padding.
        originals: (kv_heads, tokens) float32, how many tokens each stands for; None for one each.
        scores: (kv_heads, tokens) float32, what each was chosen by, or None.
        valid: (kv_heads, tokens) bool, false for padding, where that is not at a head's end.

    The last three are there while a memory is built; `settled` leaves them out.
    """

    keys: Tensor
    values: Tensor
    index: Tensor
    bias: Tensor | None = None
    lengths: tuple[int, ...] | None = None
    originals: Tensor | None = None
    scores: Tensor | None = None
    valid: Tensor | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.keys.shape[:2])
        if self.keys.ndim != 3 or self.values.ndim != 3 or tuple(self.values.shape[:2]) != shape:
            raise ValueError(
                f"keys {tuple(self.keys.shape)} and values {tuple(self.values.shape)}: "
                "both must be (kv_heads, tokens, head_dim)"
            )
        for name in ("index", "bias", "originals", "scores", "valid"):
            tensor = getattr(self, name)
            if tensor is not None and tuple(tensor.shape) != shape:
                raise ValueError(f"{name} has shape {tuple(tensor.shape)}, keys have {shape}")
        if self.lengths is not None:
            lengths = tuple(int(length) for length in self.lengths)
            object.__setattr__(self, "lengths", lengths)
            if len(lengths) != shape[0] or not all(0 <= n <= shape[1] for n in lengths):
                raise ValueError(f"lengths {lengths} do not fit keys of shape {shape}")

    @classmethod
    def of_heads(
        cls,
        keys: Tensor,
        values: Tensor,
        index: Tensor,
        counts: tuple[int, ...],
        bias: Tensor | None = None,
    ) -> "LayerTokens":
        """Tokens of heads that follow each other in each tensor, `counts` of each head: views where
        the heads have as many, else copies that are padded.

        ```python
        LayerTokens.of_heads(keys, values, index, (5, 3))      # keys (8, 64), index (8,)
        ```
        """
        return cls(
            keys=by_head(keys, counts),
            values=by_head(values, counts),
            index=by_head(index, counts),
            bias=None if bias is None else by_head(bias, counts),
            lengths=None if len(set(counts)) == 1 else counts,
        )

    @property
    def kv_heads(self) -> int:
        """Number of key-value heads."""
        return int(self.keys.shape[0])

    @property
    def counts(self) -> tuple[int, ...]:
        """Tokens that each KV head keeps, padding left out."""
        if self.valid is not None:
            return tuple(self.valid.sum(1).tolist())
        return self.lengths or (int(self.keys.shape[1]),) * self.kv_heads

    @property
    def nbytes(self) -> int:
        """Bytes held: every tensor, padding and the bias that hides it included."""
        tensors = (self.keys, self.values, self.index, self.logit_bias)
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)

    @cached_property
    def padding(self) -> Tensor | None:
        """(kv_heads, tokens) true where a slot is padding, or None when there is none."""
        if self.valid is not None:
            return ~self.valid
        if self.lengths is None:
            return None
        slots = torch.arange(self.keys.shape[1], device=self.keys.device)
        return slots >= torch.tensor(self.lengths, device=slots.device)[:, None]

    @cached_property
    def logit_bias(self) -> Tensor | None:
        """(kv_heads, tokens) float32 to add to the attention logits, padding hidden; or None."""
        if self.padding is None:
            return self.bias
        bias = torch.zeros(self.index.shape, device=self.index.device)
        if self.bias is not None:
            bias = self.bias.float()
        return bias.masked_fill(self.padding, UNUSED)

    def at(self, order: Tensor, lengths: tuple[int, ...]) -> "LayerTokens":
        """Copy the tokens at `order` (kv_heads, n), of which the first `lengths` of a head count.

        ```python
        layer.at(torch.tensor([[0, 2], [1, 0]]), (2, 1)).counts      # (2, 1)
        ```
        """
        is_ragged = any(length < order.shape[1] for length in lengths)
        return self._changed(
            lambda tensor: take(tensor, order), lengths=lengths if is_ragged else None, valid=None
        )

    def where(self, mask: Tensor) -> "LayerTokens":
        """Copy the tokens that `mask` (kv_heads, tokens) marks, in order."""
        lengths = tuple(mask.sum(1).tolist())
        return self.at(packed(mask, max(lengths)), lengths)

    def last(self, tokens: int) -> "LayerTokens":
        """The last `tokens` slots of every head, as views; none of them may be padding."""
        return self._changed(lambda tensor: tensor[:, -tokens:], lengths=None, valid=None)

    def hiding(self, unseen: Tensor) -> "LayerTokens":
        """The same tokens, of which attention does not see those that `unseen` (kv_heads, tokens)
        marks; keys and values are shared."""
        bias = self.bias if self.bias is not None else torch.zeros((), device=unseen.device)
        return replace(self, bias=torch.where(unseen, UNUSED, bias))

    def joined(self, *later: "LayerTokens") -> "LayerTokens":
        """These tokens and then `later` ones, in new tensors."""
        parts = (self, *later)

        def all_of(name: str, otherwise: Callable[..., Tensor], dtype: torch.dtype) -> Any:
            given = [getattr(part, name) for part in parts]
            if all(tensor is None for tensor in given):
                return None
            pairs = zip(given, parts, strict=True)
            return torch.cat(
                [otherwise(part.index, dtype=dtype) if t is None else t for t, part in pairs], 1
            )

        padding = all_of("padding", torch.zeros_like, torch.bool)
        return LayerTokens(
            torch.cat([part.keys for part in parts], 1),
            torch.cat([part.values for part in parts], 1),
            torch.cat([part.index for part in parts], 1),
            bias=all_of("bias", torch.zeros_like, torch.float32),
            originals=all_of("originals", torch.ones_like, torch.float32),
            scores=all_of("scores", torch.zeros_like, torch.float32),
            valid=None if padding is None else ~padding,
        )

    def compact(self) -> "LayerTokens":
        """The same tokens with padding at the heads' ends only."""
        return self if self.valid is None else self.where(self.valid)

    def settled(self) -> "LayerTokens":
        """The same tokens as a memory holds them: without what only building one needs."""
        here = self.compact()
        index = here.index.to(torch.int32).contiguous()
        return replace(here, index=index, originals=None, scores=None)

    def _changed(self, change: Callable[[Tensor], Tensor], **others: Any) -> "LayerTokens":
        """`change` applied to every tensor but those of `others`, which replace what there is."""
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in held.items():
            if isinstance(value, Tensor) and name not in others:
                others[name] = change(value)
        return replace(self, **others)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "LayerTokens":
        """The same tokens on `device`, keys and values in `dtype`; shares what need not change."""
        return self._changed(
            lambda tensor: tensor.to(device=device),
            keys=self.keys.to(device=device, dtype=dtype),
            values=self.values.to(device=device, dtype=dtype),
        )

    def segment(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Segment:
        """What attention reads: these tokens with a batch dimension of 1; nothing is copied that
        already lies on `device` in `dtype`."""
        here = self.to(device=device, dtype=dtype)
        bias = here.logit_bias
        return Segment(
            keys=here.keys[None],
            values=here.values[None],
            bias=None if bias is None else bias[None],
            index=here.index,
        )
