"""What a model is, as hashes: a memory never runs on another model in silence.

A checkpoint is hashed as its files lie: weights, configuration, processor, tokenizer and chat
template, each by itself, so that a difference can be named. Fields that only say which version of
a library wrote a file do not count. Hashes of files are remembered by path, size and modification
time.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tasm.backbone.checkpoint.environment import Environment, environment_from_json
from tasm.backbone.checkpoint.fingerprints import file_sha256
from tasm.errors import FormatError, ModelError

PARTS = ("weights", "config", "processor", "tokenizer", "chat template")

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


@dataclass(frozen=True)
class Identity:
    """The parts of a model, each with the SHA-256 of what it is (64 hex digits, or "" where it
    has none).

    `environment` is what the model runs with; it is recorded, and no part of what the model is.

    ```python
    memory_identity.differences(backbone.identity)      # [] or ['weights', 'chat template']
    ```
    """

    parts: Mapping[str, str]
    environment: Environment = field(default_factory=dict, compare=False)

    @property
    def digest(self) -> str:
        """One SHA-256 over all parts."""
        return hashlib.sha256(_canonical(dict(self.parts))).hexdigest()

    def differences(self, other: "Identity") -> list[str]:
        """Return the names of the parts that differ, in the order of `PARTS`."""
        names = dict.fromkeys((*PARTS, *self.parts, *other.parts))
        return [name for name in names if self.parts.get(name, "") != other.parts.get(name, "")]

    def to_json(self) -> dict[str, str]:
        """Return the parts as a dictionary of strings."""
        return dict(self.parts)

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
        return cls(dict(document), environment_from_json(environment))


class IdentitySource(Protocol):
    """Where a loaded model came from."""

    def identity(self, hf: Any, processor: Any) -> Identity:
        """Return the identity of the model that came from here."""


@dataclass(frozen=True)
class FolderSource:
    """A checkpoint folder: its files are the identity."""

    folder: Path

    def identity(self, hf: Any, processor: Any) -> Identity:
        """Hash the folder's files; raises `ModelError` where they have gone."""
        return folder_identity(self.folder)


@dataclass(frozen=True)
class ObjectSource:
    """A model that was handed over in memory: name and commit if known, or else the parameters."""

    def identity(self, hf: Any, processor: Any) -> Identity:
        """Hash the objects; takes as long as reading all parameters once, without a commit."""
        config = hf.config
        # How the weights were quantised when they were loaded belongs to the environment.
        settings = {k: v for k, v in config.to_dict().items() if k != "quantization_config"}
        commit, name = getattr(config, "_commit_hash", None), getattr(config, "_name_or_path", "")
        weights = _text(f"{name}@{commit}") if commit and name else parameters_sha256(hf)
        tokenizer = getattr(processor, "tokenizer", processor)
        template = getattr(processor, "chat_template", None) or getattr(
            tokenizer, "chat_template", None
        )
        image_processor = getattr(processor, "image_processor", None)
        images = [] if image_processor is None else [image_processor.to_dict()]
        images.append({k: v for k, v in vars(processor).items() if isinstance(v, int | str)})
        backend = getattr(tokenizer, "backend_tokenizer", None)
        vocabulary = backend.to_str() if backend is not None else sorted(tokenizer.get_vocab())
        return Identity(
            {
                "weights": weights,
                "config": _json_sha256(settings),
                "processor": _json_sha256(images if image_processor is not None else []),
                "tokenizer": _json_sha256(vocabulary),
                "chat template": _json_sha256(template),
            }
        )


def folder_identity(folder: Path) -> Identity:
    """Return the identity of a checkpoint folder, from its files alone.

    ```python
    folder_identity(Path("models/qwen2-vl-2b")).parts["weights"]      # '9b1c…'
    ```
    """
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json any more; its identity cannot be told.")
    tokenizer_config = _read(folder / "tokenizer_config.json")
    template = (
        _text_of(folder / "chat_template.jinja")
        or _read(folder / "chat_template.json").get("chat_template")
        or tokenizer_config.get("chat_template")
    )
    weights = sorted(folder.glob("*.safetensors"))
    return Identity(
        {
            "weights": _files_sha256(weights),
            "config": _files_sha256([folder / "config.json"]),
            "processor": _files_sha256(folder / name for name in _PROCESSOR_FILES),
            "tokenizer": _files_sha256(folder / name for name in _TOKENIZER_FILES),
            "chat template": _json_sha256(template) if template else "",
        }
    )


def parameters_sha256(model: Any) -> str:
    """Return the SHA-256 over a model's parameters and buffers: names, types, shapes, bytes."""
    import torch

    digest = hashlib.sha256(b"tasm parameters\0")
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        if flat.numel():
            digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()


def _files_sha256(paths: Iterable[Path]) -> str:
    """Hash existing files by name and content; "" where there are none."""
    entries = {path.name: _file(path) for path in paths if path.is_file()}
    return hashlib.sha256(_canonical(entries)).hexdigest() if entries else ""


def _file(path: Path) -> str:
    if path.suffix != ".json" or path.name in ("tokenizer.json", "vocab.json"):
        return file_sha256(path)
    return _json_sha256(_read(path))


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON: {error}") from error
    return document if isinstance(document, dict) else {"": document}


def _text_of(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _json_sha256(document: Any) -> str:
    return hashlib.sha256(_canonical(_without_versions(document))).hexdigest()


def _text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


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
