"""Kept tokens in their one shape: chosen, joined, compacted, settled."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tasm.backbone.attention.kernels import partial_attention
from tasm.compress.evidence import Stage
from tasm.compress.parts.base import Budget
from tasm.compress.recipes.recipe import Part
from tasm.compress.recipes.table import find_recipe
from tasm.memory import LayerTokens
from tests.compress.tiny_backbone import build_tiny, tiny_backbone


def some(tokens: int, first: int = 0, **more: Tensor) -> LayerTokens:
    """Two heads whose keys say where a token stood: head · 100 + place."""
    index = torch.arange(first, first + tokens, dtype=torch.int32).expand(2, -1)
    keys = (index + torch.tensor([[0], [100]])).float()[..., None].expand(-1, -1, 3)
    return LayerTokens(keys.clone(), -keys, index, **more)


def real(layer: LayerTokens) -> list[list[float]]:
    """The keys of each head that are no padding."""
    shown = layer.padding if layer.padding is not None else torch.zeros_like(layer.index).bool()
    return [head[~hidden, 0].tolist() for head, hidden in zip(layer.keys, shown, strict=True)]


def test_two_are_equal_only_where_they_are_one() -> None:
    one = some(3)
    assert one == one and one != some(3) and len({one, some(3)}) == 2


def test_chosen_tokens_keep_everything_that_belongs_to_them() -> None:
    originals = torch.arange(8.0).view(2, 4)
    mask = torch.tensor([[True, False, True, True], [False, True, False, False]])
    chosen = some(4, originals=originals, bias=-originals).where(mask)
    assert real(chosen) == [[0, 2, 3], [101]]
    assert chosen.counts == (3, 1) and chosen.lengths == (3, 1)
    assert chosen.originals is not None and chosen.bias is not None
    assert chosen.originals[0].tolist() == [0, 2, 3] and chosen.originals[1, 0] == 5
    assert torch.equal(chosen.bias, -chosen.originals)


def test_joined_after_different_lengths() -> None:
    mask = torch.tensor([[True, True, True], [True, False, False]])
    both = some(3).where(mask).joined(some(2, first=3, originals=torch.full((2, 2), 4.0)))
    assert real(both) == [[0, 1, 2, 3, 4], [100, 103, 104]]
    assert both.counts == (5, 3)
    assert both.bias is None and both.originals is not None
    assert both.originals[0].tolist() == [1, 1, 1, 4, 4]
    bias = both.logit_bias
    assert bias is not None and (bias[1, 1:3] < -1e29).all() and (bias[1, 3:] == 0).all()
    settled = both.settled()
    assert real(settled) == real(both) and settled.lengths == (5, 3)
    assert settled.valid is None and settled.originals is None
    assert settled.index[1, :3].tolist() == [0, 3, 4]
    assert real(both.last(2)) == [[3, 4], [103, 104]]


@dataclass(frozen=True)
class UnevenThenAll(Budget):
    """Heads of different lengths after the first chunk; everything after the second."""

    def allocate(self, stage: Stage) -> list[Tensor | None]:
        counts: list[Tensor | None] = []
        for one in stage.evidence:
            if one is None:
                counts.append(None)
            elif one.first_new == 0:
                counts.append(torch.tensor([8, 12]))
            else:
                counts.append(one.valid.sum(1))
        return counts


def test_a_chunk_that_keeps_everything_after_heads_of_different_lengths() -> None:
    """Padding between what was kept before and the new chunk is neither kept nor attended to."""
    recipe = replace(
        find_recipe("recent"), budget=Part("tests.compress.test_kept_tokens:UnevenThenAll")
    )
    backbone = tiny_backbone()
    first = build_tiny(backbone, 1, recipe=recipe, core="90%", mode="streaming", chunk_tokens=1)
    both = build_tiny(backbone, 2, recipe=recipe, core="90%", mode="streaming", chunk_tokens=1)
    total = both.logical_length
    for before, after in zip(first.core, both.core, strict=True):
        if before is None or after is None or before.lengths is None:
            continue
        new = list(range(first.logical_length, total))
        for head, length in enumerate((8, 12)):
            kept = before.index[head, :length].tolist()
            assert after.counts[head] == length + len(new)
            assert after.index[head, : after.counts[head]].tolist() == kept + new
            assert torch.equal(after.keys[head, :length], before.keys[head, :length])
            assert after.keys[head, : after.counts[head]].abs().sum(-1).min() > 0


def test_hidden_tokens_are_as_if_they_were_not_there() -> None:
    """Per head, padding included; keys and values are shared."""
    torch.manual_seed(0)
    layer = LayerTokens(
        torch.randn(2, 5, 8), torch.randn(2, 5, 8), torch.arange(5).expand(2, -1), lengths=(5, 4)
    )
    unseen = torch.tensor([[True, False, False, True, False], [False, False, True, False, False]])
    hidden = layer.hiding(unseen)
    assert hidden.keys is layer.keys and hidden.values is layer.values
    segment, query = hidden.segment(), torch.randn(1, 2, 3, 8)
    assert segment.bias is not None
    found, _ = partial_attention(query, segment.keys, segment.values, segment.bias[:, :, None], 1.0)
    for head, seen in enumerate(([1, 2, 4], [0, 1, 3])):
        weights = (query[0, head] @ layer.keys[head, seen].T).softmax(-1)
        torch.testing.assert_close(found[0, head], weights @ layer.values[head, seen])
