"""The kept tokens of one layer: keys, values, where they stood, and what they weigh.

Knows nothing of how tokens were chosen, of files, or of the model that made them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from tasm.backbone.attention.segment import UNUSED, Segment


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
    """

    keys: Tensor
    values: Tensor
    index: Tensor
    bias: Tensor | None = None
    lengths: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.keys.shape[:2])
        if self.keys.ndim != 3 or self.values.ndim != 3 or tuple(self.values.shape[:2]) != shape:
            raise ValueError(
                f"keys {tuple(self.keys.shape)} and values {tuple(self.values.shape)}: "
                "both must be (kv_heads, tokens, head_dim)"
            )
        for name, tensor in (("index", self.index), ("bias", self.bias)):
            if tensor is not None and tuple(tensor.shape) != shape:
                raise ValueError(f"{name} has shape {tuple(tensor.shape)}, keys have {shape}")
        if self.lengths is not None:
            lengths = tuple(int(length) for length in self.lengths)
            object.__setattr__(self, "lengths", lengths)
            if len(lengths) != shape[0] or not all(0 <= n <= shape[1] for n in lengths):
                raise ValueError(f"lengths {lengths} do not fit keys of shape {shape}")

    @classmethod
    def ragged(
        cls,
        keys: Sequence[Tensor],
        values: Sequence[Tensor],
        index: Sequence[Tensor],
        bias: Sequence[Tensor] | None = None,
    ) -> "LayerTokens":
        """Join heads that keep different numbers of tokens: one tensor a head, padded here.

        ```python
        LayerTokens.ragged([k0, k1], [v0, v1], [i0, i1])      # k0 (5, 64), k1 (3, 64)
        ```
        """
        lengths = tuple(int(head.shape[0]) for head in index)
        pad = torch.nn.utils.rnn.pad_sequence
        return cls(
            keys=pad(list(keys), batch_first=True),
            values=pad(list(values), batch_first=True),
            index=pad(list(index), batch_first=True).to(torch.int32),
            bias=None if bias is None else pad(list(bias), batch_first=True),
            lengths=None if len(set(lengths)) == 1 else lengths,
        )

    @property
    def kv_heads(self) -> int:
        """Number of key-value heads."""
        return int(self.keys.shape[0])

    @property
    def counts(self) -> tuple[int, ...]:
        """Tokens that each KV head keeps, padding left out."""
        return self.lengths or (int(self.keys.shape[1]),) * self.kv_heads

    @property
    def nbytes(self) -> int:
        """Bytes held: every tensor, padding and the bias that hides it included."""
        tensors = (self.keys, self.values, self.index, self.logit_bias)
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)

    @cached_property
    def padding(self) -> Tensor | None:
        """(kv_heads, tokens) true where a slot is padding, or None when there is none."""
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

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "LayerTokens":
        """The same tokens on `device`, keys and values in `dtype`; shares what need not change."""

        def move(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device=device)

        return replace(
            self,
            keys=self.keys.to(device=device, dtype=dtype),
            values=self.values.to(device=device, dtype=dtype),
            index=self.index.to(device=device),
            bias=move(self.bias),
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
