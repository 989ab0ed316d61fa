"""Retrieving whole blocks of a bank, judged by their keys: pages, representatives, image means.

Published retrieval methods as strategies of `granularity`: every block gets one score, blocks come
in its order, and the last one is cut at k, its best tokens first. Knows scores, keys and places;
nothing of gates.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tasm.memory.tokens import TokenTable

PAGE = 16
BLOCK = 32
REPRESENTATIVES = 4


class Column:
    """A column of the token table, brought to each device that asks for it once."""

    def __init__(self, values: Tensor) -> None:
        self._on = {values.device: values}

    def at(self, index: Tensor) -> Tensor:
        """Its values for the tokens `index`, on that device."""
        if index.device not in self._on:
            self._on[index.device] = next(iter(self._on.values())).to(index.device)
        return self._on[index.device][index.long()]


@dataclass(frozen=True, eq=False)
class Search:
    """What a search knows beyond scores: the number of the layer, the query (batch, kv_heads,
    head_dim), and its keys (kv_heads, tokens, head_dim) float32, read when asked for."""

    layer: int
    query: Tensor
    keys: Callable[[], Tensor]


class Pages:
    """Quest (Tang et al., arXiv 2406.10774): pages of 16 tokens of the transcript, scored by
    Σ_d max(q_d·max_d, q_d·min_d) over the elementwise largest and smallest keys of the page.

    Differs from the paper in: the query heads of a KV head ask together, by their mean; a page
    holds those of its 16 tokens that are banked.
    """

    def __init__(self, tokens: TokenTable) -> None:
        self.pages = len(tokens) // PAGE + 1

    def choose(self, scores: Tensor, index: Tensor, k: int, search: Search) -> Tensor:
        """See `Granularity.choose`."""
        page = index.long() // PAGE
        keys, there = search.keys(), scores[0].isfinite()[..., None]
        groups = page[..., None].expand_as(keys)
        shape = (keys.shape[0], self.pages, keys.shape[2])
        low, high = (
            keys.new_full(shape, empty).scatter_reduce(1, groups, keys.where(there, empty), how)
            for how, empty in (("amin", torch.inf), ("amax", -torch.inf))
        )
        low, high = (bound.nan_to_num(0, 0, 0) for bound in (low, high))
        query = search.query[:, :, None].to(keys.device, keys.dtype)
        best = torch.maximum(query * low, query * high).sum(-1)  # (batch, kv_heads, pages)
        return _in_blocks(best, page, scores, k)


class RepresentedBlocks:
    """InfLLM (Xiao et al., arXiv 2402.04617): blocks scored by the mean q·k of 4 representatives.

    Differs from the paper in: representatives are the tokens of largest k·k̄, k̄ the block's mean
    key, as nothing of the attention they once received is stored; blocks have 32 tokens, not 128;
    retrieved tokens keep their own positions.
    """

    def __init__(self, tokens: TokenTable) -> None:
        self.blocks = len(tokens) // BLOCK + 1

    def choose(self, scores: Tensor, index: Tensor, k: int, search: Search) -> Tensor:
        """See `Granularity.choose`."""
        block = index.long() // BLOCK
        keys, there = search.keys(), scores[0].isfinite()
        blocks = self.blocks
        centre = _sums(keys * there[..., None], block, blocks)
        typical = (keys * centre.gather(1, block[..., None].expand_as(keys))).sum(-1)
        order = rows_in_order(
            -block.masked_fill(~there, blocks).float(), typical, typical.shape[-1]
        )
        # Place of every token among those of its block, the most typical first.
        sorted_block = block.gather(-1, order)
        begins = torch.ones_like(sorted_block)
        begins[:, 1:] = (sorted_block[:, 1:] != sorted_block[:, :-1]).long()
        places = torch.arange(order.shape[-1], device=order.device).expand_as(order)
        start = torch.where(begins.bool(), places, 0).cummax(-1).values
        rank = torch.empty_like(order).scatter_(-1, order, places - start)
        speaks = (rank < REPRESENTATIVES) & there
        number = block.new_zeros(keys.shape[0], blocks).scatter_add(1, block, speaks.long())
        spoken = scores.where(speaks, 0.0)
        total = scores.new_zeros(*scores.shape[:2], blocks)
        total = total.scatter_add(-1, block.expand(scores.shape), spoken)
        return _in_blocks(total / number.clamp(min=1), block, scores, k)


class ImageMeans:
    """ReKV (Di et al., arXiv 2503.00540): whole images, by the cosine of their mean key and q.

    Differs from the paper in: the text of a demonstration is a block too; the query is the last
    token's, not the mean of the question's; images are not read in a sliding window.
    """

    def __init__(self, tokens: TokenTable) -> None:
        image = tokens.place[:, 0].long()
        text = tokens.demonstration.long() + 1 + max(int(image.max()) + 1, 0)
        block = torch.where(image >= 0, image, text)
        self.block, self.blocks = Column(block), int(block.max()) + 1

    def choose(self, scores: Tensor, index: Tensor, k: int, search: Search) -> Tensor:
        """See `Granularity.choose`."""
        block = self.block.at(index)
        keys, there = search.keys(), scores[0].isfinite()[..., None]
        mean = normalize(_sums(keys * there, block, self.blocks), dim=-1)
        query = normalize(search.query.to(keys.device, keys.dtype), dim=-1)
        return _in_blocks(torch.einsum("bhd,hnd->bhn", query, mean), block, scores, k)


class SelectingLayers:
    """DELTA: every fourth layer that retrieves chooses tokens by q·k, those after it take the same.

    A token that a layer has not banked is replaced by the best it has. Differs from the paper in:
    selecting layers are evenly spaced; the first layers are dense only if the budget makes them so.
    """

    EVERY = 4

    def __init__(self, tokens: TokenTable) -> None:
        self.total = len(tokens)
        self._chosen: Tensor | None = None
        self._chosen_in = self._last = -1

    def choose(self, scores: Tensor, index: Tensor, k: int, search: Search) -> Tensor:
        """See `Granularity.choose`."""
        places = index.long().expand(scores.shape)
        chosen, again = self._chosen, search.layer <= self._last
        self._last = search.layer
        fits = chosen is not None and chosen.shape[:2] == scores.shape[:2]
        if again or not fits or search.layer - self._chosen_in >= self.EVERY:
            rows = scores.topk(min(k, scores.shape[-1]), dim=-1).indices
            picked = torch.zeros(*scores.shape[:2], self.total, device=scores.device)
            self._chosen = picked.scatter(-1, places.gather(-1, rows), 1.0)
            self._chosen_in = search.layer
            return rows
        assert chosen is not None
        wanted = chosen.to(scores.device).gather(-1, places).where(scores.isfinite(), -1.0)
        return rows_in_order(wanted, scores, k)


def _sums(vectors: Tensor, block: Tensor, blocks: int) -> Tensor:
    """(kv_heads, blocks, head_dim) sums of (kv_heads, tokens, head_dim) over each block."""
    sums = vectors.new_zeros(vectors.shape[0], blocks, vectors.shape[2])
    return sums.scatter_add(1, block[..., None].expand_as(vectors), vectors)


def _in_blocks(best: Tensor, block: Tensor, scores: Tensor, k: int) -> Tensor:
    """Rows of the best blocks, (batch, kv_heads, blocks) scores; missing tokens come last."""
    spread = best.gather(-1, block.expand(scores.shape)).where(scores.isfinite(), -torch.inf)
    return rows_in_order(spread, scores, k)


def rows_in_order(first: Tensor, second: Tensor, k: int) -> Tensor:
    """Return row numbers (…, k) of the k largest by `first` (…, tokens), ties by `second`."""
    by_second = second.argsort(dim=-1, descending=True, stable=True)
    by_first = first.gather(-1, by_second).argsort(dim=-1, descending=True, stable=True)
    return by_second.gather(-1, by_first)[..., :k]
