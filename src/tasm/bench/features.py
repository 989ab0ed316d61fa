"""What a model's own vision part makes of a query's pictures: one vector a query.

The vectors are the mean over picture tokens of what the text decoder is handed, so no family's
vision interface has to be known: a hook on the decoder reads its input, and the decoder itself
never runs.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tasm.backbone.prompt.transcript import Layout
from tasm.demonstrations import Query

if TYPE_CHECKING:
    from tasm.backbone.model import Backbone

BATCH_SIZE = 16


class _EnoughSeen(Exception):
    """Leaves the model before its decoder runs."""


def picture_features(backbone: "Backbone", queries: Sequence[Query], layout: Layout) -> Tensor:
    """Return (queries, hidden size) float32 vectors of length 1, on the CPU.

    A query without a picture is represented by the mean of its text tokens.

    ```python
    features = picture_features(backbone, queries, Layout())
    nearness = features @ features.T
    ```
    """
    found = [
        _features(backbone, queries[start : start + BATCH_SIZE], layout)
        for start in range(0, len(queries), BATCH_SIZE)
    ]
    return torch.nn.functional.normalize(torch.cat(found), dim=-1)


def _features(backbone: "Backbone", queries: Sequence[Query], layout: Layout) -> Tensor:
    inputs = backbone.query_inputs(queries, layout=layout)
    seen: list[Tensor] = []

    def look(module: Any, arguments: Any, keywords: dict[str, Any]) -> None:
        seen.append(keywords["inputs_embeds"])
        raise _EnoughSeen

    handle = backbone.decoder.register_forward_pre_hook(look, with_kwargs=True)
    try:
        with torch.inference_mode():
            backbone.hf(**inputs, use_cache=False)
    except _EnoughSeen:
        pass
    finally:
        handle.remove()
    text = inputs["attention_mask"].bool()
    picture = inputs["input_ids"] == _image_token(backbone.hf.config)
    wanted = torch.where(picture.any(-1, keepdim=True), picture, text).to(seen[0].device)
    weights = wanted.float() / wanted.sum(-1, keepdim=True)
    return torch.einsum("bt,btd->bd", weights, seen[0].float()).cpu()


def _image_token(config: Any) -> int:
    """The id of the token that pictures are expanded to, -1 in a text-only model."""
    for name in ("image_token_id", "image_token_index"):
        if getattr(config, name, None) is not None:
            return int(getattr(config, name))
    return -1
