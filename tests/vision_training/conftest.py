"""The tiny checkpoints that vision memories are tested on."""

from tests.vision_memory.conftest import backbone_of, folder_of, loaded, own_cache_folder

__all__ = ["backbone_of", "folder_of", "loaded", "own_cache_folder"]  # fixtures
