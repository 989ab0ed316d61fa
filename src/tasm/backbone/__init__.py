"""The frozen model: loading, families' facts, transcript, rotary positions, cache and attention.

Names are imported when first used, so that a list of families costs no import of torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasm.backbone.attention.attention_call import AttentionCall as AttentionCall
    from tasm.backbone.attention.cache import MemoryCache as MemoryCache
    from tasm.backbone.attention.hooks import attach as attach
    from tasm.backbone.attention.hooks import detach as detach
    from tasm.backbone.attention.hooks import set_attention as set_attention
    from tasm.backbone.attention.rotary import Rotary as Rotary
    from tasm.backbone.attention.segment import UNUSED as UNUSED
    from tasm.backbone.attention.segment import Segment as Segment
    from tasm.backbone.checkpoint.families import FAMILIES as FAMILIES
    from tasm.backbone.checkpoint.identity import Identity as Identity
    from tasm.backbone.decoder import find_decoder as find_decoder
    from tasm.backbone.geometry import Geometry as Geometry
    from tasm.backbone.loading import load_backbone as load_backbone
    from tasm.backbone.loading import wrap_backbone as wrap_backbone
    from tasm.backbone.model import Backbone as Backbone
    from tasm.backbone.prompt.roles import Role as Role
    from tasm.backbone.prompt.transcript import Layout as Layout

_HOMES = {
    "AttentionCall": "attention.attention_call",
    "Backbone": "model",
    "FAMILIES": "checkpoint.families",
    "Geometry": "geometry",
    "Identity": "checkpoint.identity",
    "Layout": "prompt.transcript",
    "MemoryCache": "attention.cache",
    "Role": "prompt.roles",
    "Rotary": "attention.rotary",
    "Segment": "attention.segment",
    "UNUSED": "attention.segment",
    "attach": "attention.hooks",
    "detach": "attention.hooks",
    "find_decoder": "decoder",
    "load_backbone": "loading",
    "set_attention": "attention.hooks",
    "wrap_backbone": "loading",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
