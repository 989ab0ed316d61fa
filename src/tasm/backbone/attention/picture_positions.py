"""Pictures in a call beside a memory: their positions, and that their pixels are there.

Models with three rows of positions keep what they know of a conversation's positions on themselves
(`rope_deltas`), where another conversation, batch or thread overwrites it, and give a picture in a
later turn the positions of text. Beside a memory every call's positions are therefore computed from
its own tokens, by the model's `get_rope_index`; the cache counts on from there. Knows ids, grids
and masks; nothing of how a memory was built.
"""

import inspect
from typing import Any

import torch
from torch import Tensor

from tasm.backbone.attention.masks import Mask
from tasm.backbone.attention.positions import are_of_pictures
from tasm.backbone.geometry import image_token
from tasm.backbone.hugging_face import HfConfig, HfModel
from tasm.errors import InputError

_PIXELS = ("pixel_values", "image_embeds", "image_features", "inputs_embeds")


def picture_arguments(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return those of a call's arguments that bring pictures."""
    return {
        name: value
        for name, value in kwargs.items()
        if name.startswith(("pixel_", "image_")) or name == "batch_num_images"
    }


def refuse_missing_pixels(module: HfModel, ids: Any, kwargs: dict[str, Any]) -> None:
    """Raise InputError where tokens stand for a picture whose pixels are not given.

    Some versions of transformers leave the pixels of a later turn or chunk out without a word.
    """
    token = image_token(getattr(module, "config", None))
    if token is None or not isinstance(ids, Tensor) or ids.ndim != 2 or ids.shape[1] == 1:
        return
    if kwargs.get("mm_encoder_outputs") or any(kwargs.get(name) is not None for name in _PIXELS):
        return
    count = int((ids == token).sum())
    if count:
        raise InputError(
            f"The call has {count} image tokens and no pixels: give the pictures of these tokens "
            "(pixel_values and what the processor makes beside it), in one call with their tokens."
        )


def whole_token_types(types: Any, live: int, count: int, slots: int | None) -> Any:
    """Return a call's token types as those of all live tokens, `live` of them read before.

    Masks that let a picture's tokens see each other count them from the first live token. What was
    read before is seen by all, so it may be text.
    """
    if not isinstance(types, Tensor) or types.shape[1] != count or not (live or slots):
        return types
    behind = max(0, (slots or 0) - live - count)
    return torch.nn.functional.pad(types, (live, behind))


def call_positions(
    module: HfModel, tokens: Tensor, mask: Mask, kwargs: dict[str, Any]
) -> Tensor | None:
    """Return the positions (3, batch, n) of one call's tokens, counted from its own beginning.

    None where the call has pictures and not their grids. `tokens` are ids (batch, n) or embeddings;
    `mask` is what `cache.live_mask` returned.
    Raises InputError for pictures that do not belong to the image tokens of the call, and for
    positions of pictures over tokens that are none.
    """
    batch, count = tokens.shape[:2]
    own = mask[:, -count:] if isinstance(mask, Tensor) and mask.ndim == 2 else None
    token, grids = image_token(module.config), kwargs.get("image_grid_thw")
    is_image = tokens == token if tokens.ndim == 2 and token is not None else None
    if is_image is None or count == 1 or not bool(is_image.any()):
        placed = kwargs.get("position_ids")
        if placed is not None and are_of_pictures(placed, count):
            raise InputError(
                f"position_ids {tuple(placed.shape)} place tokens as those of a picture are "
                "placed, and none of the call's tokens is known to be one. Leave position_ids out, "
                "and give input_ids with image_grid_thw where there are pictures: positions are "
                "computed from them."
            )
        places = torch.arange(count, device=tokens.device).expand(batch, -1)
        if own is not None:
            places = (own.to(tokens.device).cumsum(1) - 1).clamp_min(0)
        return places[None].expand(3, -1, -1)
    if grids is None:
        return None
    _check_grids(module.config, int(is_image.sum()), grids)
    given = {
        "input_ids": tokens,
        "image_grid_thw": grids,
        "attention_mask": own,
        "mm_token_type_ids": is_image.long(),
    }
    index = next(part for part in module.modules() if hasattr(part, "get_rope_index"))
    accepted = inspect.signature(index.get_rope_index).parameters
    # Counted picture by picture, in many small operations: on the host.
    found = index.get_rope_index(
        **{
            name: value.cpu() if isinstance(value, Tensor) else value
            for name, value in given.items()
            if name in accepted
        }
    )
    return found[0].to(tokens.device)  # type: ignore[no-any-return]


def _check_grids(config: HfConfig, found: int, grids: Tensor) -> None:
    merge = int(getattr(config.vision_config, "spatial_merge_size", 1))
    expected = int(grids.prod(-1).sum()) // merge**2
    if found != expected:
        raise InputError(
            f"The call has {found} image tokens, and the {len(grids)} pictures given have "
            f"{expected}. Give exactly the pictures of the new tokens; those of earlier turns are "
            "in the cache already."
        )
