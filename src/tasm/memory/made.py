"""A memory made of its parts, or of another memory with some of them changed; held in memory.

Knows tensors and what is known of them; nothing of answering or files.
"""

import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from tasm.arguments import one_of
from tasm.backbone.checkpoint.identity import Identity
from tasm.backbone.geometry import Geometry
from tasm.backbone.given import as_backbone
from tasm.backbone.prompt.transcript import Layout
from tasm.backbone.running.mismatch import refuse, remarks
from tasm.errors import InputError
from tasm.memory.asked import KeptQueries
from tasm.memory.contents import Contents
from tasm.memory.core_tensors import CoreTensors
from tasm.memory.described import MemoryFacts
from tasm.memory.entry import DemonstrationEntry
from tasm.memory.layer import LayerTokens
from tasm.memory.packing.bank import packed_bank
from tasm.memory.packing.core import packed_core
from tasm.memory.packing.vectors import STORES, Store
from tasm.memory.placement import Placement, convert, convert_bank
from tasm.memory.retrieval.bank import Bank
from tasm.memory.retrieval.gate import GateReference, GateSettings
from tasm.memory.showing import ShownMemory
from tasm.memory.tokens import TokenTable


class MadeMemory(ShownMemory):
    """A memory that is made of its parts; what each is say the properties of the same names."""

    def __init__(
        self,
        *,
        core: Sequence[LayerTokens | None],
        tokens: TokenTable,
        next_position: int,
        logical_length: int,
        full_bytes: int,
        geometry: Geometry,
        identity: Identity,
        layout: Layout,
        recipe: Mapping[str, Any],
        model_name: str = "",
        vision_memory: str = "",
        bank: Bank | None = None,
        gate: GateSettings | None = None,
        reference: GateReference | None = None,
        states: Sequence[Mapping[str, Tensor] | None] | None = None,
        asked: KeptQueries | None = None,
        demonstrations: Sequence[DemonstrationEntry] = (),
        report: Mapping[str, Any] | None = None,
    ) -> None:
        none = (None,) * len(core)
        held = CoreTensors(
            layers=tuple(core),
            tokens=tokens,
            distributions=none if reference is None else reference.layers,
            states=none if states is None else tuple(states),
            asked=asked,
        )
        facts = MemoryFacts(
            next_position=next_position,
            logical_length=logical_length,
            full_bytes=full_bytes,
            geometry=geometry,
            identity=replace(identity, earlier=None),  # what leads to the model stays there
            layout=layout,
            recipe=dict(recipe),
            model_name=model_name,
            vision_memory=vision_memory,
            gate=gate or GateSettings(kind="never" if bank is None else "js"),
            demonstrations=tuple(demonstrations),
            report=dict(report or {}),
        )
        self._take(facts, Contents(held, bank, reference))

    def _take(self, facts: MemoryFacts, contents: Contents) -> None:
        super().__init__(facts, contents)
        self._placement = Placement()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # never written, so it may be shared

    def __copy__(self) -> Self:
        return self

    def check(self, identity: Identity) -> None:
        """Refuse a model that this memory was not made for; warn where it runs with another
        quantisation, dtype or image processor than when the memory was built.

        Raises:
            MismatchError: weights, processor, tokenizer or chat template differ; the message says
                which.
        """
        if differences := self.identity.differences(identity):
            refuse(self.identity, identity, differences)
        for sentence in remarks(self.identity, identity):
            warnings.warn(sentence, stacklevel=1)  # from one place, so that it is said once

    def store_as(self, dtype: torch.dtype) -> Self:
        """The same memory with keys and values in another dtype.

        Raises:
            InputError: a key or value is too large for it (float16 ends at 65504).
        """
        return self.replaced(
            core=[convert(layer, dtype) for layer in self.core],
            bank=convert_bank(self.bank, dtype),
            full_bytes=self.full_bytes * dtype.itemsize // getattr(torch, self.dtype).itemsize,
        )

    def packed(self, store: Store, model: Any) -> Self:
        """The same memory with keys and values in 8 or 4 bits, held in memory.

        ```python
        memory.packed("int4", model).save("small.tasm")
        ```

        Keys are packed as they were before the model's rotation, so this needs the model that the
        memory was made for (`tasm.load_model`); reading them does not. They are unpacked into the
        memory's dtype when the first cache is made. Of a packed memory this packs what it unpacks
        to.

        Raises:
            InputError: a store that there is not, or a key or value that cannot be packed.
            MismatchError: another model.
        """
        one_of(store, "store", STORES)
        backbone = as_backbone(model)
        self.check(backbone.identity)
        rotary = backbone.rotary.for_length(self.logical_length)
        kinds, dtype = self.geometry.layer_kinds, getattr(torch, self.dtype)
        try:
            core = packed_core(self.contents.core, store, rotary, kinds, dtype)
            bank = None if self.bank is None else packed_bank(self.bank, core)
        except ValueError as error:
            raise InputError(
                f"The memory cannot be packed: {error}. Store it in a dtype instead."
            ) from None
        reference = self.reference
        if reference is not None:
            reference = replace(reference, layers=core.distributions)
        return self._with(Contents(core, bank, reference))

    def _with(self, contents: Contents, **changes: Any) -> Self:
        known = {name: getattr(self, name) for name in _KNOWN}
        memory = object.__new__(type(self))
        memory._take(MemoryFacts(**(known | changes)), contents)
        return memory

    def replaced(self, **changes: Any) -> Self:
        """The same memory with some of the constructor's arguments replaced, held in memory; a
        packed one stays packed where only what is known of it changes."""
        if self.packing is not None and changes.keys() <= _KNOWN:
            held = Contents(self.contents.core, self.bank, self.reference)
            return self._with(held, **changes)
        same = {name: getattr(self, name) for name in _ARGUMENTS}
        return type(self)(**(same | changes))


_ARGUMENTS = tuple(inspect.signature(MadeMemory).parameters)
_KNOWN = {field.name for field in fields(MemoryFacts)} - {"place"}
