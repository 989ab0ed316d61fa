"""What a retrieved token brings with it: nothing, its neighbours on the image, its image, its page.

Each strategy orders the bank's tokens of a head and takes the best k, so that a search brings the
same number of tokens whichever is chosen. Knows scores and places; nothing of gates.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from tasm.errors import RecipeError, did_you_mean
from tasm.memory.retrieval.key_blocks import (
    Column,
    ImageMeans,
    Pages,
    RepresentedBlocks,
    Search,
    SelectingLayers,
    rows_in_order,
)
from tasm.memory.tokens import TokenTable


class Granularity(Protocol):
    """A way to choose k tokens of a bank by their scores and their places."""

    def choose(self, scores: Tensor, index: Tensor, k: int, search: Search) -> Tensor:
        """Row numbers (batch, kv_heads, k), best first.

        Args:
            scores: (batch, kv_heads, tokens) q·k; -inf where a head has no such token.
            index: (kv_heads, tokens) places in the transcript.
            k: how many.
            search: the layer, the query, and keys for strategies that look at them.
        """
        ...


class WholeImages:
    """The image of the best token first, then that of the best token outside it, and so on.

    Text tokens stand for themselves. The last image is cut at k, its best tokens first.
    """

    def __init__(self, tokens: TokenTable) -> None:
        image = tokens.place[:, 0].long()
        self.image = Column(image)
        self.images = max(int(image.max()) + 1, 0) if image.numel() else 0

    def choose(self, scores: Tensor, index: Tensor, k: int, search: Search | None = None) -> Tensor:
        """See `Granularity.choose`."""
        image, images = self.image.at(index), self.images
        groups = torch.where(image >= 0, image, images).expand(scores.shape)
        best = scores.new_full((*scores.shape[:2], images + 1), float("-inf"))
        best = best.scatter_reduce(-1, groups, scores, "amax")
        spread = torch.where((image >= 0) & scores.isfinite(), best.gather(-1, groups), scores)
        return rows_in_order(spread, scores, k)


class Neighbourhoods:
    """Each of the best tokens with the eight around it on its image, then the best of the others.

    The number of centres is k / 9, one at least.
    """

    def __init__(self, tokens: TokenTable) -> None:
        self.place = Column(tokens.place.long())

    def choose(self, scores: Tensor, index: Tensor, k: int, search: Search | None = None) -> Tensor:
        """See `Granularity.choose`."""
        place = self.place.at(index).expand(*scores.shape, 4)
        centres = scores.topk(min(max(1, k // 9), scores.shape[-1]), dim=-1)
        spread = scores
        for number in range(centres.indices.shape[-1]):
            row = centres.indices[..., number : number + 1, None].expand(-1, -1, 1, 4)
            centre = place.gather(2, row)
            same_image = (place[..., :2] == centre[..., :2]).all(-1) & (centre[..., 0] >= 0)
            near = ((place[..., 2:] - centre[..., 2:]).abs() <= 1).all(-1)
            reached = same_image & near & scores.isfinite()
            value = centres.values[..., number : number + 1].expand_as(scores)
            spread = torch.where(reached, torch.maximum(spread, value), spread)
        return rows_in_order(spread, scores, k)


_STRATEGIES: dict[str, Callable[[TokenTable], Granularity]] = {
    "neighbourhood": Neighbourhoods,
    "image": WholeImages,
    "page": Pages,
    "block": RepresentedBlocks,
    "image-mean": ImageMeans,
    "selecting-layers": SelectingLayers,
}
GRANULARITIES = ("token", *_STRATEGIES)


def make_granularity(name: str, tokens: TokenTable) -> Granularity | None:
    """The strategy of that name; None for "token", which needs none.

    Raises:
        RecipeError: there is none of that name.
    """
    if name == "token":
        return None
    if name not in _STRATEGIES:
        raise RecipeError(
            f"Retrieval granularity {name!r} is unknown; expected one of "
            f"{', '.join(GRANULARITIES)}." + did_you_mean(name, GRANULARITIES)
        )
    return _STRATEGIES[name](tokens)
