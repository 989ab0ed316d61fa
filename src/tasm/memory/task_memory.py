"""A task memory: what is kept of a set of demonstrations, ready for a frozen model to read.

Immutable and shared: caches made from it, on any device, share its segments and never write to
them. Knows nothing of how it was chosen; how it lies on disk is the business of `writing.py` and
`stored.py`.
"""

import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from tasm.arguments import path as a_path
from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.geometry import Geometry
from tasm.backbone.prompt.transcript import Layout
from tasm.backbone.running.mismatch import refuse, remarks
from tasm.errors import InputError
from tasm.files import output_path
from tasm.memory.contents import CoreContents, Counts, counts_of
from tasm.memory.conversion import convert, convert_bank
from tasm.memory.entry import DemonstrationEntry
from tasm.memory.layer import LayerTokens
from tasm.memory.notebook import memory_html, memory_line, memory_summary
from tasm.memory.placement import Devices, Placed, Placement
from tasm.memory.public import describe
from tasm.memory.retrieval.bank import Bank
from tasm.memory.retrieval.gate import GateKind, GateReference, GateSettings
from tasm.memory.retrieval.granularity import make_granularity
from tasm.memory.retrieval.in_attention import Retrieval
from tasm.memory.tokens import TokenTable

if TYPE_CHECKING:
    from tasm.backbone.checkpoint.identity import Identity


