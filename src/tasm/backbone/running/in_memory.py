"""What configuration, processor and tokenizer in memory are: hashes of what they say.

Only what changes answers counts: no dtype, no class names, no settings of generation, none that are
unset. `earlier_parts` is what memories before 0.2 recorded of a wrapped model.
"""

import hashlib
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from tasm.backbone.checkpoint.identity import json_sha256
from tasm.backbone.checkpoint.processors import template_of, tokenizer_of
from tasm.backbone.hugging_face import HfModel, HfProcessor, HfTokenizer

_NO_PART_OF_A_MODEL = {
    "_attn_implementation",
    "_attn_implementation_internal",
    "architectures",
    "attn_implementation",
    "dtype",
    "experts_implementation",
    "output_attentions",
    "output_hidden_states",
    "quantization_config",
    "return_dict",
    "torch_dtype",
    "use_cache",
}
_NO_PART_OF_A_PROCESSOR = {
    "_processor_class",
    "auto_map",
    "data_format",
    "device",
    "disable_grouping",
    "feature_extractor_type",
    "image_processor_type",
    "input_data_format",
    "processor_class",
    "return_tensors",
}


def object_parts(hf: HfModel, processor: HfProcessor) -> dict[str, str]:
    """Return configuration, processor, tokenizer and chat template as they are now.

    ```python
    object_parts(model, processor)["chat template"]      # '5f0c…'
    ```
    """
    tokenizer = tokenizer_of(processor)
    image_processor = getattr(processor, "image_processor", None)
    images: list[Any] = []
    if image_processor is not None:
        own = {k: v for k, v in vars(processor).items() if isinstance(v, int | str)}
        images = [_said(part, _NO_PART_OF_A_PROCESSOR) for part in (image_processor.to_dict(), own)]
    return {
        "config": json_sha256(
            _said(hf.config.to_dict(), _NO_PART_OF_A_MODEL | _settings_of_generation())
        ),
        "processor": json_sha256(images) if images else "",
        "tokenizer": _tokenizer_sha256(tokenizer),
        "chat template": json_sha256(template_of(processor)),
    }


@cache
def _settings_of_generation() -> set[str]:
    """What older checkpoints put among the model's own settings; answers are greedy whatever it
    says. Token ids are no such settings: they end an answer."""
    from transformers import GenerationConfig

    return {name for name in GenerationConfig().to_dict() if not name.endswith("_token_id")}


def _said(document: Any, ignored: set[str]) -> Any:
    """The same values without those ignored and those that are not set."""
    if isinstance(document, dict):
        return {
            str(name): _said(value, ignored)
            for name, value in document.items()
            if name not in ignored and value is not None and value is not False
        }
    if isinstance(document, list | tuple):
        return [_said(value, ignored) for value in document]
    return document


def _tokenizer_sha256(tokenizer: HfTokenizer) -> str:
    """Everything but how a batch is padded and cut, which calls of the tokenizer change."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return json_sha256(sorted(tokenizer.get_vocab().items()))
    known, size, found = _TOKENIZERS.get(tokenizer, (None, 0, ""))
    if known is not backend or size != len(tokenizer):
        text = backend.to_str()
        start = text.find('"added_tokens"')
        found = hashlib.sha256(text[max(0, start) :].encode()).hexdigest()
        _TOKENIZERS[tokenizer] = (tokenizer.backend_tokenizer, len(tokenizer), found)
    return found


# A large vocabulary takes a tenth of a second; nothing but added tokens changes it.
_TOKENIZERS: WeakKeyDictionary[Any, tuple[Any, int, str]] = WeakKeyDictionary()


def known_as(hf: HfModel) -> str:
    """Return "name@commit" of a model that came from the hub, else an empty string."""
    commit, name = getattr(hf.config, "_commit_hash", None), getattr(hf.config, "_name_or_path", "")
    return f"{name}@{commit}" if commit and name else ""


def earlier_parts(hf: HfModel, processor: HfProcessor) -> dict[str, str]:
    """Return the parts but the weights as memories of 0.1 know a wrapped model, and its name."""
    settings = {k: v for k, v in hf.config.to_dict().items() if k != "quantization_config"}
    tokenizer = tokenizer_of(processor)
    image_processor = getattr(processor, "image_processor", None)
    images = [] if image_processor is None else [image_processor.to_dict()]
    images.append({k: v for k, v in vars(processor).items() if isinstance(v, int | str)})
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = backend.to_str() if backend is not None else sorted(tokenizer.get_vocab())
    return {
        "config": json_sha256(settings),
        "processor": json_sha256(images if image_processor is not None else []),
        "tokenizer": json_sha256(vocabulary),
        "chat template": json_sha256(template_of(processor)),
        "name": known_as(hf),
    }


def earlier_weights(hf: HfModel) -> str:
    """Return what memories of 0.1 recorded as a wrapped model's weights: name and commit, or all
    parameters, which are read for it."""
    name = known_as(hf)
    return hashlib.sha256(name.encode()).hexdigest() if name else parameters_sha256(hf)


def parameters_sha256(model: HfModel) -> str:
    """Return the SHA-256 over a model's parameters and buffers: names, types, shapes, bytes."""
    import torch

    digest = hashlib.sha256(b"tasm parameters\0")
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        if flat.numel():
            digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()
