"""The tiny model and the files of tests/bench here too."""

from tests.bench.conftest import backbone, files, model_folder

__all__ = ["backbone", "files", "model_folder"]
