"""What a model is, as hashes: a memory never runs on another model in silence.

Two forms, each with the same parts (weights, configuration, processor, tokenizer, chat template, so
that a difference can be named). A checkpoint is hashed as its files lie; fields that only say which
version of a library wrote a file do not count. What runs is hashed as it is in memory
(`running.py`), which is the same whether the model came from a folder, from the hub or was wrapped.
A part is the same where either form says so; what was changed after loading is its files no longer.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasm.backbone.checkpoint.environment import (
    ADAPTERS,
    DTYPE,
    QUANTISATION,
    Environment,
    environment_from_json,
)
from tasm.backbone.checkpoint.fingerprints import file_sha256
from tasm.backbone.checkpoint.processors import read_json, template_in
from tasm.errors import FormatError, ModelError

PARTS = ("weights", "config", "processor", "tokenizer", "chat template")
VISION_MEMORY = "vision memory"
"""The part of a trained memory in the vision tower; missing where there is none."""

_VERSION_FIELDS = {"transformers_version", "_commit_hash", "_name_or_path", "name_or_path"}
_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)


_RUNNING = "running "
"""Before the name of a part in JSON: as it runs, rather than as its files lie."""


@dataclass(frozen=True)
class Identity:
    """The parts of a model, each with the SHA-256 of what it is (64 hex digits, or "" where it
    has none).

    `parts` are the files' where the model runs as its files are, otherwise what runs. `running` is
    what runs, by the same names, and weights rounded to each dtype beside it (`"weights float16"`);
    empty for a folder that was not opened, and in memories written before it was recorded.
    `environment` is what the model runs with; it is recorded, and no part of what the model is.
    `earlier` gives the parts as such older memories know a model that was wrapped.

    ```python
    memory_identity.differences(backbone.identity)      # [] or ['weights', 'chat template']
    ```
    """

    parts: Mapping[str, str]
    environment: Environment = field(default_factory=dict, compare=False)
    running: Mapping[str, str] = field(default_factory=dict)
    earlier: Callable[[], Mapping[str, str]] | None = field(default=None, compare=False, repr=False)

    @property
    def digest(self) -> str:
        """One SHA-256 over all parts."""
        return hashlib.sha256(_canonical(dict(self.parts))).hexdigest()

    def differences(self, other: "Identity") -> list[str]:
        """Return the names of the parts that differ, in the order of `PARTS`."""
        names = dict.fromkeys((*PARTS, *self.parts, *other.parts))
        differing = [name for name in names if not self._agrees(other, name)]
        if differing and not self.running and other.earlier is not None:
            known = other.earlier()
            differing = [n for n in differing if self.parts.get(n, "") != known.get(n, "")]
        return differing

    def _agrees(self, other: "Identity", name: str) -> bool:
        if self.parts.get(name, "") == other.parts.get(name, ""):
            return True
        forms = [name] if name != "weights" else self._forms_of_weights(other)
        return any(
            form in self.running and self.running[form] == other.running.get(form) for form in forms
        )

    def _forms_of_weights(self, other: "Identity") -> list[str]:
        """Which digests tell whether weights are the same, as they run here and there."""
        mine, yours = self.environment, other.environment
        dtypes = [mine.get(DTYPE), yours.get(DTYPE)]
        if mine.get(QUANTISATION) != yours.get(QUANTISATION):
            # Quantised while loading, the linear layers cannot be compared: a warning says so.
            same = mine.get(ADAPTERS) == yours.get(ADAPTERS)
            return [f"weights {d} besides linear layers" for d in dtypes] if same else []
        return ["weights"] if dtypes[0] == dtypes[1] else [f"weights {d}" for d in dtypes]

    def to_json(self) -> dict[str, str]:
        """Return the parts, and those that run, as a dictionary of strings."""
        return {**self.parts, **{_RUNNING + name: value for name, value in self.running.items()}}

    @classmethod
    def from_json(cls, document: Any, environment: Any = None) -> "Identity":
        """Read what `to_json` wrote, and the environment recorded beside it, if any; raises
        `FormatError` on anything else."""
        if not isinstance(document, dict) or not all(
            isinstance(name, str) and isinstance(value, str) for name, value in document.items()
        ):
            raise FormatError(
                f"The model identity is {type(document).__name__} {str(document)[:80]!r}; "
                f"expected an object of strings with the parts {', '.join(PARTS)}."
            )
        running = {
            name.removeprefix(_RUNNING): value
            for name, value in document.items()
            if name.startswith(_RUNNING)
        }
        parts = {name: value for name, value in document.items() if not name.startswith(_RUNNING)}
        return cls(parts, environment_from_json(environment), running)


def folder_identity(folder: Path) -> Identity:
    """Return the identity of a checkpoint folder, from its files alone.

    ```python
    folder_identity(Path("models/qwen2-vl-2b")).parts["weights"]      # '9b1c…'
    ```
    """
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json any more; its identity cannot be told.")
    in_tokenizer = read_json(folder / "tokenizer_config.json").get("chat_template")
    template = template_in(folder) or in_tokenizer
    weights = sorted(folder.glob("*.safetensors"))
    return Identity(
        {
            "weights": _files_sha256(weights),
            "config": _files_sha256([folder / "config.json"]),
            "processor": _files_sha256(folder / name for name in _PROCESSOR_FILES),
            "tokenizer": _files_sha256(folder / name for name in _TOKENIZER_FILES),
            "chat template": json_sha256(template) if template else "",
        }
    )


def _files_sha256(paths: Iterable[Path]) -> str:
    """Hash existing files by name and content; "" where there are none."""
    entries = {path.name: _file(path) for path in paths if path.is_file()}
    return hashlib.sha256(_canonical(entries)).hexdigest() if entries else ""


def _file(path: Path) -> str:
    if path.suffix != ".json" or path.name in ("tokenizer.json", "vocab.json"):
        return file_sha256(path)
    return json_sha256(read_json(path))


def json_sha256(document: Any) -> str:
    """Return the SHA-256 of JSON values, without what says which library wrote them."""
    return hashlib.sha256(_canonical(_without_versions(document))).hexdigest()


def _without_versions(document: Any) -> Any:
    """Leave out what says which library wrote a file; the chat template has a part of its own."""
    ignored = _VERSION_FIELDS | {"chat_template"}
    if isinstance(document, dict):
        return {k: _without_versions(v) for k, v in document.items() if k not in ignored}
    if isinstance(document, list | tuple):
        return [_without_versions(value) for value in document]
    return document


def _canonical(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, ensure_ascii=True, default=str).encode()
