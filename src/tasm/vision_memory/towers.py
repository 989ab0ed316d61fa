"""Where a model's vision tower has its blocks, and how they pack images.

Knows the attribute names of a few families' towers in transformers; nothing of adapters.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from tasm.errors import ModelError
from tasm.vision_memory.grouping import Grouping, Packed, Rows

FAMILIES = ("llava", "idefics3", "smolvlm", "qwen2_vl")
"""The model types whose towers are known."""


@dataclass(frozen=True, eq=False)
class Tower:
    """A vision tower.

    `holder` is the smallest module that runs both tower and decoder; `blocks` are called one after
    another; `width` is that of their tokens; `project` makes of (images, width) what the language
    model would see of it, (images, text_width).
    """

    module: nn.Module
    holder: nn.Module
    blocks: nn.ModuleList
    width: int
    text_width: int
    has_class_token: bool
    project: Callable[[Tensor], Tensor]

    def grouping(self, tokens: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Grouping:
        """Return which tokens belong to which image, from a block's own arguments."""
        edges = kwargs.get("cu_seqlens")
        if tokens.ndim == 2 and edges is not None:
            return Packed(edges)
        if tokens.ndim != 3:
            raise ModelError(
                f"{type(self.module).__name__} calls its blocks with tokens of shape "
                f"{tuple(tokens.shape)}, of which no image's part can be told; a vision memory "
                "cannot run in it."
            )
        mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
        return Rows(tokens.shape[0], None if mask is None else _valid(mask, tokens))


def find_tower(core: Any) -> Tower:
    """Return the vision tower of a transformers model.

    ```python
    find_tower(backbone.core).width      # 1024 of CLIP-L
    ```

    Raises `ModelError` for a family whose tower is not known.
    """
    kind = core.config.model_type
    if kind not in FAMILIES:
        raise ModelError(
            f"A vision memory cannot run in a {kind!r} model: where its tower cuts, orders or pads "
            f"images is not known. Known: {', '.join(FAMILIES)}."
        )
    holder = core.model
    if kind == "qwen2_vl":
        tower, blocks = holder.visual, holder.visual.blocks
    elif kind == "llava":
        tower = holder.vision_tower
        blocks = _encoder_layers(tower)
    else:
        tower, blocks = holder.vision_model, holder.vision_model.encoder.layers
    norm = next(module for module in blocks[0].modules() if isinstance(module, nn.LayerNorm))
    return Tower(
        module=tower,
        holder=holder,
        blocks=blocks,
        width=int(norm.normalized_shape[0]),
        text_width=int(core.get_input_embeddings().embedding_dim),
        has_class_token=any(
            name.endswith("class_embedding") for name, _ in tower.named_parameters()
        ),
        project=_projection(kind, holder),
    )


def _encoder_layers(tower: Any) -> nn.ModuleList:
    """CLIP's and SigLIP's blocks, which transformers 4 keeps one module deeper."""
    encoder = getattr(getattr(tower, "vision_model", tower), "encoder", None)
    layers = getattr(encoder, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise ModelError(
            f"A vision memory cannot run in the tower {type(tower).__name__}: expected CLIP's or "
            "SigLIP's, with encoder.layers."
        )
    return layers


def _projection(kind: str, holder: Any) -> Callable[[Tensor], Tensor]:
    """The model's own way from the tower into its decoder, for one vector an image.

    Where it takes a square of tokens for one, the vector fills the square.
    """

    def project(vectors: Tensor) -> Tensor:
        if kind == "llava":
            return holder.multi_modal_projector(vectors.unsqueeze(1)).squeeze(1)
        if kind == "qwen2_vl":
            side = int(holder.visual.spatial_merge_size)
            return holder.visual.merger(vectors.repeat_interleave(side * side, 0))
        side = int(holder.connector.scale_factor)
        square = vectors.unsqueeze(1).repeat(1, side * side, 1)
        return holder.connector(square).squeeze(1)

    return project


def _valid(mask: Tensor, tokens: Tensor) -> Tensor:
    """(images, tokens) bool of a mask of attention: (images, tokens), or (images, 1, tokens,
    tokens) whose first row, a token that is never padding, sees all that are none."""
    if mask.ndim == 4:
        mask = mask[:, 0, 0]
    if mask.is_floating_point():  # added to the logits: 0, or very negative
        mask = mask >= 0
    return (mask > 0).expand(tokens.shape[:2])
