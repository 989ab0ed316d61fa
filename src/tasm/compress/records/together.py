"""Rows of several demonstrations that one forward pass reads as a batch, padded on the left.

Knows roles and spans; of attention only how a call's queries are picked.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from tasm.backbone.attention.attention_call import AttentionCall
from tasm.compress.records.row_rules import Rows


@dataclass(frozen=True, eq=False)
class Chosen:
    """Rows of every row of a batch: `index` (batch, most) int64 their numbers in the padded pass,
    ascending, `valid` (batch, most) bool, and `flat` (rows,) the numbers of the valid ones."""

    index: Tensor
    valid: Tensor
    flat: Tensor

    def to(self, device: torch.device) -> "Chosen":
        """Return the same on another device."""
        return Chosen(self.index.to(device), self.valid.to(device), self.flat.to(device))


@dataclass(frozen=True, eq=False)
class Together:
    """The `Rows` of a batch; what is found once serves every layer.

    ```python
    chosen = together.chosen("answers", lambda rows: rows.mask("answers"), device)
    ```
    """

    rows: Sequence[Rows]
    _found: dict[Hashable, Any] = field(default_factory=dict, init=False)

    @property
    def length(self) -> int:
        """Tokens of the padded pass."""
        return max(len(rows) for rows in self.rows)

    def demonstration(self, device: torch.device) -> Tensor:
        """(batch, length) int64 the number of each token's demonstration, -1 in the head, -2 for
        padding."""
        numbers: Tensor = self._once(
            "demonstration",
            device,
            lambda: self._padded(lambda rows: rows.demonstration.long(), -2),
        )
        return numbers

    def starts(self, device: torch.device) -> Tensor:
        """(batch, length) int64 the first transcript token of each token's demonstration."""
        starts: Tensor = self._once(
            "starts",
            device,
            lambda: self._padded(lambda rows: rows.first + rows.first_of_its_own, 0),
        )
        return starts

    def chosen(self, key: Hashable, mask: Callable[[Rows], Tensor], device: torch.device) -> Chosen:
        """Return the rows of a mask (n,) bool of each demonstration; found once for every `key`."""

        def find() -> Chosen:
            masks = self._padded(lambda rows: mask(rows).to(torch.uint8), 0)
            most = int(masks.sum(1).max())
            index = masks.argsort(dim=1, descending=True, stable=True)[:, :most]
            valid = masks.gather(1, index).bool()
            return Chosen(index, valid, valid.flatten().nonzero()[:, 0])

        found: Chosen = self._once(("chosen", key), device, find)
        return found

    def _padded(self, column: Callable[[Rows], Tensor], padding: int) -> Tensor:
        columns, length = [column(rows) for rows in self.rows], self.length
        return torch.stack([pad(one, (length - len(one), 0), value=padding) for one in columns])

    def _once(self, key: Hashable, device: torch.device, find: Callable[[], Any]) -> Any:
        """What `find` gives, found where the rows are and brought to each device once."""
        if (key, device) not in self._found:
            self._found[key, device] = find().to(device)
        return self._found[key, device]


def asked_by(call: AttentionCall, chosen: Chosen) -> AttentionCall:
    """Return the call of the chosen rows alone, (batch, …, most, …); the rows that are not valid
    pay attention to nothing."""
    index, size = chosen.index, call.query.shape[3]
    batch, most = index.shape
    rows = index[:, None, :]
    log_sum_exp = call.log_sum_exp.gather(2, rows.expand(-1, call.log_sum_exp.shape[1], -1))
    if call.mask is None:
        later = torch.arange(call.key.shape[2], device=index.device) > index[:, None, :, None]
        mask = torch.where(later, torch.finfo(torch.float32).min, 0.0)
    else:
        whole = call.mask.expand(batch, -1, -1, -1)
        mask = whole.gather(2, rows[..., None].expand(-1, whole.shape[1], -1, whole.shape[3]))
    return replace(
        call,
        query=call.query.gather(2, rows[..., None].expand(-1, call.query.shape[1], most, size)),
        output=None
        if call.output is None
        else call.output.gather(
            2, rows[..., None].expand(-1, call.query.shape[1], most, call.output.shape[3])
        ),
        log_sum_exp=log_sum_exp.masked_fill(~chosen.valid[:, None], torch.inf),
        mask=mask,
        index=None
        if call.index is None
        else call.index.to(index.device).expand(batch, -1).gather(1, index),
    )
