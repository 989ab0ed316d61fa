"""Whatever stands for a model in a call becomes a `Backbone`."""

import os
from typing import TYPE_CHECKING, Any

from tasm.arguments import path, shown
from tasm.errors import InputError

if TYPE_CHECKING:
    from tasm.backbone.model import Backbone


def as_backbone(model: Any) -> "Backbone":
    """Return the backbone of a `tasm.Model`, of a name or a folder, or the backbone itself.

    ```python
    as_backbone("reference")      # loads it
    ```

    Raises `InputError` for anything else, and `ModelError` where a name cannot be loaded.
    """
    from tasm.backbone.model import Backbone

    if isinstance(model, Backbone):
        return model
    if isinstance(getattr(model, "backbone", None), Backbone):
        backbone: Backbone = model.backbone
        return backbone
    if isinstance(model, str | os.PathLike):
        from tasm.backbone.loading import load_backbone

        return load_backbone(path(model, "model", "a model folder, or a model's name"))
    if hasattr(model, "generate") and hasattr(model, "config"):
        raise InputError(
            f"model is a {type(model).__name__} of transformers; wrap it together with its "
            "processor first: model = tasm.wrap(hf_model, processor)."
        )
    raise InputError(
        f"model is {shown(model)}; expected what tasm.load_model or tasm.wrap return, or a model's "
        "name or folder."
    )
