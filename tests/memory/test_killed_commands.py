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
    steps = scene.steps[name]
    early, late = (
        random.Random(name).randint(2, steps - 4),
        random.Random(name).randint(steps - 3, steps),
    )
    first = scene.killed(name, step=early)
    assert first.split(",")[0] in ("old", "none")
    assert scene.killed(name, step=late).split(",")[0] in ("old", "new", "none")
