"""Commands that change memories are killed (-9) before steps that change the disk: the old or the
new memory is there, whole, and the next writer leaves no litter. `tests.memory.kills` tries them
all, and any moment."""

import os
import random

import pytest

from tests.memory.kills import COMMANDS, Scene

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Scene:
    return Scene.made(tmp_path_factory.mktemp("killed"))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_leaves_the_old_or_the_new_memory(scene, name):
    """One step each here, early or late by the command."""
    steps = scene.steps[name]
    is_late = list(COMMANDS).index(name) % 2
    step = random.Random(name).randint(*((steps - 3, steps) if is_late else (2, steps - 4)))
    found = scene.killed(name, step=step)
    assert found.split(",")[0] in (("old", "new", "none") if is_late else ("old", "none"))
