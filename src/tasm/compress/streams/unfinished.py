"""An unfinished streaming build on disk: a folder from which the build goes on.

`unfinished.json` is the only name that changes, and names one file of tensors by its SHA-256; both
are written whole or not at all. No pickle: states of records are their fields, by the name of their
class. Knows a stream's state; not how it is read or compressed.
"""

import contextlib
import hashlib
import importlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tasm.backbone.prompt.transcript import Layout
from tasm.compress.settings import Settings
from tasm.compress.streams.streaming import Read, Stream
from tasm.errors import DamageError, InputError
from tasm.files import naming_work, sync_folder, write_bytes, writer_lock
from tasm.memory.entry import DemonstrationEntry
from tasm.memory.tokens import TABLE, TokenTable

DOCUMENT = "unfinished.json"
SECONDS_BETWEEN = 60.0
"""Between two writings, unless they take a tenth of the time or more."""

_KIND = "unfinished tasm build 1"


@dataclass(eq=False)
class Unfinished:
    """Where a build's state is written now and then.

    ```python
    with Unfinished(Path("birds.tasm.unfinished")).held() as unfinished:
        unfinished.restore(stream, settings)       # nothing where there is nothing
        for chunk in chunks:
            stream.read(chunk)
            unfinished.note(stream, settings)
    unfinished.remove()
    ```
    """

    folder: Path
    seconds_between: float = SECONDS_BETWEEN
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _last: float = field(default_factory=time.monotonic)
    _took: float = 0.0

    @property
    def exists(self) -> bool:
        """Whether a state was written."""
        return (self.folder / DOCUMENT).is_file()

    @contextlib.contextmanager
    def held(self) -> Any:
        """Hold the folder against other builds; one that stays empty goes again.

        Raises:
            InputError: it cannot be made, or holds something else.
            WorkError: another build is writing there.
        """
        if self.folder.exists() and not self.exists and any(self.folder.iterdir()):
            left = [one for one in self.folder.iterdir() if one.suffix != ".safetensors"]
            if left:
                raise InputError(
                    f"{self.folder} holds something else than an unfinished build "
                    f"({left[0].name}); give another folder."
                )
        with naming_work(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with writer_lock(self.folder):
                yield self
        finally:
            if not self.exists:
                shutil.rmtree(self.folder, ignore_errors=True)

    def note(self, stream: Stream, settings: Settings) -> None:
        """Write the state if the last time is long enough ago."""
        now = time.monotonic()
        if now - self._last >= max(self.seconds_between, 10 * self._took):
            self.write(stream, settings)
            self._last = time.monotonic()
            self._took = self._last - now

    def write(self, stream: Stream, settings: Settings) -> None:
        """Write the state.

        Raises:
            WorkError: the disk is full, or fails; the state before it stays.
        """
        tensors: dict[str, Tensor] = {}
        state = _state(stream, tensors, self.folder)
        with naming_work(self.folder):
            partial = self.folder / "next.safetensors"
            save_file(tensors, partial)
            digest = _digest(partial)
            place = self.folder / f"{digest[:16]}.safetensors"
            partial.replace(place)
            document = {
                "kind": _KIND,
                "of": _of(stream, settings),
                "tensors": digest,
                "state": state,
            }
            write_bytes(self.folder / DOCUMENT, json.dumps(document).encode())
            sync_folder(self.folder)
            for other in self.folder.glob("*.safetensors"):
                if other != place:
                    other.unlink(missing_ok=True)

    def restore(self, stream: Stream, settings: Settings) -> bool:
        """Put a fresh stream into the state that was written; False where none was.

        Raises:
            InputError: the state is of other settings, or of another model.
            DamageError: it is not what was written.
        """
        if not self.exists:
            return False
        try:
            document = json.loads((self.folder / DOCUMENT).read_bytes())
            if document["kind"] != _KIND:
                raise ValueError(document["kind"])
            place = self.folder / f"{document['tensors'][:16]}.safetensors"
            if _digest(place) != document["tensors"]:
                raise ValueError(place.name)
            tensors = load_file(place, device=str(stream.backbone.device))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DamageError(
                f"The unfinished build in {self.folder} is not what was written ({error}). Delete "
                "the folder and begin anew."
            ) from error
        mine = _of(stream, settings)
        if other := [name for name in mine if document["of"].get(name) != mine[name]]:
            name = other[0]
            raise InputError(
                f"The unfinished build in {self.folder} has another {name} "
                f"({_short(document['of'].get(name))}) than this one ({_short(mine[name])}). "
                "Give the same again, or delete the folder to begin anew."
            )
        _restore(stream, document["state"], tensors, self.folder)
        return True

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _of(stream: Stream, settings: Settings) -> dict[str, Any]:
    """What must be the same for a build to go on, by what a sentence calls it."""
    told = settings.to_json()
    return json.loads(
        json.dumps(
            {
                "model": stream.backbone.identity.to_json(),
                "recipe": {name: one for name, one in told.items() if name != "settings"},
                **{f"setting {name!r}": one for name, one in told["settings"].items()},
                "number of tokens": stream.total,
                "version of tasm": version("tasm"),
                "version of torch": torch.__version__,
            }
        )
    )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 60 else f"{text[:57]}…"


def _state(stream: Stream, tensors: dict[str, Tensor], folder: Path) -> dict[str, Any]:
    compressor, recorder = stream.compressor, stream.recorder
    assert stream.segments is not None and stream.states is not None
    for name in TABLE:
        _take(tensors, f"tokens.{name}", getattr(stream.log.table(), name))
    windows = [
        [_fields(one, f"window.{layer}.{place}", tensors) for place, one in enumerate(segments)]
        if segments is not None and layer not in compressor.core
        else None
        for layer, segments in enumerate(stream.segments)
    ]
    for layer, state in enumerate(stream.states):
        for name, part in (state or {}).items():
            _take(tensors, f"states.{layer}.{name}", part)
    records = {
        str(layer): {
            str(recorder.records.index(record)): _fields(
                state, f"record.{layer}.{recorder.records.index(record)}", tensors
            )
            for record, state in held.items()
        }
        for layer, held in recorder.held.items()
    }
    return {
        "core": {str(n): _fields(one, f"core.{n}", tensors) for n, one in compressor.core.items()},
        "bank": {str(n): _fields(one, f"bank.{n}", tensors) for n, one in compressor.bank.items()},
        "windows": windows,
        "states": [None if state is None else list(state) for state in stream.states],
        "records": records,
        "scalings": {str(layer): scaling for layer, scaling in recorder.scalings.items()},
        "notes": compressor.notes,
        "seconds": compressor.seconds,
        "numbers": asdict(stream.numbers),
        "next_position": stream.next_position,
        "entries": [one.to_json(folder) for one in stream.entries],
    }


def _restore(
    stream: Stream, state: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path
) -> None:
    compressor, recorder = stream.compressor, stream.recorder
    stream.log.extend(TokenTable(**{name: tensors[f"tokens.{name}"].cpu() for name in TABLE}))
    modules = {type(record).__module__ for record in recorder.records}
    compressor.core = {int(n): _made(one, tensors, modules) for n, one in state["core"].items()}
    compressor.bank = {int(n): _made(one, tensors, modules) for n, one in state["bank"].items()}
    compressor.notes, compressor.seconds = dict(state["notes"]), dict(state["seconds"])
    recorder.held = {
        int(layer): {
            recorder.records[int(number)]: _made(one, tensors, modules)
            for number, one in held.items()
        }
        for layer, held in state["records"].items()
    }
    recorder.scalings = {int(layer): scaling for layer, scaling in state["scalings"].items()}
    numbers = dict(state["numbers"])
    numbers["layout"] = Layout.from_json(numbers["layout"])
    numbers["pieces"] = [(int(tokens), str(digest)) for tokens, digest in numbers["pieces"]]
    stream.numbers = Read(**numbers)
    stream.next_position = int(state["next_position"])
    stream.entries = [DemonstrationEntry.from_json(one, folder) for one in state["entries"]]
    stream.keep(
        [
            None if parts is None else tuple(_made(one, tensors, modules) for one in parts)
            for parts in state["windows"]
        ],
        [
            None if names is None else {name: tensors[f"states.{layer}.{name}"] for name in names}
            for layer, names in enumerate(state["states"])
        ],
    )


def _take(tensors: dict[str, Tensor], name: str, tensor: Tensor) -> str:
    tensors[name] = tensor.detach().to("cpu", copy=True).contiguous()
    return name


def _fields(held: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """A tensor, or an object's fields, as JSON; tensors go into `tensors`."""
    if isinstance(held, Tensor):
        return {"tensor": _take(tensors, name, held)}
    if not is_dataclass(held):
        return {"value": held}
    return {
        "class": f"{type(held).__module__}:{type(held).__qualname__}",
        "fields": {
            one.name: _fields(getattr(held, one.name), f"{name}.{one.name}", tensors)
            for one in fields(held)
            if one.init
        },
    }


def _made(told: Mapping[str, Any], tensors: Mapping[str, Tensor], modules: set[str]) -> Any:
    if "tensor" in told:
        return tensors[told["tensor"]]
    if "value" in told:
        value = told["value"]
        return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
    module, _, name = told["class"].partition(":")
    if not module.startswith("tasm.") and module not in modules:
        raise DamageError(_no_class(told))
    kind: Any = getattr(importlib.import_module(module), name)
    if not is_dataclass(kind):
        raise DamageError(_no_class(told))
    return cast(Any, kind)(
        **{name: _made(one, tensors, modules) for name, one in told["fields"].items()}
    )


def _no_class(told: Mapping[str, Any]) -> str:
    return f"An unfinished build names the class {told['class']!r}, which is none of a record."


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
