"""Ordering the tokens of a bank by one score, ties by another. Knows nothing but scores."""

from torch import Tensor


def rows_in_order(first: Tensor, second: Tensor, k: int) -> Tensor:
    """Return row numbers (…, k) of the k largest by `first` (…, tokens), ties by `second`."""
    by_second = second.argsort(dim=-1, descending=True, stable=True)
    by_first = first.gather(-1, by_second).argsort(dim=-1, descending=True, stable=True)
    return by_second.gather(-1, by_first)[..., :k]
