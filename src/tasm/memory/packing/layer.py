"""One layer's tokens in few bits, and how they become plain again.

Keys are packed as they were before rotation, values as they are; less their head's mean where that
pays for its bytes. Knows layers' tokens and positions; nothing of files.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad

from tasm.memory.layer import LayerTokens
from tasm.memory.packing.integers import deflated, inflated
from tasm.memory.packing.rotation import Rotation
from tasm.memory.packing.vectors import Store, Vectors, row_bytes
from tasm.memory.per_head import by_head

Means = tuple[tuple[bool, ...], tuple[bool, ...]]
"""Of which heads the mean of keys is stored, and of which that of values."""

HasMean = Callable[[Tensor, Store], bool]
"""Whether the mean of a head's vectors (tokens, size) is stored beside them."""

_END = 8
_LOWEST = -30.0
"""A bias this far below the largest of its layer weighs nothing: e^-30."""


@dataclass(frozen=True, eq=False)
class PackedBias:
    """Biases of a layer in a byte each: lowest + step · code.

    Attributes:
        codes: (all heads' tokens,) uint8.
        line: (2,) float32, the lowest bias and the step.
    """

    codes: Tensor
    line: Tensor

    @classmethod
    def of(cls, bias: Tensor) -> "PackedBias":
        """Pack (tokens,) biases."""
        flat = bias.detach().float().cpu()
        high = float(flat.max()) if flat.numel() else 0.0
        flat = flat.clamp(min=high + _LOWEST)
        low = float(flat.min()) if flat.numel() else 0.0
        line = torch.tensor([low, (high - low) / 255])
        codes = (flat - low) / line[1].clamp(min=1e-12)
        return cls(codes.round().clamp(0, 255).to(torch.uint8), line)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.codes.nbytes + self.line.nbytes

    def plain(self) -> Tensor:
        """(tokens,) float32."""
        return self.line[0] + self.line[1] * self.codes.float()


