"""The frozen model: loading, families' facts, transcript, rotary positions, cache and attention.

Names are imported when first used, so that a list of families costs no import of torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasm.backbone.attention import ATTENTION
    from tasm.backbone.cache import MemoryCache
    from tasm.backbone.decoder import attention_modules, find_decoder
    from tasm.backbone.geometry import Geometry, LayerKind
    from tasm.backbone.hooks import attach, detach, set_attention
    from tasm.backbone.recording import AttentionCall
    from tasm.backbone.rotary import Rotary
    from tasm.backbone.segment import UNUSED, Extra, Segment, can_join, join

_HOMES = {
    "ATTENTION": "attention",
    "AttentionCall": "recording",
    "Extra": "segment",
    "Geometry": "geometry",
    "LayerKind": "geometry",
    "MemoryCache": "cache",
    "Rotary": "rotary",
    "Segment": "segment",
    "UNUSED": "segment",
    "attach": "hooks",
    "attention_modules": "decoder",
    "can_join": "segment",
    "detach": "hooks",
    "find_decoder": "decoder",
    "join": "segment",
    "set_attention": "hooks",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


__all__ = [
    "ATTENTION",
    "UNUSED",
    "AttentionCall",
    "Extra",
    "Geometry",
    "LayerKind",
    "MemoryCache",
    "Rotary",
    "Segment",
    "attach",
    "attention_modules",
    "can_join",
    "detach",
    "find_decoder",
    "join",
    "set_attention",
]
