"""Opens a model: a folder, a hub name, the bundled model, or a random one made in memory.

Weights come from safetensors files only and code from nowhere but transformers. A folder is never
looked for on the network; only a name of the form owner/name is.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch

from tasm.arguments import shown
from tasm.backbone.checkpoint.processors import LOCAL, load_processor
from tasm.backbone.checkpoint.quiet import quiet
from tasm.backbone.checkpoint.random_models import RANDOM_MODELS, random_model
from tasm.backbone.dtypes import dtype_named
from tasm.backbone.hugging_face import HfConfig, HfModel, HfProcessor
from tasm.backbone.model import Backbone
from tasm.backbone.pickling import check_arrived
from tasm.backbone.running.guard import folder_source
from tasm.backbone.wrappers import unwrap
from tasm.errors import InputError, ModelError, did_you_mean, first_line

_REFERENCE = "reference"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt"]
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")


def load_backbone(
    name_or_path: str | Path,
    *,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "auto",
) -> Backbone:
    """Open a model by folder, hub name, `"reference"` or `"random:NAME"`.

    `dtype` is `"auto"`, `"float32"`, `"float16"` or `"bfloat16"`, or torch's own of that name;
    `"auto"` is float32 on a CPU, and elsewhere what the checkpoint was saved in. `device` is
    `"auto"` or a torch device.

    ```python
    backbone = load_backbone("models/qwen2-vl-2b", device="cpu")
    ```

    Raises `ModelError` where the model, its processor or its chat template cannot be used.
    """
    if not isinstance(name_or_path, str | Path) or not str(name_or_path).strip():
        raise InputError(
            f"The model's name is {shown(name_or_path)}; expected a folder, a hub name "
            f"(owner/name), '{_REFERENCE}' or 'random:NAME'. A model in memory is wrapped: "
            "tasm.wrap(model, processor)."
        )
    name = str(name_or_path)
    place = _device(device)
    kind = None if dtype == "auto" else dtype_named(dtype, "auto")
    if name.startswith("random:"):
        with quiet():
            hf, processor = random_model(name.removeprefix("random:"))
        hf = hf.to(place, kind or torch.float32)
        return Backbone(hf, processor, name, reopen=_opened_again)
    folder = reference_folder() if name == _REFERENCE else _folder(name)
    wanted: Any = kind or (torch.float32 if place.type == "cpu" else "auto")
    source = folder_source(folder)
    with quiet():
        config = _config(folder)
        has_images = _takes_images(config, folder)
        _check_weights(folder)
        # The processor first: what it lacks is known long before large weights are read.
        processor = load_processor(folder, config.model_type, has_images=has_images)
        hf = _weights(folder, has_images, wanted).to(place)
    return Backbone(hf, processor, name, source, reopen=_opened_again)


def _opened_again(name: str, dtype: str, device: str, parts: dict[str, str]) -> Backbone:
    """What unpickling a loaded model does; raises `MismatchError` where it is another one."""
    backbone = load_backbone(name, dtype=dtype, device=device)
    check_arrived(name, parts, backbone.identity)
    return backbone


def wrap_backbone(hf: HfModel, processor: HfProcessor) -> Backbone:
    """Use a transformers model and its processor (or tokenizer) that are already loaded.

    ```python
    backbone = wrap_backbone(AutoModelForImageTextToText.from_pretrained(folder), processor)
    ```

    What wraps the model (PEFT, torch.compile, accelerate, a module of one's own) is looked through.
    Raises `ModelError` for anything but a transformers model and its processor.
    """
    if isinstance(getattr(hf, "backbone", None), Backbone):
        raise ModelError("hf is a tasm.Model, which is wrapped already: use it as it is.")
    core = unwrap(hf)
    name = getattr(core.config, "_name_or_path", "") or type(core).__name__
    return Backbone(hf, processor, str(name))


def reference_folder() -> Path:
    """Return the folder of the bundled model."""
    folder = Path(__file__).resolve().parent.parent / "reference" / "model"
    if not (folder / "config.json").is_file():
        raise ModelError(f"The bundled model is not in {folder}. Reinstall tasm.")
    return folder


def _folder(name: str) -> Path:
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise ModelError(f"{name} is a file; expected a model folder with a config.json.")
    if _HUB_NAME.fullmatch(name) and not path.parent.is_dir():
        return _from_hub(name)
    choices = [_REFERENCE, *(f"random:{model}" for model in RANDOM_MODELS)]
    raise ModelError(
        f"There is no model folder {name}. Expected a folder, a hub name (owner/name), "
        f"'{_REFERENCE}' or 'random:NAME'.{did_you_mean(name, choices)}"
    )


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    for local in (True, False):
        try:
            folder = Path(
                snapshot_download(name, allow_patterns=_HUB_FILES, local_files_only=local)
            )
        except Exception as error:  # offline, unknown or gated: each a class of its own
            problem = error
            continue
        if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
            return folder
        problem = ModelError(f"{name} has no config.json with safetensors weights")
    raise ModelError(
        f"The model {name} is not on this machine and cannot be fetched: {first_line(problem)} "
        f"Give a folder that holds it, or check the name and the connection."
    ) from problem


def _config(folder: Path) -> HfConfig:
    from transformers import AutoConfig

    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(
            f"{folder} is not a model folder: it has no config.json. Expected what save_pretrained "
            f"writes: config.json, *.safetensors, tokenizer and processor files."
        )
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("model_type"), str):
        raise ModelError(f"{path} has no 'model_type'; expected a model configuration.")
    try:
        return AutoConfig.from_pretrained(folder, **LOCAL)
    except Exception as error:
        from transformers import __version__

        custom = "it needs code of its own, which tasm never runs" if "auto_map" in document else ""
        raise ModelError(
            f"transformers {__version__} cannot read {path} (model type "
            f"{document['model_type']!r}): {custom or first_line(error)}"
        ) from error


def _takes_images(config: HfConfig, folder: Path) -> bool:
    from transformers.models.auto import modeling_auto

    kind = config.model_type
    if kind in modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return True
    if kind in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return False
    raise ModelError(
        f"{folder} holds a {kind!r} model, which is neither an image-text model nor a text "
        f"decoder; expected one of those. `tasm models` lists the families."
    )


def _check_weights(folder: Path) -> None:
    if any(folder.glob("*.safetensors")):
        return
    pickled = sorted(path.name for pattern in _PICKLED for path in folder.glob(pattern))
    if pickled:
        raise ModelError(
            f"{folder} holds its weights as {pickled[0]}, a format that can run code when "
            f"opened; tasm reads safetensors only. Convert it once, where you trust it: "
            f"AutoModelForImageTextToText.from_pretrained(folder).save_pretrained(new_folder)."
        )
    raise ModelError(f"{folder} has no weights: looked for *.safetensors.")


def _weights(folder: Path, has_images: bool, dtype: Any) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    kind: Any = AutoModelForImageTextToText if has_images else AutoModelForCausalLM
    try:
        hf, report = kind.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, output_loading_info=True, **LOCAL
        )
    except Exception as error:
        raise ModelError(
            f"The weights of {folder} cannot be loaded: {first_line(error)} "
            f"A file may be damaged or incomplete; copy it again."
        ) from error
    lacking = sorted(str(key) for key in report.get("missing_keys", ()))
    misfits = sorted(str(key) for key in report.get("mismatched_keys", ()))
    if lacking or misfits:
        shown = ", ".join((lacking or misfits)[:3])
        raise ModelError(
            f"The weights of {folder} do not fit its config.json: {len(lacking)} tensors are "
            f"missing and {len(misfits)} have another shape (such as {shown}). Copy the "
            f"checkpoint again."
        )
    return hf


def _device(name: Any) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        if not isinstance(name, str | torch.device):
            raise RuntimeError("it is no name.")
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError("tensors on it have no values, so nothing can be computed.")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise InputError(
            f"The device {shown(name)} cannot be used here: {first_line(error)} "
            f"Expected 'auto', 'cpu' or a device that torch knows, such as 'cuda:0'."
        ) from error
    return device
