"""The frozen model: loading, families' facts, transcript, rotary positions, cache and attention.

Names are imported when first used, so that a list of families costs no import of torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasm.backbone.attention import ATTENTION
    from tasm.backbone.cache import MemoryCache
    from tasm.backbone.decoder import attention_modules, find_decoder
    from tasm.backbone.families import FAMILIES, Family
    from tasm.backbone.geometry import Geometry, LayerKind
    from tasm.backbone.hooks import attach, detach, set_attention
    from tasm.backbone.identity import Identity
    from tasm.backbone.limits import check_positions
    from tasm.backbone.loading import load_backbone, wrap_backbone
    from tasm.backbone.model import Backbone
    from tasm.backbone.recording import AttentionCall
    from tasm.backbone.roles import Role
    from tasm.backbone.rotary import Rotary
    from tasm.backbone.segment import UNUSED, Extra, Segment, can_join, join
    from tasm.backbone.transcript import Layout, Transcript

_HOMES = {
    "ATTENTION": "attention",
    "AttentionCall": "recording",
    "Backbone": "model",
    "Extra": "segment",
    "FAMILIES": "families",
    "Family": "families",
    "Geometry": "geometry",
    "Identity": "identity",
    "LayerKind": "geometry",
    "Layout": "transcript",
    "MemoryCache": "cache",
    "Role": "roles",
    "Rotary": "rotary",
    "Segment": "segment",
    "Transcript": "transcript",
    "UNUSED": "segment",
    "attach": "hooks",
    "attention_modules": "decoder",
    "can_join": "segment",
    "check_positions": "limits",
    "detach": "hooks",
    "find_decoder": "decoder",
    "join": "segment",
    "load_backbone": "loading",
    "set_attention": "hooks",
    "wrap_backbone": "loading",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


__all__ = [
    "ATTENTION",
    "AttentionCall",
    "Backbone",
    "Extra",
    "FAMILIES",
    "Family",
    "Geometry",
    "Identity",
    "LayerKind",
    "Layout",
    "MemoryCache",
    "Role",
    "Rotary",
    "Segment",
    "Transcript",
    "UNUSED",
    "attach",
    "attention_modules",
    "can_join",
    "check_positions",
    "detach",
    "find_decoder",
    "join",
    "load_backbone",
    "set_attention",
    "wrap_backbone",
]
