"""Where each row's live tokens begin: behind one memory, or every row behind its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tasm.errors import InputError


@dataclass(frozen=True)
class Starts:
    """Where the live tokens of each row begin: behind one memory that all rows share (one number
    each), or every row behind its own.

    ```python
    Starts.of(210, 260)                  # one memory
    Starts.of([210, 187], [260, 230])    # two rows of two memories
    ```

    Attributes:
        positions: the position of the first live token.
        indices: its logical index: how many tokens are before it.
    """

    positions: tuple[int, ...]
    indices: tuple[int, ...]

    @classmethod
    def of(cls, position: int | Sequence[int], index: int | Sequence[int]) -> "Starts":
        """Raises InputError where one has a number a row and the other another number of rows."""
        positions, indices = _numbers(position), _numbers(index)
        rows = max(len(positions), len(indices))
        if {len(positions), len(indices)} - {1, rows} or not positions or not indices:
            raise InputError(
                f"next_position has {len(positions)} rows and logical_length {len(indices)}; "
                "expected one number for all rows, or one a row in both."
            )
        if rows > 1 and len(positions) == 1:
            positions *= rows
        if rows > 1 and len(indices) == 1:
            indices *= rows
        return cls(positions, indices)

    def check(self, batch: int) -> None:
        """Raise InputError for a batch of another number of rows than there are memories."""
        if len(self.positions) not in (1, batch):
            raise InputError(
                f"The cache has the memories of {len(self.positions)} rows, and the call has "
                f"{batch} rows. Give as many rows, or call batch_repeat_interleave() or "
                "batch_select_indices() on the cache."
            )

    def map(self, change: Callable[[Tensor], Tensor]) -> "Starts":
        """Reorder, repeat or select rows; one memory for all stays one."""
        if len(self.positions) == 1:
            return self
        both = change(torch.tensor([self.positions, self.indices]).T)
        return Starts(*(tuple(column.tolist()) for column in both.T))


def _numbers(given: int | Sequence[int]) -> tuple[int, ...]:
    return (given,) if isinstance(given, int) else tuple(int(one) for one in given)


def column(numbers: tuple[int, ...], device: torch.device) -> int | Tensor:
    """What is added to (…, batch, n): a number for all rows, or (batch, 1)."""
    return numbers[0] if len(numbers) == 1 else torch.tensor(numbers, device=device)[:, None]
