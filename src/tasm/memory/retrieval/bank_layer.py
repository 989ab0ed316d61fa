"""One layer of a bank, wherever it lies: what a search asks of it.

Knows tokens; neither searches nor files.
"""

import torch
from torch import Tensor

from tasm.memory.layer import LayerTokens


class BankLayer:
    """One layer of a bank: on a device, in host memory or on disk.

    A layer need only hand out all its tokens; one that lies on disk hands out parts, too.

    Attributes:
        counts: tokens of each KV head.
        dtype: of keys and values.
        device: where `block` and `take` put what they return.
    """

    def __init__(
        self, counts: tuple[int, ...], dtype: torch.dtype, device: torch.device | None = None
    ) -> None:
        self.counts, self.dtype = counts, dtype
        self.device = device or torch.device("cpu")

    def held(self) -> LayerTokens:
        """The whole layer in memory."""
        raise NotImplementedError

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors, where they lie."""
        return self.held().nbytes

    def block(self, start: int, stop: int) -> Tensor:
        """Keys (kv_heads, stop - start, head_dim) of that range; padding past a head's count."""
        return self.held().keys[:, start:stop]

    def keys_at(self, head: int, rows: Tensor) -> Tensor:
        """Keys (rows, head_dim) of one head's rows."""
        return self.held().keys[head, rows]

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys, values (batch, kv_heads, k, head_dim) and index (batch, kv_heads, k) of `rows`
        (batch, kv_heads, k), row numbers within each head."""
        tokens = self.held()
        heads = torch.arange(tokens.kv_heads, device=rows.device)[None, :, None]
        return tokens.keys[heads, rows], tokens.values[heads, rows], tokens.index[heads, rows]

    def indices(self) -> Tensor:
        """(kv_heads, tokens) places in the transcript; anything past a head's count."""
        return self.held().index


class HeldLayer(BankLayer):
    """A bank layer in memory, on any device."""

    def __init__(self, tokens: LayerTokens) -> None:
        super().__init__(tokens.counts, tokens.keys.dtype, tokens.keys.device)
        self._tokens = tokens

    def held(self) -> LayerTokens:
        """The tokens themselves."""
        return self._tokens