@dataclass(frozen=True, eq=False)
class PackedTokens:
    """Tokens that one layer keeps, in few bits; never written to once made.

    ```python
    packed = PackedTokens.of(layer, "int4", positions, rotation)
    packed.plain(positions, rotation, torch.float32).keys        # (kv_heads, tokens, head_dim)
    ```

    Attributes:
        keys, values: one vector for each head that `means` says has one, its mean, and then one
            for every token, the first head's first: what it has beside the mean.
        index: stream of all heads' indices (see `deflated`).
        bias: or None.
        counts: tokens of each KV head.
        means: which heads' keys, and which heads' values, have a mean.
    """

    keys: Vectors
    values: Vectors
    index: Tensor
    bias: PackedBias | None
    counts: tuple[int, ...]
    means: Means

    @classmethod
    def of(
        cls,
        layer: LayerTokens,
        store: Store,
        positions: Tensor,
        rotation: Rotation,
        has_mean: HasMean,
    ) -> "PackedTokens":
        """Pack a layer; `positions` (rows, tokens) are the token table's, `has_mean` says of every
        head's vectors whether their mean is stored.

        Raises:
            ValueError: a key or value is not finite, or too large to be packed.
        """
        given = layer.settled()
        counts = given.counts

        def flat(tensor: Tensor) -> Tensor:
            return torch.cat([head[:n] for head, n in zip(tensor, counts, strict=True)]).cpu()

        index = flat(given.index)
        keys = rotation.turned(flat(given.keys).float(), positions[:, index.long()], back=True)
        values = flat(given.values).float()
        means = tuple(
            tuple(has_mean(head, store) for head in torch.split(part, list(counts)))
            for part in (keys, values)
        )
        return cls(
            _beside_means(keys, counts, store, means[0]),
            _beside_means(values, counts, store, means[1]),
            deflated(index),
            None if given.bias is None else PackedBias.of(flat(given.bias)),
            counts,
            (means[0], means[1]),
        )

    @property
    def nbytes(self) -> int:
        """Bytes as they are stored, the number that says where the index ends and the bits that say
        which means there are included."""
        beside = _END + (0 if self.has_all_means else self.means_bytes)
        bias = 0 if self.bias is None else self.bias.nbytes
        return self.keys.nbytes + self.values.nbytes + self.index.nbytes + beside + bias

    @property
    def means_bytes(self) -> int:
        """Bytes of the bits that say which means there are, where a memory stores them."""
        return math.ceil(2 * len(self.counts) / 8)

    @property
    def has_all_means(self) -> bool:
        """Whether every head's keys and values have a mean."""
        return all(map(all, self.means))

    def plain(self, positions: Tensor, rotation: Rotation, dtype: torch.dtype) -> LayerTokens:
        """The tokens as attention reads them.

        Raises:
            ValueError: the indices are damaged, or point outside the token table.
        """
        index = self.places(positions)
        keys = rotation.turned(self._with_means(0), positions[:, index.long()], back=False)
        bias = None if self.bias is None else self.bias.plain()
        values = self._with_means(1).to(dtype)
        return LayerTokens.of_heads(keys.to(dtype), values, index, self.counts, bias)

    def places(self, positions: Tensor) -> Tensor:
        """(all heads' tokens,) int32: numbers of the tokens in the transcript.

        Raises:
            ValueError: they are damaged, or point outside the token table.
        """
        index = inflated(self.index, (sum(self.counts),))
        if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < positions.shape[1]:
            raise ValueError(
                f"it names the tokens {int(index.min())} to {int(index.max())}; the table has "
                f"{positions.shape[1]}, counted from 0"
            )
        return index

    def plain_keys(self, at: Tensor, rotation: Rotation, dtype: torch.dtype) -> Tensor:
        """(kv_heads, tokens, head_dim) rotated keys; `at` (rows, all heads' tokens) are their
        positions."""
        keys = rotation.turned(self._with_means(0), at, back=False)
        return by_head(keys.to(dtype), self.counts)

    def plain_values(self, dtype: torch.dtype) -> Tensor:
        """(kv_heads, tokens, head_dim) values."""
        return by_head(self._with_means(1).to(dtype), self.counts)

    def _with_means(self, part: int) -> Tensor:
        """(all heads' tokens, size) float32 of the keys (0) or of the values (1)."""
        plain, stored = (self.keys, self.values)[part].plain(), sum(self.means[part])
        means = pad(plain[:stored], (0, 0, 0, 1))  # a last one of zeros, for heads that have none
        numbers, counts = self._mean_of[part]
        own = numbers.repeat_interleave(counts, output_size=sum(self.counts))
        return plain[stored:] + means[own]

    @cached_property
    def _mean_of(self) -> list[tuple[Tensor, Tensor]]:
        """Of keys, and of values: (kv_heads,) the number of each head's mean, and how many tokens
        the head has. On their device, so that no look waits for the host."""
        device = self.keys.rows.device
        found = []
        for has in self.means:
            stored = [sum(has[:head]) if one else sum(has) for head, one in enumerate(has)]
            found.append((torch.tensor(stored).to(device), torch.tensor(self.counts).to(device)))
        return found

    def to(self, device: torch.device | str | None) -> "PackedTokens":
        """The same tokens on another device, still packed; indices and biases stay."""
        return replace(self, keys=self.keys.to(device), values=self.values.to(device))


def every_mean(vectors: Tensor, store: Store) -> bool:
    """Yes."""
    return True


def means_that_pay(vectors: Tensor, store: Store) -> bool:
    """Whether a head's mean takes fewer bits than it spares its vectors at the same error.

    Of numbers that are r times smaller in the mean square, ½·log2 r bits less say as much.

    ```python
    >>> means_that_pay(torch.ones(20, 64) + 0.1 * torch.randn(20, 64), "int4")
    True
    >>> means_that_pay(torch.randn(20, 64), "int4")
    False
    ```
    """
    whole = float(vectors.pow(2).sum())
    beside = float((vectors - vectors.mean(0)).pow(2).sum()) if len(vectors) > 1 else whole
    if not math.isfinite(whole) or beside >= whole:
        return False
    spared = vectors.numel() / 2 * math.log2(whole / max(beside, 1e-9 * whole))
    return spared > 8 * row_bytes(vectors.shape[1], store)


def _beside_means(
    vectors: Tensor, counts: tuple[int, ...], store: Store, has: Sequence[bool]
) -> Vectors:
    """The heads' means, of those that `has` says, and then what every vector has beside them."""
    heads = torch.split(vectors, list(counts))
    means = torch.stack(
        [
            head.mean(0) if wanted and len(head) else head.new_zeros(vectors.shape[1])
            for head, wanted in zip(heads, has, strict=True)
        ]
    )
    stored = means[torch.tensor(has)]
    rounded = torch.zeros_like(means)
    rounded[torch.tensor(has)] = Vectors.of(stored, store).plain()
    return Vectors.of(torch.cat([stored, vectors - rounded[_owner(counts)]]), store)


def _owner(counts: tuple[int, ...]) -> Tensor:
    """Which head each vector is of."""
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
