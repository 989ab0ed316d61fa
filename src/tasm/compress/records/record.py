"""What a record is: something gathered while the demonstrations are read, layer by layer.

A record is a frozen dataclass that a part names; its state per layer grows chunk by chunk. It sees
one layer's attention call, never a whole attention matrix. Adding a record: one class with
`observe` (and `keep`, if it has a column for every entry).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tasm.backbone.attention.attention_call import AttentionCall
from tasm.backbone.attention.rotary import Rotary
from tasm.compress.records.row_rules import Rows
from tasm.compress.records.together import Together


@dataclass(frozen=True, eq=False)
class Reading:
    """One layer of one forward pass: the attention call, the rows it computes and their positions.

    `positions` is (rows of M-RoPE, n); `hidden` (n, hidden_size), the layer's input, is there for
    records that set `needs_hidden`; `is_last` marks the model's last layer.
    """

    call: AttentionCall
    rows: Rows
    positions: Tensor
    rotary: Rotary
    hidden: Tensor | None = None
    is_last: bool = False

    @property
    def new(self) -> int:
        """How many tokens the call reads."""
        return len(self.rows)

    def plain_keys(self) -> Tensor:
        """Return the new tokens' keys before rotation, (kv_heads, n, head_dim) float32."""
        keys = self.call.key[0, :, -self.new :].float()
        return self.rotary.unrotate(self.call.layer, keys, self.positions)

    def plain_queries(self, rows: Tensor) -> Tensor:
        """Return the queries of `rows` before rotation, (query_heads, rows, head_dim) float32."""
        queries = self.call.query[0][:, rows].float()
        return self.rotary.unrotate(self.call.layer, queries, self.positions[:, rows])


@dataclass(frozen=True, eq=False)
class BatchReading:
    """One layer of one forward pass over several demonstrations, each with a row of the batch and
    its own tokens after the same memory; `hidden` (batch, n, hidden_size). Padding is on the left.
    """

    call: AttentionCall
    together: Together
    hidden: Tensor | None = None
    is_last: bool = False


class Record:
    """Base of all records: state is made by the first `observe` and changed by later ones.

    `starts_anew` records forget their state at every stage of a stream, `needs_hidden` ones get
    `reading.hidden`, `has_columns` ones hold something for every entry. Where demonstrations are
    read again, `of_contexts` ones hear all of them read as one text, the others each by itself;
    `takes_batches` records have `observe_batch` and hear several at once.
    """

    starts_anew: bool = False
    needs_hidden: bool = False
    has_columns: bool = False
    of_contexts: bool = False
    takes_batches: bool = False

    def observe(self, held: Any, reading: Reading) -> Any:
        """Return the state after one more forward pass; `held` is None at the first."""
        raise NotImplementedError

    def observe_batch(self, held: Any, reading: BatchReading) -> Any:
        """Return the state after a pass over several demonstrations: as if each had been observed,
        one after the other, but that the batch's own tokens get nothing in a column of theirs."""
        raise NotImplementedError

    def keep(self, held: Any, order: Tensor) -> Any:
        """Return the state when only entries `order` (kv_heads, n) stay."""
        return held

    def without(self, held: Any, demonstrations: Sequence[int]) -> Any:
        """Return the state without the rows of `demonstrations`, if rows are held singly."""
        return held
