"""Loads a folder's processor: image processor, tokenizer, chat template, with or without
torchvision.

transformers builds a family's processor only where all its parts can be built, the video processor
included, and that one needs torchvision. Without torchvision the family's own class is assembled
from the other parts by a subclass that asks for no video processor. Nothing of transformers is
altered.
"""

import importlib
import inspect
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tasm.backbone.checkpoint.pixtral import PixtralRows
from tasm.backbone.hugging_face import HfProcessor, HfTokenizer
from tasm.errors import ModelError, first_line

LOCAL = {"local_files_only": True, "trust_remote_code": False}

# Classes that cannot do without the video processor, and the class that lays images out just so:
# SmolVLM wants the package num2words for its videos, LLaVA-NeXT-Video takes the video processor
# first.
_LAID_OUT_LIKE = {
    "SmolVLMProcessor": "Idefics3Processor",
    "LlavaNextVideoProcessor": "LlavaNextProcessor",
}


def load_processor(folder: Path, model_type: str, *, has_images: bool) -> Any:
    """Return the processor of `folder` (a tokenizer, where the model takes no images).

    ```python
    processor = load_processor(Path("models/qwen2-vl"), "qwen2_vl", has_images=True)
    ```

    Raises `ModelError` where the tokenizer, the image processor or the chat template is missing.
    """
    if not has_images:
        _check_tokenizer_files(folder)
        tokenizer = _tokenizer(folder)
        _check_offsets(tokenizer, folder)
        return _with_template(tokenizer, folder, tokenizer)
    if not _image_settings(folder):
        raise ModelError(
            f"{folder} has no image processor: looked for preprocessor_config.json, and for "
            f"'image_processor' in processor_config.json. Copy them from the model's page."
        )
    _check_tokenizer_files(folder)
    processor = _whole(folder, model_type)
    if processor is None:
        processor = _assembled(folder, model_type, _tokenizer(folder))
    tokenizer = tokenizer_of(processor)
    _check_offsets(tokenizer, folder)
    return _with_template(processor, folder, tokenizer)


def tokenizer_of(processor: HfProcessor) -> HfTokenizer:
    """Return the tokenizer inside a processor, or the processor where it is a tokenizer itself."""
    return getattr(processor, "tokenizer", processor)


def template_of(processor: HfProcessor) -> Any:
    """Return the chat template that a processor has, or its tokenizer; None where neither has."""
    own = getattr(processor, "chat_template", None)
    return own or getattr(tokenizer_of(processor), "chat_template", None)


def _whole(folder: Path, model_type: str) -> Any:
    """The family's own processor with all its parts, or None where a part cannot be built."""
    from transformers import AutoProcessor

    if find_spec("torchvision") is None:
        own = _processor_class(_class_name(folder, model_type))
        if own is None or "video_processor" in _parameters(own):
            return None  # known to fail, after reading the tokenizer for nothing
    try:
        processor = AutoProcessor.from_pretrained(folder, **LOCAL)
    except Exception:  # every family fails in its own way without torchvision; assembled next
        return None
    has_parts = hasattr(processor, "image_processor") and hasattr(processor, "tokenizer")
    return processor if has_parts else None


def _assembled(folder: Path, model_type: str, tokenizer: HfTokenizer) -> Any:
    image_processor = _image_processor(folder)
    settings = read_json(folder / "processor_config.json")
    class_name = _class_name(folder, model_type)
    is_pixtral = class_name == "PixtralProcessor"
    name = _LAID_OUT_LIKE.get(class_name, class_name)
    base = PixtralRows if is_pixtral else _processor_class(name)
    if base is None:
        raise ModelError(
            f"The processor {class_name!r} of {folder} (model type {model_type!r}) cannot be built "
            f"here: transformers has no such class, or it needs another package. "
            f"`pip install torchvision` brings what most processors need."
        )
    names = _parameters(base)
    scalars = {
        name: value
        for name, value in settings.items()
        if name in names and isinstance(value, str | int | float | bool)
    }
    scalars.pop("chat_template", None)
    try:
        kind = base if is_pixtral else without_video(base)
        return kind(image_processor=image_processor, tokenizer=tokenizer, **scalars)
    except Exception as error:
        raise ModelError(
            f"The processor {class_name!r} of {folder} cannot be assembled: {error}"
        ) from error


