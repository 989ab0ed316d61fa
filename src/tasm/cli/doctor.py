"""`tasm doctor`: what is installed, what is there to run on, and what to do about the rest."""

import importlib.metadata
import platform
from typing import Annotated, Any

from typer import Option

import tasm
from tasm.cli.frame import Result, command
from tasm.errors import ModelError, TasmError

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "pillow", "numpy")
OPTIONAL = {
    "torchvision": "faster image processing; tasm works without",
    "pyarrow": "Parquet files: pip install 'tasm[data]'",
    "matplotlib": "plots: pip install 'tasm[plots]'",
    "gguf": "GGUF files: pip install 'tasm[gguf]'",
    "scikit-learn": "the digits suite: pip install 'tasm[suites]'",
}


@command
def doctor(
    model: Annotated[
        str | None, Option(metavar="MODEL", help="Also load this model and let it read a token.")
    ] = None,
) -> Result:
    """Look at the installation: versions, devices, the bundled model; and a model of yours.

    \b
    Examples:
      tasm doctor
      tasm doctor --model Qwen/Qwen2.5-VL-7B-Instruct
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    document: dict[str, Any] = {
        "versions": {"tasm": tasm.__version__, "python": platform.python_version()}
        | {name: _version(name) for name in PACKAGES},
        "optional": {name: _version(name) for name in OPTIONAL},
        "devices": _devices(),
        "reference_model": _reference_model(),
        "huggingface_cache": str(HF_HUB_CACHE),
        "model": None,
    }
    complaint = None
    if model is not None:
        document["model"], complaint = _try(model)
    document["advice"] = _advice(document)
    return Result(
        document,
        lambda: _for_people(document),
        exit_code=0 if complaint is None else 1,
        complaint=complaint,
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> list[dict[str, Any]]:
    import torch

    devices: list[dict[str, Any]] = [{"name": "cpu", "threads": torch.get_num_threads()}]
    for number in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(number)
        facts = {"title": card.name, "memory_bytes": card.total_memory}
        devices.append({"name": f"cuda:{number}", **facts})
    if torch.backends.mps.is_available():
        devices.append({"name": "mps"})
    return devices


def _reference_model() -> str | None:
    """Where the bundled model lies, if it does."""
    from tasm.backbone.loading import reference_folder

    try:
        return str(reference_folder())
    except ModelError:
        return None


def _try(name: str) -> tuple[dict[str, Any], str | None]:
    """Load a model, read one token into a memory's cache; returns what was seen and a complaint."""
    from tasm.answer import load_model, zero_shot_answers
    from tasm.backbone.ends import end_disagreement
    from tasm.demonstrations import make_query

    try:
        model = load_model(name)
        zero_shot_answers(model.backbone, [make_query("Hello")], max_new_tokens=1)
    except TasmError as error:
        return {"name": name, "works": False}, f"Error: {error}"
    backbone = model.backbone
    return {
        "name": name,
        "works": True,
        "family": backbone.family.name,
        "device": str(backbone.device),
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "layers": backbone.geometry.layers,
        "kv_heads": backbone.geometry.kv_heads,
        "max_positions": backbone.geometry.max_positions,
        "end_of_turn": end_disagreement(backbone),
    }, None


def _advice(document: dict[str, Any]) -> list[str]:
    advice = [
        f"{name} is not installed ({what_for})."
        for name, what_for in OPTIONAL.items()
        if document["optional"][name] is None
    ]
    if document["reference_model"] is None:
        advice.append("The bundled model is missing: `make reference` trains it.")
    if len(document["devices"]) == 1:
        advice.append("There is no accelerator: models run on the CPU, in float32.")
    disagreement = (document["model"] or {}).get("end_of_turn")
    if disagreement is not None:
        advice.append(disagreement)
    return advice


def _for_people(document: dict[str, Any]) -> Any:
    from tasm.cli.text import bytes_text, table

    found: dict[str, str | None] = document["versions"] | document["optional"]
    for device in document["devices"]:
        size = bytes_text(device["memory_bytes"]) if "memory_bytes" in device else ""
        found[device["name"]] = f"{device.get('title', '')} {size}".strip() or "there"
    found["Bundled model"] = document["reference_model"] or "missing"
    found["Hub cache"] = document["huggingface_cache"]
    if (model := document["model"]) is not None:
        found[model["name"]] = "does not work"
        if model["works"]:
            found[model["name"]] = (
                f"works: {model['family']}, {model['dtype']} on {model['device']}"
            )
    return [table(("What", "Found"), found.items()), *document["advice"]]
