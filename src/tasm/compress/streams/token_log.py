"""The token table of a stream, which grows at its end and whose demonstrations may move.

Knows numbers of tokens, positions and roles; no keys.
"""

import torch
from torch import Tensor

from tasm.backbone.prompt.transcript import Transcript
from tasm.errors import InputError
from tasm.memory.tokens import TABLE, TokenTable

MOST_IMAGES = torch.iinfo(torch.int16).max + 1
"""Images whose number a table holds."""


class TokenLog:
    """A table in a buffer that doubles, so that a chunk costs what a chunk has.

    ```python
    log = TokenLog(position_rows=1, device=backbone.device)
    log.append(chunk, positions)
    log.table().roles
    ```
    """

    def __init__(self, position_rows: int, device: torch.device) -> None:
        empty = TokenTable.make(
            torch.empty(position_rows, 0), torch.empty(0), torch.empty(0), torch.empty(0, 4)
        ).to(device)
        self._parts = {name: getattr(empty, name) for name in TABLE}
        self._tokens = 0

    def __len__(self) -> int:
        return self._tokens

    def append(self, chunk: Transcript, positions: Tensor) -> None:
        """Add a chunk's tokens; positions (rows, n)."""
        images = chunk.first_image + len(chunk.images)
        if images > MOST_IMAGES:
            raise InputError(
                f"The demonstrations show more than {MOST_IMAGES:,} pictures, which is as many as "
                "a memory can number. Build it from fewer."
            )
        self.extend(TokenTable.make(positions, chunk.roles, chunk.demonstration, chunk.place))

    def extend(self, table: TokenTable) -> None:
        """Add a table's tokens."""
        stop = self._tokens + len(table)
        for name, held in self._parts.items():
            new: Tensor = getattr(table, name)
            along = 1 if name == "positions" else 0
            if held.shape[along] < stop:
                shape = list(held.shape)
                shape[along] = max(stop, 3 * held.shape[along] // 2)
                larger = held.new_empty(shape)
                larger.narrow(along, 0, self._tokens).copy_(held.narrow(along, 0, self._tokens))
                held = self._parts[name] = larger
            held.narrow(along, self._tokens, len(table)).copy_(new)
        self._tokens = stop

    def table(self) -> TokenTable:
        """All tokens so far: views, which `move` changes."""
        return TokenTable(
            **{
                name: held.narrow(1 if name == "positions" else 0, 0, self._tokens)
                for name, held in self._parts.items()
            }
        )

    def whole(self) -> TokenTable:
        """All tokens so far, in tensors of their own on the CPU."""
        table = self.table()
        parts = {name: getattr(table, name).to("cpu", copy=True).contiguous() for name in TABLE}
        return TokenTable(**parts)

    def move(self, by: Tensor) -> None:
        """Move every demonstration's positions by its number of `by` (demonstrations,)."""
        self.table().positions.add_(self.shifts(by))

    def shifts(self, by: Tensor) -> Tensor:
        """(tokens,) by how much each token moves with its demonstration, the head not at all."""
        table = self.table()
        shifts = by.to(table.positions)[table.demonstration.clamp(min=0).long()]
        return shifts.masked_fill(table.demonstration < 0, 0)