def without_video(base: type) -> type:
    """Return a subclass of a processor class: an image processor, a tokenizer, nothing else."""
    wanted = ["image_processor", "tokenizer"]
    members: dict[str, Any] = {"get_attributes": classmethod(lambda cls: list(wanted))}
    if hasattr(base, "attributes"):
        # transformers 4: the parts are a list on the class, each with the name of its class.
        members |= {
            "attributes": wanted,
            "image_processor_class": "AutoImageProcessor",
            "tokenizer_class": "AutoTokenizer",
        }
    return type(base.__name__, (base,), members)


def _parameters(base: type) -> set[str]:
    return set(inspect.signature(base.__init__).parameters)  # type: ignore[misc]


def _processor_class(name: str) -> type | None:
    import transformers
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    for module, class_names in PROCESSOR_MAPPING_NAMES.items():
        if name not in (class_names if isinstance(class_names, tuple) else (class_names,)):
            continue
        try:
            folder = module.replace("-", "_")
            path = f"transformers.models.{folder}.processing_{folder}"
            return getattr(importlib.import_module(path), name, None)
        except ImportError:
            continue
    try:
        found = getattr(transformers, name, None)
    except ImportError:
        return None
    return None if getattr(found, "is_dummy", False) else found


def _class_name(folder: Path, model_type: str) -> str:
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    files = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
    for file in files:
        named = read_json(folder / file).get("processor_class")
        if isinstance(named, str):
            return named
    name = PROCESSOR_MAPPING_NAMES.get(model_type)
    name = name[0] if isinstance(name, tuple) else name
    if name is None:
        raise ModelError(
            f"{folder} does not say which processor it wants: looked for 'processor_class' in "
            f"processor_config.json, preprocessor_config.json and tokenizer_config.json, and for a "
            f"processor of the model type {model_type!r} in transformers."
        )
    return name


def _image_processor(folder: Path) -> Any:
    from transformers import AutoImageProcessor

    for choice in ({"backend": "pil"}, {"use_fast": False}):
        try:
            processor = AutoImageProcessor.from_pretrained(folder, **choice, **LOCAL)
        except Exception as error:
            problem = error
            continue
        return processor
    raise ModelError(
        f"The image processor of {folder} cannot be loaded: {first_line(problem)} "
        f"`pip install torchvision` brings what some image processors need."
    ) from problem


def _check_tokenizer_files(folder: Path) -> None:
    names = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
    if not any((folder / name).is_file() for name in names):
        raise ModelError(f"{folder} has no tokenizer: looked for {', '.join(names)}.")


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, **LOCAL)
    except Exception as error:
        raise ModelError(
            f"The tokenizer of {folder} cannot be loaded: {first_line(error)}"
        ) from error


def _check_offsets(tokenizer: HfTokenizer, folder: Path) -> None:
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"The tokenizer of {folder} is a {type(tokenizer).__name__}, which does not tell where "
            f"its tokens lie in the text; expected one with a tokenizer.json."
        )


def _with_template(processor: HfProcessor, folder: Path, tokenizer: HfTokenizer) -> HfProcessor:
    if not getattr(processor, "chat_template", None):
        template = template_in(folder) or getattr(tokenizer, "chat_template", None)
        if not template:
            raise ModelError(
                f"{folder} has no chat template: looked for chat_template.jinja, "
                f"chat_template.json and 'chat_template' in tokenizer_config.json. A base model "
                f"without one cannot hold a conversation; use the instruction-tuned model, or add "
                f"chat_template.jinja."
            )
        processor.chat_template = template
    return processor


def template_in(folder: Path) -> Any:
    """Return the chat template that has a file of its own; None where there is none."""
    file = folder / "chat_template.jinja"
    own = file.read_text(encoding="utf-8") if file.is_file() else None
    return own or read_json(folder / "chat_template.json").get("chat_template")


def _image_settings(folder: Path) -> bool:
    return (folder / "preprocessor_config.json").is_file() or "image_processor" in read_json(
        folder / "processor_config.json"
    )


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; empty where there is no file."""
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON: {error}") from error
    return document if isinstance(document, dict) else {"": document}
