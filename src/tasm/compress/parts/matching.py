"""Which kept token a token that leaves is merged into: TASM's spatially bounded matching.

Chen, Shao, Chen, arXiv 2606.11853, equations (11) to (13). A source goes to the kept token of
largest key cosine among those it may reach: image tokens within a window of the same image's grid,
text tokens within the same demonstration. Window offsets and blocks of text are looped over; heads
and tokens never are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tasm.compress.evidence import Evidence, pieces
from tasm.memory.per_head import take

_TEXT_BLOCK = 256

Metric = Literal["chebyshev", "manhattan"]
TextScope = Literal["demonstration", "anywhere", "nothing"]


@dataclass(frozen=True, eq=False)
class Matches:
    """For every entry: `sink` (kv_heads, entries) int64, the entry of largest cosine it may reach,
    -1 for none; `similarity` (kv_heads, entries) that cosine, -inf for none."""

    sink: Tensor
    similarity: Tensor

    @classmethod
    def none(cls, like: Tensor) -> "Matches":
        """No entry reaches any."""
        return cls(
            torch.full_like(like, -1), torch.full(like.shape, -torch.inf, device=like.device)
        )

    def better(self, sink: Tensor, similarity: Tensor) -> "Matches":
        """Return, entry by entry, the better of both; earlier matches win ties."""
        improves = similarity > self.similarity
        return Matches(
            torch.where(improves, sink, self.sink),
            torch.where(improves, similarity, self.similarity),
        )


def window_offsets(window: int, metric: Metric) -> list[tuple[int, int]]:
    """Return the (Δh, Δw) a window reaches, itself left out.

    "chebyshev" reads Δ_win as a side: |Δh|, |Δw| ≤ (Δ − 1)/2. "manhattan" reads it as equation (12)
    prints it: |Δh| + |Δw| ≤ Δ.

    ```python
    >>> len(window_offsets(3, "chebyshev")), len(window_offsets(3, "manhattan"))
    (8, 24)
    ```
    """
    radius = (window - 1) // 2 if metric == "chebyshev" else window
    steps = range(-radius, radius + 1)
    return [
        (h, w)
        for h in steps
        for w in steps
        if (h, w) != (0, 0) and (metric == "chebyshev" or abs(h) + abs(w) <= window)
    ]


def match_images(
    evidence: Evidence, keys: Tensor, sinks: Tensor, window: int, metric: Metric
) -> Matches:
    """Match image entries within a window of their own image (and frame).

    `keys` (kv_heads, entries, head_dim) decide by cosine; `sinks` (kv_heads, entries) bool may
    receive.
    """
    matches = Matches.none(evidence.index)
    place = evidence.tokens.place.long()
    images = (place[:, 0] >= 0).nonzero()[:, 0]
    if images.numel() == 0:
        return matches
    grid = _Grid.of(place, images)
    entry_of = _entry_of_token(evidence)
    for offset in window_offsets(window, metric):
        neighbour = grid.neighbour(place, images, offset)  # token of every token's neighbour, or -1
        token = neighbour[evidence.index]
        entry = torch.where(token >= 0, entry_of.gather(1, token.clamp(min=0)), -1)
        reached = (entry >= 0) & sinks.gather(1, entry.clamp(min=0)) & evidence.valid
        there = entry.clamp(min=0)
        cosine = cosines(keys, there).masked_fill_(~reached, -torch.inf)
        matches = matches.better(entry, cosine)
    return matches


def cosines(vectors: Tensor, others: Tensor) -> Tensor:
    """Return (kv_heads, entries) the cosine of every entry's vector (kv_heads, entries, head_dim)
    with that of entry `others` (kv_heads, entries) of its head, float32."""
    found = [
        (
            normalize(vectors[:, some].float(), dim=-1)
            * normalize(take(vectors, others[:, some]).float(), dim=-1)
        ).sum(-1)
        for some in pieces(others)
    ]
    return torch.cat(found, 1)


@dataclass(frozen=True, eq=False)
class _Grid:
    """The image tokens by place: `token[image, t, h, w]`, flattened, -1 where none stands."""

    token: Tensor
    sizes: tuple[int, int, int, int]

    @classmethod
    def of(cls, place: Tensor, images: Tensor) -> "_Grid":
        largest = place[images].amax(0) + 1
        sizes = (int(largest[0]), int(largest[1]), int(largest[2]), int(largest[3]))
        token = torch.full((sizes[0] * sizes[1] * sizes[2] * sizes[3],), -1, device=place.device)
        grid = cls(token, sizes)
        token[grid.flat(place[images])] = images
        return grid

    def flat(self, place: Tensor) -> Tensor:
        _, t, h, w = self.sizes
        return ((place[:, 0] * t + place[:, 1]) * h + place[:, 2]) * w + place[:, 3]

    def neighbour(self, place: Tensor, images: Tensor, offset: tuple[int, int]) -> Tensor:
        """(tokens,) the token at that offset of every image token, -1 for text and beyond an
        edge."""
        moved = place[images].clone()
        moved[:, 2] += offset[0]
        moved[:, 3] += offset[1]
        inside = (
            (moved[:, 2] >= 0) & (moved[:, 2] < self.sizes[2])
            & (moved[:, 3] >= 0) & (moved[:, 3] < self.sizes[3])
        )  # fmt: skip
        found = self.token[self.flat(moved).clamp(0, self.token.shape[0] - 1)]
        result = torch.full((place.shape[0],), -1, device=place.device)
        result[images] = torch.where(inside, found, -1)
        return result


def _entry_of_token(evidence: Evidence) -> Tensor:
    """(kv_heads, tokens) which entry of a head holds a token, -1 for none."""
    tokens = len(evidence.tokens)
    entries = torch.arange(evidence.entries, device=evidence.index.device).expand_as(evidence.index)
    entries = torch.where(evidence.valid, entries, -1)
    # Padding repeats a token's index: write it first, so that the real entry stays.
    table = torch.full((evidence.kv_heads, tokens), -1, device=evidence.index.device)
    return table.scatter_reduce_(1, evidence.index, entries, "amax")


def match_text(evidence: Evidence, keys: Tensor, sinks: Tensor, scope: TextScope) -> Matches:
    """Match text entries with kept text of the same demonstration, or anywhere.

    A demonstration's text is taken in blocks of at most 256 tokens, and a token reaches its own
    block: no similarity of all tokens with all is ever held. "anywhere" compares with every kept
    text token, in blocks of sources.
    """
    matches = Matches.none(evidence.index)
    if scope == "nothing":
        return matches
    is_text = evidence.competing & ~evidence.is_image
    blocks = (
        _anywhere(is_text, sinks, evidence.block)
        if scope == "anywhere"
        else _by_demonstration(evidence, is_text)
    )
    for sources, targets in blocks:
        _match_block(matches, keys, sources, targets, sinks)
    return matches


def _by_demonstration(evidence: Evidence, is_text: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (kv_heads, blocks, width) entries, -1 for none: sources and targets are the same
    blocks."""
    group = torch.where(is_text, evidence.demonstration, -1)
    order = group.sort(
        dim=1, stable=True
    ).indices  # text by demonstration, everything else before it
    ordered = group.gather(1, order)
    places = torch.arange(evidence.entries, device=order.device).expand_as(order)
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    within = places - torch.where(starts, places, 0).cummax(1).values
    opens = starts | (within % _TEXT_BLOCK == 0)
    block = (opens & (ordered >= 0)).long().cumsum(1) - 1
    text = ordered >= 0
    if not bool(text.any()):
        return
    width = int(torch.where(text, within % _TEXT_BLOCK, 0).max()) + 1
    heads = torch.arange(order.shape[0], device=order.device)[:, None].expand_as(order)
    number = int(block.max()) + 1
    table = torch.full((order.shape[0], number, width), -1, device=order.device)
    table[heads[text], block[text], (within % _TEXT_BLOCK)[text]] = order[text]
    step = max(1, evidence.block // (width * width * order.shape[0]))
    for first in range(0, number, step):
        part = table[:, first : first + step]
        yield part, part


def _anywhere(is_text: Tensor, sinks: Tensor, block: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield blocks of text sources, each with all kept text as targets."""
    targets, sources = _listed(is_text & sinks), _listed(is_text & ~sinks)
    if targets.shape[1] == 0:
        return
    step = max(1, block // (targets.shape[1] * targets.shape[0]))
    for first in range(0, sources.shape[1], step):
        yield sources[:, None, first : first + step], targets[:, None]


def _listed(mask: Tensor) -> Tensor:
    """(kv_heads, most) the entries that `mask` marks, -1 past their number."""
    numbers = mask.sum(1, keepdim=True)
    order = (~mask).to(torch.uint8).sort(dim=1, stable=True).indices[:, : int(numbers.max())]
    slots = torch.arange(order.shape[1], device=order.device)
    return torch.where(slots < numbers, order, -1)


def _match_block(
    matches: Matches, keys: Tensor, sources: Tensor, targets: Tensor, sinks: Tensor
) -> None:
    """Write the best of `targets` for each of `sources` into `matches`."""
    heads = torch.arange(keys.shape[0], device=keys.device)[:, None, None]
    from_, to = sources.clamp(min=0), targets.clamp(min=0)
    unit, others = (normalize(keys[heads, some].float(), dim=-1) for some in (from_, to))
    cosine = unit @ others.transpose(-1, -2)  # (heads, blocks, sources, targets)
    may = (targets >= 0) & sinks[heads, to]
    itself = sources[..., :, None] == targets[..., None, :]
    cosine.masked_fill_(~may[..., None, :] | itself, -torch.inf)
    best, which = cosine.max(-1)
    sink = to.gather(2, which) if to.shape[1] == which.shape[1] else to[heads, 0, which]
    real = (sources >= 0) & (best > -torch.inf)
    where = heads.expand_as(sources)[real], sources[real]
    matches.sink[where], matches.similarity[where] = sink[real], best[real]
