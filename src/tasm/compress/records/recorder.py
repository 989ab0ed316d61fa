"""The recorder: hands every layer's attention call to the records, chunk after chunk.

It is set as a cache's `recorder` while demonstrations are read. Layers that keep their window whole
(sliding) or a state (linear) are not recorded.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tasm.backbone.attention.attention_call import AttentionCall
from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.model import Backbone
from tasm.backbone.prompt.transcript import Transcript
from tasm.compress.records.record import BatchReading, Reading, Record
from tasm.compress.records.row_rules import Rows
from tasm.compress.records.together import Together


class Recorder(AbstractContextManager["Recorder"]):
    """Gathers records per layer.

    ```python
    with Recorder(backbone, scorer.records) as recorder:
        recorder.read(chunk, cache, 0, len(chunk))
    recorder.held[layer][record]
    ```
    """

    def __init__(self, backbone: Backbone, records: Iterable[Record]) -> None:
        self.records = tuple(dict.fromkeys(records))
        self._backbone = backbone
        self._layers = frozenset(
            layer for layer, kind in enumerate(backbone.geometry.layer_kinds) if kind == "full"
        )
        self.held: dict[int, dict[Record, Any]] = {layer: {} for layer in sorted(self._layers)}
        self.scalings: dict[int, float] = {}
        self._rows: Sequence[Rows] = ()
        self._rows_on: dict[torch.device, list[Rows]] = {}
        self._together: Together | None = None
        self._cache: MemoryCache | None = None
        self._hidden: dict[int, Tensor] = {}
        self._hooks = ExitStack()

    def __enter__(self) -> "Recorder":
        if any(record.needs_hidden for record in self.records):
            for number, layer in enumerate(self._backbone.decoder.layers):
                if number in self._layers:
                    handle = layer.register_forward_pre_hook(
                        self._remember(number), with_kwargs=True
                    )
                    self._hooks.callback(handle.remove)
        return self

    def __exit__(self, *_: object) -> None:
        self._hooks.close()

    def read(self, chunk: Transcript, cache: MemoryCache, first: int, stage_end: int) -> None:
        """Read tokens of a transcript from its `first` on into `cache` for good, and listen; what
        is read before compressing ends at `stage_end`."""
        self.start(Rows.of(chunk, first, stage_end), cache)
        self._backbone.encode(chunk, cache)
        self.stop()
        cache.commit()

    def start(self, rows: Rows | Sequence[Rows], cache: MemoryCache) -> None:
        """Say which rows the next forward pass computes, one `Rows` a row of its batch, and listen
        to `cache`."""
        self._rows, self._cache = [rows] if isinstance(rows, Rows) else rows, cache
        self._rows_on = {}
        self._together = Together(self._rows) if len(self._rows) > 1 else None
        cache.recorder = self if self.records else None

    def __call__(self, call: AttentionCall) -> None:
        """Record one layer's call."""
        if call.layer not in self._layers or not self._rows or self._cache is None:
            return
        positions = self._cache.live_positions
        assert positions is not None  # known inside a call
        self.scalings[call.layer] = call.scaling
        device = call.key.device  # a layer's own, where a model is spread over several
        hidden = self._hidden.pop(call.layer, None)
        held, records = self.held[call.layer], self.records
        is_last = call.layer == self._backbone.geometry.layers - 1
        if self._together is not None:
            batch = BatchReading(call, self._together, hidden, is_last)
            for record in [record for record in records if record.takes_batches]:
                held[record] = record.observe_batch(held.get(record), batch)
            records = tuple(record for record in records if not record.takes_batches)
        if records and device not in self._rows_on:
            self._rows_on[device] = [rows.to(device) for rows in self._rows]
        for number, rows in enumerate(self._rows_on[device] if records else ()):
            reading = Reading(
                call if len(self._rows) == 1 else one_row(call, number),
                rows,
                positions[:, number].to(device),
                self._backbone.rotary.for_length(rows.stage_end),
                None if hidden is None else hidden[number],
                is_last,
            )
            for record in records:
                held[record] = record.observe(held.get(record), reading)

    def stop(self) -> None:
        """Stop listening."""
        if self._cache is not None:
            self._cache.recorder = None
        self._cache, self._rows, self._rows_on, self._together = None, (), {}, None

    def keep(self, layer: int, order: Tensor | None) -> None:
        """Only entries `order` (kv_heads, n) of a layer stay (None: all do); a new stage begins."""
        held = self.held[layer]
        for record in list(held):
            if record.starts_anew:
                del held[record]
            elif order is not None:
                held[record] = record.keep(held[record], order)

    def forget_columns(self, layer: int) -> None:
        """Drop what was gathered per entry; sums over tokens stay."""
        held = self.held[layer]
        for record in [record for record in held if record.has_columns]:
            del held[record]

    def layer(self, layer: int) -> Mapping[Record, Any]:
        """What was gathered for a layer."""
        return self.held[layer]

    def _remember(self, number: int) -> Callable[..., None]:
        def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden = args[0] if args else kwargs["hidden_states"]
            self._hidden[number] = hidden.detach()

        return hook


def one_row(call: AttentionCall, number: int) -> AttentionCall:
    """Return one row of a call's batch, over segments that all rows share."""

    def row(tensor: Tensor | None) -> Tensor | None:
        if tensor is None or tensor.shape[0] == 1:
            return tensor
        return tensor[number : number + 1]

    return replace(
        call,
        query=call.query[number : number + 1],
        key=call.key[number : number + 1],
        value=call.value[number : number + 1],
        mask=row(call.mask),
        log_sum_exp=call.log_sum_exp[number : number + 1],
        index=row(call.index),
        output=row(call.output),
    )
