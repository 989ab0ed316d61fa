"""Tiny checkpoints of the families whose towers are known, and adapters that do something."""

from collections.abc import Callable

import pytest
import torch

from tasm.backbone import Backbone
from tasm.vision_memory.attached import VisionMemory
from tasm.vision_memory.module import make_adapter
from tasm.vision_memory.settings import AdapterSettings, Kind
from tasm.vision_memory.towers import find_tower
from tests.backbone.conftest import backbone_of as loaded
from tests.backbone.conftest import folder_of, own_cache_folder

__all__ = ["backbone_of", "folder_of", "loaded", "own_cache_folder"]  # fixtures


@pytest.fixture(scope="session")
def backbone_of(loaded: Callable[[str], Backbone]) -> Callable[[str], Backbone]:
    """A family's tiny model; a test leaves nothing attached to it."""

    def backbone(family: str) -> Backbone:
        found = loaded(family)
        assert found.vision is None
        return found

    return backbone


def settings_for(
    backbone: Backbone, kind: Kind = "mema", question_free: bool = False
) -> AdapterSettings:
    tower = find_tower(backbone.core)
    return AdapterSettings(
        tower.width, tower.text_width, tower.has_class_token, kind, question_free
    )


def shaken_memory(
    backbone: Backbone, kind: Kind = "mema", question_free: bool = False
) -> VisionMemory:
    """An adapter whose weights are drawn large enough to be seen in the features; not attached."""
    torch.manual_seed(0)
    adapter = make_adapter(settings_for(backbone, kind, question_free))
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_(0, 0.3)
    return VisionMemory(backbone, adapter)
