"""One episode read once by the model, to be compressed by many recipes at many budgets.

Reading is what a build and another build of the same demonstrations have in common: the prefill,
with what it records, and reading the demonstrations again over everything. What is built here is
what `tasm.build` builds (mode joint). Knows builds; not what is measured on them.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from tasm.arguments import unheard
from tasm.backbone.limits import check_transcript
from tasm.backbone.model import Backbone
from tasm.backbone.prompt.transcript import Transcript
from tasm.compress.assembling import assembled
from tasm.compress.calibrate import gate_queries
from tasm.compress.chunks import CHUNK_TOKENS
from tasm.compress.compressor import Compressor
from tasm.compress.parts.base import Parts
from tasm.compress.prefill import Progress, read
from tasm.compress.recipes.recipe import Recipe
from tasm.compress.records.record import Record
from tasm.compress.records.recorder import Recorder
from tasm.compress.replay import Hides, ReadAgain, Replay
from tasm.compress.settings import Settings, costs_of, targets, within_bytes
from tasm.compress.sizes import Size, parse_size
from tasm.demonstrations import Demonstration
from tasm.memory import LayerTokens, TaskMemory

_TRIES = 4
_CLOSE = 1.01
"""Bytes over those wished for that no other try is worth."""


class Encoded:
    """An episode's demonstrations as the model read them, for some recipes.

    ```python
    encoded = Encoded(backbone, demonstrations, [find_recipe("tasm"), find_recipe("h2o")])
    memory = encoded.build(find_recipe("h2o"), core="20%", seed=3)
    ```

    `seconds` is what reading took, with everything that any of the recipes records.
    """

    def __init__(
        self,
        backbone: Backbone,
        demonstrations: Sequence[Demonstration],
        recipes: Iterable[Recipe],
        *,
        system: str | None = None,
        max_pixels: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.backbone, self.demonstrations = backbone, list(demonstrations)
        self._layout: dict[str, Any] = {"system": system, "max_pixels": max_pixels}
        self.transcript = backbone.transcript(self.demonstrations, **self._layout)
        check_transcript(self.transcript, backbone.geometry)
        parts = [Parts.of(recipe) for recipe in recipes]
        records = [record for part in parts for record in part.records]
        records.append(gate_queries(len(self.transcript.spans)))  # of all gates that are taught
        started, chunk_tokens = time.perf_counter(), CHUNK_TOKENS["joint"]
        with torch.no_grad(), Recorder(backbone, records) as recorder:
            self._read = read(
                backbone, self.transcript, chunk_tokens, recorder, progress or unheard
            )
        self.seconds = time.perf_counter() - started
        self._recorder, replay = recorder, self._read.replay
        again = [record for part in parts for record in part.replayed if not record.of_contexts]
        self._replay = _Remembering(
            **vars(replay),
            everyone=replay.demonstrations,
            wanted=tuple(dict.fromkeys(again)),
        )

    def build(
        self,
        recipe: Recipe,
        *,
        core: str | None = None,
        bank: str | None = None,
        stored: str | None = None,
        seed: int = 0,
    ) -> TaskMemory:
        """Return the memory that `tasm.build` returns for these budgets, or the one whose core and
        bank fit into `stored` (see `within_bytes`); `memory.report` has its `seconds` only, reading
        counted in.

        Raises:
            InputError: where `tasm.build` does.
        """
        settings = self._settings(recipe, core, bank, seed)
        if stored is None:
            return self._built(settings)
        return self._fitting(settings, parse_size(stored, "stored"))

    def smallest(self, recipe: Recipe, bank: str | None = None) -> float:
        """Return the smallest core that is possible, as a share of the tokens."""
        costs = costs_of(self._settings(recipe, None, bank, 0), self.backbone, self.transcript)
        return (costs.always + 1) / costs.tokens

    def _settings(self, recipe: Recipe, core: str | None, bank: str | None, seed: int) -> Settings:
        return Settings.of(
            recipe=recipe,
            core=core,
            bank=bank,
            mode="joint",
            chunk_tokens=None,
            store=None,
            seed=seed,
            **self._layout,
        )

    def _fitting(self, settings: Settings, stored: Size) -> TaskMemory:
        """A memory of at most `stored` bytes: where counts differ among heads, or parts add
        something, tokens cost more than was thought, and fewer are tried."""
        costs = costs_of(settings, self.backbone, self.transcript)
        wished = costs.bytes_of(stored)
        if settings.packing is not None and stored.unit == "share":
            wished *= 2 / self.backbone.dtype.itemsize  # of the full context in 16 bits
        room = wished
        for _ in range(_TRIES):
            memory = self._built(within_bytes(settings, room, costs))
            taken = memory.core_bytes + memory.bank_bytes
            room *= wished / taken
            if taken <= _CLOSE * wished or room < costs.least_bytes(settings.proportion):
                break
        return memory

    def _built(self, settings: Settings) -> TaskMemory:
        started, before = time.perf_counter(), self._replay.seconds
        budget = targets(settings, self.backbone, self.transcript, unheard)
        compressor = Compressor(self.backbone, settings, budget, len(self.transcript))
        heard = _Heard(self.backbone, self._recorder)
        read = replace(
            self._read,
            segments=list(self._read.segments),
            replay=self._replay,
            seconds=self.seconds,
        )
        with torch.no_grad():
            kept = read.compressed(compressor, heard)
            memory = assembled(
                self.backbone,
                self.transcript,
                self.demonstrations,
                settings,
                budget,
                kept,
                heard,
            )
        parts = compressor.parts
        shared = self.seconds
        together = tuple(record for record in parts.replayed if record.of_contexts)
        if len(together) < len(parts.replayed):
            shared += sum(seconds for _, seconds in self._replay.remembered)
        if together:
            shared += self._replay.of_contexts[together][1]
        own = time.perf_counter() - started - (self._replay.seconds - before)
        memory.report["seconds"] = {**kept.seconds, "total": shared + own}
        return memory


class _Heard(Recorder):
    """What a recorder had heard; what one compression drops of it is there for the next."""

    def __init__(self, backbone: Backbone, recorder: Recorder) -> None:
        super().__init__(backbone, ())
        self.held = {layer: dict(found) for layer, found in recorder.held.items()}
        self.scalings = dict(recorder.scalings)


@dataclass(frozen=True, eq=False)
class _Remembering(Replay):
    """A replay that reads over the whole memory once for all recipes, with the records that any of
    them wants.

    `everyone` are the demonstrations of that reading; fewer are a trial's.
    """

    everyone: tuple[Transcript, ...] = ()
    wanted: tuple[Record, ...] = ()
    remembered: list[tuple[ReadAgain, float]] = field(default_factory=list)
    of_contexts: dict[tuple[Record, ...], tuple[Mapping[int, Mapping[Record, Any]], float]] = field(
        default_factory=dict
    )

    def read_contexts(
        self, layers: Mapping[int, LayerTokens], records: tuple[Record, ...]
    ) -> Mapping[int, Mapping[Record, Any]]:
        """As a replay's, once for all recipes with the same records."""
        if records not in self.of_contexts:
            started = time.perf_counter()
            held = super().read_contexts(layers, records)
            self.of_contexts[records] = held, time.perf_counter() - started
        held, _ = self.of_contexts[records]
        return {layer: dict(of_layer) for layer, of_layer in held.items()}

    def read(
        self,
        layers: Mapping[int, LayerTokens],
        records: tuple[Record, ...] = (),
        *,
        hides: Hides | None = None,
    ) -> ReadAgain:
        """As a replay's."""
        if not records or not self._is_whole(layers, records):
            return super().read(layers, records, hides=hides)
        if not self.remembered:
            started = time.perf_counter()
            reading = super().read(layers, self.wanted)
            self.remembered.append((reading, time.perf_counter() - started))
        reading, _ = self.remembered[0]
        return replace(reading, held={layer: dict(held) for layer, held in reading.held.items()})

    @property
    def seconds(self) -> float:
        """What all readings that are remembered took."""
        readings = (*self.remembered, *self.of_contexts.values())
        return sum(seconds for _, seconds in readings)

    def _is_whole(self, layers: Mapping[int, LayerTokens], records: tuple[Record, ...]) -> bool:
        """Whether this is the reading that recipes share: nothing less, and by everyone."""
        return (
            set(records) <= set(self.wanted)
            and self.demonstrations is self.everyone
            and all(
                kept.bias is None and kept.keys.shape[1] == self.logical_length
                for kept in layers.values()
            )
        )