class TaskMemory:
    """Core memory, latent bank and what is known about them.

    ```python
    memory = tasm.load("birds.tasm")
    output = model.hf.generate(**inputs, past_key_values=memory.cache())
    ```

    Args:
        core: what every layer always attends to; None for a layer that keeps nothing.
        tokens: the transcript's table.
        next_position: position of the first token after the memory.
        logical_length: how many tokens the demonstrations had.
        full_bytes: keys and values of all tokens, uncompressed, in the core's dtype.
        geometry, identity, layout: of the model, and of the conversation.
        recipe: JSON-able: name and all settings of the build.
        model_name: where the model was opened from: a name or a folder.
        bank: originals that a query may retrieve, or None.
        gate: when it does; by default "js" where there is a bank, else "never".
        reference: what the gate learned while building, or None.
        states: whole states of linear-attention layers, `MemoryCache.states`, or None.
        demonstrations: one entry each.
        report: JSON-able figures of the build (tokens, seconds, peak bytes …); a file leaves out
            those that differ from run to run.
    """

    def __init__(
        self,
        *,
        core: Sequence[LayerTokens | None],
        tokens: TokenTable,
        next_position: int,
        logical_length: int,
        full_bytes: int,
        geometry: Geometry,
        identity: "Identity",
        layout: Layout,
        recipe: Mapping[str, Any],
        model_name: str = "",
        bank: Bank | None = None,
        gate: GateSettings | None = None,
        reference: GateReference | None = None,
        states: Sequence[Mapping[str, Tensor] | None] | None = None,
        demonstrations: Sequence[DemonstrationEntry] = (),
        report: Mapping[str, Any] | None = None,
    ) -> None:
        layers = len(core)
        self._contents = CoreContents(
            layers=tuple(core),
            tokens=tokens,
            distributions=(None,) * layers if reference is None else reference.layers,
            states=(None,) * layers if states is None else tuple(states),
        )
        self._bank = bank
        self._reference = reference
        self._placement = Placement()
        self.place: Path | None = None
        self.next_position = next_position
        self.logical_length = logical_length
        self.full_bytes = full_bytes
        self.geometry = geometry
        self.identity = replace(identity, earlier=None)  # what leads to the model stays there
        self.layout = layout
        self.recipe = dict(recipe)
        self.model_name = model_name
        self.gate = gate or GateSettings(kind="never" if bank is None else "js")
        self.demonstrations = tuple(demonstrations)
        self.report = dict(report or {})

    def __repr__(self) -> str:
        return memory_line(self)

    def _repr_html_(self) -> str:
        return memory_html(self)

    def summary(self) -> str:
        """What is inside, as a few lines of text; `public()` has all of it as JSON values.

        ```python
        print(memory.summary())
        ```
        """
        return memory_summary(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> "TaskMemory":
        return self  # never written, so it may be shared

    def __copy__(self) -> "TaskMemory":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        raise InputError(
            "This task memory is held in memory only, so it cannot be pickled for another process. "
            "Save it and send what lies on disk: memory.save('birds.tasm'), then "
            "tasm.load('birds.tasm'), which travels as its path."
        )

    # ------------------------------------------------------------------ what it holds

    @property
    def contents(self) -> CoreContents:
        """Everything that an answer always needs; of a memory on disk, all of it checked."""
        return self._contents

    @property
    def core(self) -> tuple[LayerTokens | None, ...]:
        """What every layer always attends to."""
        return self.contents.layers

    @property
    def tokens(self) -> TokenTable:
        """Positions, roles and places of the transcript's tokens."""
        return self.contents.tokens

    @property
    def states(self) -> tuple[Mapping[str, Tensor] | None, ...]:
        """Whole states of linear-attention layers."""
        return self.contents.states

    @property
    def bank(self) -> Bank | None:
        """Originals that a query may retrieve."""
        return self._bank

    @property
    def reference(self) -> GateReference | None:
        """What the gate learned while the memory was built."""
        return self._reference

    @property
    def dtype(self) -> str:
        """The dtype of keys and values, such as "float32"."""
        held = [layer.keys.dtype for layer in self.core if layer is not None]
        return str(held[0]).removeprefix("torch.") if held else "float32"

    @property
    def core_counts(self) -> Counts:
        """Core tokens of every layer and KV head."""
        return counts_of(self.core)

    @property
    def bank_counts(self) -> Counts | None:
        """Bank tokens of every layer and KV head; None without a bank."""
        if self.bank is None:
            return None
        return tuple(None if layer is None else layer.counts for layer in self.bank.layers)

    @property
    def core_bytes(self) -> int:
        """Bytes of every tensor held for the core: keys, values, indices, biases, the token table,
        the gate's distributions, whole states."""
        return self.contents.nbytes

    @property
    def bank_bytes(self) -> int:
        """Bytes of every tensor of the bank."""
        return 0 if self.bank is None else self.bank.nbytes

    # ------------------------------------------------------------------ reading it

    def cache(
        self,
        device: Devices = None,
        dtype: torch.dtype | None = None,
        gate: GateKind | None = None,
        epsilon: float | Literal["calibrated"] | None = None,
        bank_on: Literal["device", "host"] = "host",
        live_tokens: int | None = None,
    ) -> MemoryCache:
        """A fresh cache for one `generate` call or session; all share the memory's segments.

        ```python
        model.hf.generate(**inputs, past_key_values=memory.cache(gate="never"))
        ```

        Args:
            device: where the layers are: one device, one a layer, or None for where the memory is.
            dtype: what the model runs in; None for the memory's own. Where that is another than
                the model's (or on another device), each layer is converted when it is first read,
                once for all caches.
            gate: "js", "always" or "never" instead of the memory's own.
            epsilon: threshold in nats, or "calibrated", instead of the memory's own.
            bank_on: "host" leaves the bank where it is (host memory or disk); "device" puts a copy
                beside each layer, so that nothing waits for the host and nothing breaks a graph.
            live_tokens: a fixed buffer for query and answer, for torch.compile; None grows.

        Raises:
            InputError: a gate that there is not, a threshold that is not a number of nats, a device
                or dtype that there is not, or a buffer without a place.
            DamageError: a memory on disk is not what was written.
        """
        _check_placement(device, dtype, live_tokens)
        settings = self._gate_settings(gate, epsilon)
        placed = self._placement.core(self.contents, device, dtype)
        cache = MemoryCache.from_segments(
            self.geometry,
            [None if segment is None else [segment] for segment in placed.segments],
            next_position=self.next_position,
            logical_length=self.logical_length,
            extra=self._retrieval(settings, placed, device, dtype, bank_on),
            states=placed.states,
            live_tokens=live_tokens,
            transcript=self.report.get("transcript"),
        )
        cache.made_for = self.identity
        return cache

    def _gate_settings(
        self, kind: GateKind | None, epsilon: float | Literal["calibrated"] | None
    ) -> GateSettings:
        settings = self.gate
        if kind is not None:
            settings = replace(settings, kind=kind)
        if epsilon is not None:
            settings = replace(settings, epsilon=epsilon)
        return settings

    def _retrieval(
        self,
        settings: GateSettings,
        placed: Placed,
        device: Devices,
        dtype: torch.dtype | None,
        bank_on: str,
    ) -> Retrieval | None:
        if self.bank is None or settings.kind == "never":
            return None
        if bank_on not in ("device", "host"):
            raise InputError(f"bank_on is {bank_on!r}; expected 'device' or 'host'.")
        bank = self.bank
        if bank_on == "device":
            bank = self._placement.bank(bank, device, dtype)
        reference = self.reference
        if reference is not None:
            reference = replace(reference, layers=placed.distributions)
        retrieval = Retrieval(
            placed.segments,
            bank,
            settings,
            reference,
            settings.tokens_to_retrieve(self.tokens.demonstration_tokens),
            make_granularity(settings.granularity, self.tokens),
        )
        return retrieval if retrieval.gated_layers else None

    def check(self, identity: "Identity") -> None:
        """Refuse a model that this memory was not made for; warn where it runs with another
        quantisation, dtype or image processor than when the memory was built.

        Raises:
            MismatchError: weights, processor, tokenizer or chat template differ; the message says
                which.
        """
        differences = self.identity.differences(identity)
        if differences:
            refuse(self.identity, identity, differences)
        for sentence in remarks(self.identity, identity):
            warnings.warn(sentence, stacklevel=1)  # from one place, so that it is said once

    def check_all(self) -> None:
        """Check every block of every file; a memory that was never saved has none.

        Raises:
            DamageError: names the file that is not what was written.
        """

    def thumbnails(self) -> dict[str, bytes]:
        """JPEG or PNG by the SHA-256 of the picture it shows; only a memory on disk has some."""
        return {}

    def public(self) -> dict[str, Any]:
        """What may be shown of the memory, as JSON values, with the sizes of every layer."""
        return describe(self)

    def store_as(self, dtype: torch.dtype) -> "TaskMemory":
        """The same memory with keys and values in another dtype.

        Raises:
            InputError: a key or value is too large for it (float16 ends at 65504).
        """
        return self.replaced(
            core=[convert(layer, dtype) for layer in self.core],
            bank=convert_bank(self.bank, dtype),
            full_bytes=self.full_bytes * dtype.itemsize // getattr(torch, self.dtype).itemsize,
        )

    def replaced(self, **changes: Any) -> "TaskMemory":
        """The same memory with some of the constructor's arguments replaced, held in memory."""
        same = {name: getattr(self, name) for name in _ARGUMENTS}
        return TaskMemory(**(same | changes))

    # ------------------------------------------------------------------ on disk

    def save(
        self,
        path: str | Path,
        *,
        overwrite: bool = False,
        pictures: Mapping[str, bytes] | None = None,
    ) -> int:
        """Write the memory to a folder; returns the folder's bytes.

        ```python
        memory.save("birds.tasm")
        ```

        Args:
            path: the folder, `NAME.tasm` by custom.
            overwrite: replace a memory that is there; readers of the old one are not disturbed.
            pictures: thumbnails (JPEG or PNG) by the SHA-256 of their pictures.

        Raises:
            InputError: the path exists and is not to be overwritten, is no memory, or cannot be
                written to.
            WorkError: the disk is full, or another process is writing; nothing half-written stays.
        """
        from tasm.memory.disk.writing import save

        return save(
            self,
            output_path(path, "path"),
            overwrite=overwrite,
            pictures=pictures,
        )

    @classmethod
    def load(cls, path: str | Path) -> "TaskMemory":
        """Open a memory: its manifest and its files' headers are checked, nothing else is read.

        Blocks are checked before they are used: the core's before the first answer, the bank's when
        a search touches them, everything by `check_all`.

        ```python
        memory = tasm.load("birds.tasm")
        ```

        Raises:
            InputError: there is no memory.
            DamageError: the manifest is not what was written, or a file is missing or truncated.
            FormatError: it was written by a newer tasm.
        """
        from tasm.memory.disk.stored import load

        return load(a_path(path, "path", "the folder of a task memory"))


_ARGUMENTS = tuple(inspect.signature(TaskMemory).parameters)


def _check_placement(device: Devices, dtype: Any, live_tokens: Any) -> None:
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise InputError(
            f"dtype is {dtype!r}; expected what the model runs in, such as torch.bfloat16."
        )
    if live_tokens is not None and (
        not isinstance(live_tokens, int) or isinstance(live_tokens, bool) or live_tokens < 1
    ):
        raise InputError(
            f"live_tokens is {live_tokens!r}; expected as many tokens as question and answer take, "
            "or None for a live part that grows."
        )
    if device is None:
        return
    for one in [device] if isinstance(device, torch.device | str) else device:
        try:
            torch.empty(0, device=one)
        except (RuntimeError, AssertionError, TypeError) as reason:
            raise InputError(
                f"device is {one!r}, which cannot be used here: {str(reason).splitlines()[0]}"
            ) from None
