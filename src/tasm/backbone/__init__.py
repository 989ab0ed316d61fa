"""The frozen model: loading, families' facts, transcript, rotary positions, cache and attention.

Names are imported when first used, so that a list of families costs no import of torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasm.backbone.attention.attention_call import AttentionCall
    from tasm.backbone.attention.cache import MemoryCache
    from tasm.backbone.attention.hooks import attach, detach, set_attention
    from tasm.backbone.attention.rotary import Rotary
    from tasm.backbone.attention.segment import UNUSED, Segment
    from tasm.backbone.checkpoint.families import FAMILIES
    from tasm.backbone.checkpoint.identity import Identity
    from tasm.backbone.decoder import find_decoder
    from tasm.backbone.geometry import Geometry
    from tasm.backbone.loading import load_backbone, wrap_backbone
    from tasm.backbone.model import Backbone
    from tasm.backbone.prompt.roles import Role
    from tasm.backbone.prompt.transcript import Layout

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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


__all__ = [
    "FAMILIES",
    "UNUSED",
    "AttentionCall",
    "Backbone",
    "Geometry",
    "Identity",
    "Layout",
    "MemoryCache",
    "Role",
    "Rotary",
    "Segment",
    "attach",
    "detach",
    "find_decoder",
    "load_backbone",
    "set_attention",
    "wrap_backbone",
]
