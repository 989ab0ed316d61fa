"""Tiny checkpoints of the families whose towers are known, and adapters that do something."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tasm.backbone import Backbone, load_backbone
from tasm.vision_memory.attached import VisionMemory
from tasm.vision_memory.module import make_adapter
from tasm.vision_memory.settings import AdapterSettings, Kind
from tasm.vision_memory.towers import find_tower
from tests.tiny_folders import tiny_folder


@pytest.fixture(autouse=True)
def own_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's tiny checkpoint; read only."""
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = tiny_folder(family, tmp_path_factory.mktemp(family))
        return made[family]

    return folder


@pytest.fixture(scope="session")
def backbone_of(folder_of: Callable[[str], Path]) -> Callable[[str], Backbone]:
    """A family's tiny model; a test leaves nothing attached to it."""
    loaded: dict[str, Backbone] = {}

    def backbone(family: str) -> Backbone:
        if family not in loaded:
            loaded[family] = load_backbone(folder_of(family))
        assert loaded[family].vision is None
        return loaded[family]

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
