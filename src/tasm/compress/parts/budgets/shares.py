"""From wished numbers of tokens to counts that add up to a budget. Knows no method."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from tasm.compress.evidence import Stage


def counts_by_layer(
    stage: Stage,
    wishes: Mapping[int, float],
    tokens: int | None = None,
    most: int | None = None,
) -> list[Tensor | None]:
    """Return (kv_heads,) counts by layer, the same for every head, near `wishes` by layer.

    No layer gets fewer than it must always keep, or than one, or more than it holds (`most`, if
    given); what that takes or leaves is shared among the others in proportion, so that the mean is
    `tokens` (`stage.tokens` if None) unless the layers hold less. Fractions go to the layers with
    the largest ones.
    """
    bounds: dict[int, tuple[int, int]] = {}
    for layer in stage.competing:
        one = stage.evidence[layer]
        assert one is not None
        held = one.most_held if most is None else most
        bounds[layer] = (min(max(1, one.most_always), held), held)
    total = (stage.tokens if tokens is None else tokens) * len(bounds)
    counts = _fitted({layer: float(wishes[layer]) for layer in bounds}, bounds, total)
    result: list[Tensor | None] = [None] * len(stage.evidence)
    for layer, count in counts.items():
        one = stage.evidence[layer]
        assert one is not None
        result[layer] = one.each_head(count)
    return result


def bank_by_layer(
    stage: Stage, core: Sequence[Tensor | None], wishes: Mapping[int, float], bank: int
) -> list[Tensor | None]:
    """Return (kv_heads,) originals each layer banks, those of earlier chunks included: what core
    and bank come to by `wishes`, less the `core`."""
    read = max(len(one.tokens) for one in stage.evidence if one is not None)
    both = counts_by_layer(stage, wishes, stage.tokens + bank, read)
    return [
        None if one is None or kept is None else (one - kept).clamp(min=0)
        for one, kept in zip(both, core, strict=True)
    ]


def _fitted(
    wishes: dict[int, float], bounds: Mapping[int, tuple[int, int]], total: int
) -> dict[int, int]:
    """Integers within `bounds` in proportion to `wishes` that add up to `total`, if they can."""
    low, high = 0.0, 1.0
    for _ in range(64):  # a scale large enough that everything is at its upper bound
        if _sum(wishes, bounds, high) >= min(total, sum(most for _, most in bounds.values())):
            break
        high *= 2
    for _ in range(64):
        middle = (low + high) / 2
        low, high = (middle, high) if _sum(wishes, bounds, middle) < total else (low, middle)
    wanted = {
        layer: min(max(wish * low, bounds[layer][0]), bounds[layer][1])
        for layer, wish in wishes.items()
    }
    counts = {layer: int(value) for layer, value in wanted.items()}
    rest = total - sum(counts.values())
    by_fraction = sorted(wanted, key=lambda layer: counts[layer] - wanted[layer])
    for layer in by_fraction:
        if rest > 0 and counts[layer] < bounds[layer][1]:
            counts[layer] += 1
            rest -= 1
    return counts


def _sum(wishes: dict[int, float], bounds: Mapping[int, tuple[int, int]], scale: float) -> float:
    return sum(
        min(max(wish * scale, bounds[layer][0]), bounds[layer][1]) for layer, wish in wishes.items()
    )
