"""What a model runs with that is no part of the model itself: answers may differ a little with it.

A memory records it, and is warned of, not refused, where it is another one.
"""

from collections.abc import Mapping
from typing import Any

from tasm.backbone.hugging_face import HfModel, HfProcessor
from tasm.errors import FormatError

QUANTISATION, IMAGE_PROCESSOR = "quantisation", "image_processor"
DTYPE, ADAPTERS = "dtype", "adapters"

Environment = Mapping[str, str | None]
"""By name: the method that the weights are quantised with, or None; the class that makes images
into tensors, or None where the model takes none; the dtype that the weights are in; the adapters
that are active, or None. What is not known is missing."""


def environment_of(hf: HfModel, processor: HfProcessor) -> dict[str, str | None]:
    """Return what a loaded model runs with.

    ```python
    environment_of(model.hf, model.processor)
    # {'quantisation': None, 'image_processor': 'Qwen2VLImageProcessorFast'}
    ```
    """
    settings = getattr(hf.config, "quantization_config", None)
    if isinstance(settings, Mapping):
        method = settings.get("quant_method", "unknown")
    else:
        method = None if settings is None else getattr(settings, "quant_method", "unknown")
    images = getattr(processor, "image_processor", None)
    return {
        QUANTISATION: None if method is None else str(getattr(method, "value", method)),
        IMAGE_PROCESSOR: None if images is None else type(images).__name__,
    }


def environment_from_json(document: Any) -> dict[str, str | None]:
    """Read what a memory recorded; one written before there was an environment has none.

    Raises `FormatError` on anything but an object of strings and nulls.
    """
    if document is None:
        return {}
    if not isinstance(document, dict) or not all(
        value is None or isinstance(value, str) for value in document.values()
    ):
        raise FormatError(
            f"The model's environment is {str(document)[:80]!r}; expected an object of strings and "
            f"nulls, such as {QUANTISATION!r} and {IMAGE_PROCESSOR!r}."
        )
    return dict(document)


def environment_differences(built: Environment, here: Environment) -> list[str]:
    """Return a sentence for each part that both know and that differs.

    ```python
    environment_differences(memory.identity.environment, backbone.identity.environment)      # []
    ```
    """
    sentences = []
    for name, what in _SAID.items():
        if name in built and name in here and built[name] != here[name]:
            sentences.append(
                f"The memory was built with {what.format(built[name] or 'none')}, the model runs "
                f"with {what.format(here[name] or 'none')} here: answers may differ a little."
            )
    return sentences


# Adapters are named where weights differ; the same weights with and without one answer alike.
_SAID = {
    QUANTISATION: "quantisation {}",
    IMAGE_PROCESSOR: "the image processor {}",
    DTYPE: "weights in {}",
}
