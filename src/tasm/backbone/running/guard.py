"""The model that runs: what it is at any time, and the check that a memory was made with it.

Joins weights, configuration, processor and the files they came from. The text decoder carries its
model's `Guard`, so that plain `generate(past_key_values=memory.cache())` is checked as well.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch

from tasm.backbone.checkpoint.environment import ADAPTERS, DTYPE, environment_of
from tasm.backbone.checkpoint.identity import VISION_MEMORY, Identity, folder_identity
from tasm.backbone.hugging_face import HfModel, HfProcessor
from tasm.backbone.running.adapters import active_adapter_names
from tasm.backbone.running.in_memory import earlier_parts, earlier_weights, known_as, object_parts
from tasm.backbone.running.mismatch import refuse
from tasm.backbone.running.weights import RunningWeights
from tasm.errors import ModelError

Source = Callable[[], Mapping[str, str]]
"""Gives the parts of the files that a loaded model came from; none where they are not known."""

_READ = (".safetensors", ".json", ".jinja", ".model", ".txt")


def folder_source(folder: Path) -> Source:
    """Note a checkpoint's files before it is loaded: they are its identity while it runs as it was
    loaded, and none where they are others by now."""
    state = _state(folder)
    return lambda: folder_identity(folder).parts if _state(folder) == state else {}


def _state(folder: Path) -> tuple[tuple[str, int, int], ...]:
    files = sorted(path for path in folder.glob("*") if path.suffix in _READ and path.is_file())
    return tuple((path.name, s.st_size, s.st_mtime_ns) for path in files for s in [path.stat()])


class VisionPart(Protocol):
    """Something of tasm's own that runs inside the vision tower and changes answers."""

    @property
    def digest(self) -> str:
        """The SHA-256 of what it is now."""

    @property
    def place(self) -> str:
        """The folder it came from; empty where it came from none."""

    def prompt(self, ids: Any) -> AbstractContextManager[None]:
        """Say which prompt (rows, tokens) the images of the calls inside belong to: `generate`
        encodes images before the model sees the ids."""


class Guard:
    """The weights of one model, and whether they are those that a memory was made with.

    ```python
    Guard(model, folder_source(folder)).check(memory.identity)
    ```
    """

    def __init__(self, core: HfModel, source: Source) -> None:
        self._core = core
        self._source = source
        self._files: Mapping[str, str] | None = None
        self._earlier: tuple[str, str] = ("", "")
        self._weights = RunningWeights(core)
        self.vision: VisionPart | None = None

    @property
    def files(self) -> Mapping[str, str]:
        """The parts of the files that the model was loaded from, read once."""
        if self._files is None:
            self._files = self._source()
        return self._files

    @property
    def is_changed(self) -> bool:
        """Whether the weights are others than at first."""
        return self._weights.changed()

    def identity(self) -> Identity:
        """Return what the weights are now, and what they run with."""
        now = self._weights.digests()
        running = {"weights": now.exact}
        running |= {f"weights {dtype}": value for dtype, value in now.sampled.items()}
        files = self.files.get("weights", "")
        weights = now.exact if not files or self._weights.changed(now) else files
        environment = {DTYPE: now.dtype, ADAPTERS: active_adapter_names(self._core)}
        parts = {"weights": weights}
        if self.vision is not None:
            parts[VISION_MEMORY] = self.vision.digest
        return Identity(parts, environment, running, lambda: self._known_earlier(now.exact))

    def _known_earlier(self, exact: str) -> Mapping[str, str]:
        """The weights as earlier memories know a wrapped model, read once for the same weights."""
        key = f"{exact} {known_as(self._core)}"
        if self._earlier[0] != key:
            self._earlier = (key, earlier_weights(self._core))
        return {"weights": self._earlier[1]}

    def check(self, made_for: Identity) -> None:
        """Refuse a memory that was made with other weights, and a model that is in training.

        Raises:
            MismatchError: the weights, active adapters and vision memory included, are not those.
            ModelError: dropout and the like are switched on.
        """
        refuse_training(self._core)
        here = self.identity()
        known = [name for name in made_for.differences(here) if name in here.parts]
        if VISION_MEMORY in made_for.parts and VISION_MEMORY not in here.parts:
            known.append(VISION_MEMORY)
        if known:
            refuse(made_for, here, known)


class RunningModel:
    """What a model and its processor are at the time of each call.

    ```python
    RunningModel(core, processor, folder_source(folder)).identity()
    ```
    """

    def __init__(self, core: HfModel, processor: HfProcessor, source: Source) -> None:
        self.guard = Guard(core, source)
        self._core = core
        self._processor = processor
        self._first = object_parts(core, processor)

    @property
    def is_changed(self) -> bool:
        """Whether anything but the dtype is other than it was at first."""
        return self.guard.is_changed or object_parts(self._core, self._processor) != self._first

    def identity(self) -> Identity:
        """Return the identity as of now; what was changed after loading is no longer its files."""
        core, processor = self._core, self._processor
        weights = self.guard.identity()
        now = object_parts(core, processor)
        files = self.guard.files
        parts = {
            name: files[name] if name in files and now[name] == self._first[name] else now[name]
            for name in now
        }
        return replace(
            weights,
            parts={**weights.parts, **parts},
            running={**weights.running, **now},
            environment={**environment_of(core, processor), **weights.environment},
            earlier=lambda: {
                **earlier_parts(core, processor),
                **(weights.earlier() if weights.earlier else {}),
            },
        )


def check_weights(decoder: Any, cache: Any) -> None:
    """Check, in the first call with a memory's cache, that the model is the one it was made with.

    Models that tasm did not open or wrap have no guard. Nothing is checked while torch.compile
    traces a model: what is compiled is checked by `ask`.
    """
    if torch.compiler.is_compiling() or cache.made_for is None or cache.live_positions is not None:
        return
    guard = getattr(decoder, "tasm_guard", None)
    if guard is not None:
        guard.check(cache.made_for)


def refuse_training(core: HfModel) -> None:
    """Raise ModelError for a model in training mode."""
    if core.training:
        raise ModelError(
            f"{type(core).__name__} is in training mode, where dropout changes answers. Call "
            "model.hf.eval() first."
        )
