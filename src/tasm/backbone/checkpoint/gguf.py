"""Turns a GGUF file into a model folder as `save_pretrained` writes it.

transformers reads the file; which architectures and quantisations there are is its business. What
comes out holds the file's own (rounded) values, unpacked. Knows nothing of commands.
"""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from tasm.backbone.checkpoint.processors import load_processor
from tasm.backbone.checkpoint.quiet import quiet
from tasm.backbone.dtypes import dtype_named
from tasm.backbone.hugging_face import HfModel, HfTokenizer
from tasm.errors import InputError, ModelError, first_line

_MAGIC = b"GGUF"
_PLAIN = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ message['content'] }} ->"
    "{% elif message['role'] == 'assistant' %} {{ message['content'] }}\n"
    "{% else %}{{ message['content'] }}\n{% endif %}{% endfor %}"
)


def find_gguf(place: Path) -> Path:
    """Return the one GGUF file that is meant: the file itself, or the only one in a folder.

    ```python
    find_gguf(Path("models/smollm2"))
    ```

    Raises `ModelError` where there is none, more than one, or something else.
    """
    if place.is_dir():
        found = sorted(path for path in place.iterdir() if path.suffix.lower() == ".gguf")
        if not found:
            raise ModelError(f"{place} holds no .gguf file. Name the file, or the folder it is in.")
        if len(found) > 1:
            names = ", ".join(path.name for path in found[:4])
            raise ModelError(
                f"{place} holds {len(found)} .gguf files ({names}). Name the one that is meant; "
                "one that was split is joined first (llama-gguf-split --merge)."
            )
        place = found[0]
    if not place.is_file():
        raise ModelError(f"There is no file {place}; expected a .gguf file, or a folder with one.")
    with place.open("rb") as file:
        start = file.read(len(_MAGIC))
    if start != _MAGIC:
        raise ModelError(
            f"{place} is no GGUF file: it begins with {start!r}, not with {_MAGIC!r}. A folder of "
            "safetensors needs no conversion."
        )
    return place


def check_packages() -> None:
    """Raise `InputError` where a package that reading GGUF takes is missing."""
    missing = [name for name in ("gguf", "accelerate") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"GGUF files are read with {' and '.join(missing)}, not installed here: "
            "pip install 'tasm[gguf]'."
        )


def convert_gguf(
    file: Path,
    folder: Path,
    *,
    dtype: str = "float32",
    template: str = "own",
    before_writing: Callable[[int], None] = lambda needed: None,
) -> dict[str, Any]:
    """Write weights, configuration, tokenizer and chat template of a GGUF file into `folder`.

    `template` is `"own"` (the file's chat template) or `"plain"`: a line `question -> answer` a
    turn, whose end ends an answer. `before_writing` is told how many bytes will be written.

    ```python
    convert_gguf(find_gguf(Path("model.gguf")), Path("model"), template="plain")
    ```

    Returns `model_type`, `parameters` and `bytes`. Raises `ModelError` where the file cannot be
    read or lacks something, `InputError` where a package is missing.
    """
    kind = dtype_named(dtype)
    check_packages()
    with quiet():
        model, tokenizer = _read(file, kind)
        if template == "own" and not getattr(tokenizer, "chat_template", None):
            raise ModelError(
                f"{file} has no chat template, as base models have none. --plain writes a plain "
                "one, a line 'question -> answer' a turn."
            )
        parameters = sum(parameter.numel() for parameter in model.parameters())
        size = parameters * torch.empty(0, dtype=kind).element_size()
        before_writing(size)
        plain_copy = _unpacked(model, file)
        if template == "plain":
            _make_plain(plain_copy, tokenizer)
        plain_copy.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        _local_name_only(folder)
        load_processor(folder, model.config.model_type, has_images=False)
    return {"model_type": model.config.model_type, "parameters": parameters, "bytes": size}


def _read(file: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"gguf_file": file.name, "local_files_only": True}
    whole: dict[str, Any] = {}
    if hasattr(transformers, "GgufConfig"):  # otherwise weights may stay packed
        whole = {"quantization_config": transformers.GgufConfig(dequantize=True)}
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            file.parent, dtype=dtype, output_loading_info=True, **where, **whole
        )
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **where)
    except Exception as error:  # each architecture and each kind of damage fails in its own way
        raise ModelError(
            f"transformers {transformers.__version__} cannot read {file}: {first_line(error)} It "
            "may be damaged, of another architecture than a text model's, or of a kind of "
            "quantisation that is not known there; a safetensors folder of the model needs no "
            "conversion."
        ) from error
    tied = set(getattr(model, "all_tied_weights_keys", None) or model._tied_weights_keys or ())
    lacking = sorted(key for key in report["missing_keys"] if key not in tied)
    misfits = sorted(str(key) for key in report.get("mismatched_keys") or ())
    if lacking or misfits:
        raise ModelError(
            f"{file} does not hold the whole model: {len(lacking)} tensors are missing and "
            f"{len(misfits)} have another shape (such as {(lacking or misfits)[0]}). Copy it again."
        )
    return model, tokenizer


def _unpacked(model: HfModel, file: Path) -> Any:
    """An ordinary model around the same tensors: one that came from GGUF will not be saved."""
    from transformers import AutoModelForCausalLM

    config = model.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        fresh = AutoModelForCausalLM.from_config(config, dtype=model.dtype)
    fresh.load_state_dict(model.state_dict(), strict=False, assign=True)
    fresh.tie_weights()
    empty = [name for name, parameter in fresh.named_parameters() if parameter.is_meta]
    if empty:
        raise ModelError(f"{file} gave no values for {empty[0]} ({len(empty)} such tensors).")
    fresh.generation_config = model.generation_config
    return fresh


def _make_plain(model: HfModel, tokenizer: HfTokenizer) -> None:
    """The plainest many-shot prompt; a line's end ends an answer."""
    start = "<|endoftext|>"
    if start not in tokenizer.get_vocab():
        start = tokenizer.bos_token or ""
    tokenizer.chat_template = start + _PLAIN
    ends = model.generation_config.eos_token_id
    known = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    newline = tokenizer.encode("\n", add_special_tokens=False)[-1]
    model.generation_config.eos_token_id = list(dict.fromkeys([*known, newline]))


def _local_name_only(folder: Path) -> None:
    """Leave out what says where the file lay or how it was fetched."""
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    for name in ("is_local", "local_files_only", "name_or_path"):
        settings.pop(name, None)
    path.write_text(json.dumps(settings, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
