"""The frozen model: loading, families' facts, transcript, rotary positions, cache and attention.

Names are imported when first used, so that a list of families costs no import of torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasm.backbone.attention.cache import MemoryCache
    from tasm.backbone.attention.function import ATTENTION
    from tasm.backbone.attention.hooks import attach, detach, set_attention
    from tasm.backbone.attention.recording import AttentionCall
    from tasm.backbone.attention.rotary import Rotary
    from tasm.backbone.attention.segment import UNUSED, Extra, Segment, can_join, join
    from tasm.backbone.checkpoint.families import FAMILIES, Family
    from tasm.backbone.checkpoint.identity import Identity
    from tasm.backbone.decoder import attention_modules, find_decoder
    from tasm.backbone.geometry import Geometry, LayerKind
    from tasm.backbone.limits import check_positions
    from tasm.backbone.loading import load_backbone, wrap_backbone
    from tasm.backbone.model import Backbone
    from tasm.backbone.prompt.roles import Role
    from tasm.backbone.prompt.transcript import Layout, Transcript

_HOMES = {
    "ATTENTION": "attention.function",
    "AttentionCall": "attention.recording",
    "Backbone": "model",
    "Extra": "attention.segment",
    "FAMILIES": "checkpoint.families",
    "Family": "checkpoint.families",
    "Geometry": "geometry",
    "Identity": "checkpoint.identity",
    "LayerKind": "geometry",
    "Layout": "prompt.transcript",
    "MemoryCache": "attention.cache",
    "Role": "prompt.roles",
    "Rotary": "attention.rotary",
    "Segment": "attention.segment",
    "Transcript": "prompt.transcript",
    "UNUSED": "attention.segment",
    "attach": "attention.hooks",
    "attention_modules": "decoder",
    "can_join": "attention.segment",
    "check_positions": "limits",
    "detach": "attention.hooks",
    "find_decoder": "decoder",
    "join": "attention.segment",
    "load_backbone": "loading",
    "set_attention": "attention.hooks",
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
