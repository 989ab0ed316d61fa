"""A method of another package: an installed distribution with an entry point, found and built."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tasm.compress.recipes.table import RECIPES, all_recipes, find_recipe
from tasm.errors import RecipeError
from tests.compress.tiny_backbone import build_tiny, tiny_backbone

MODULE = """
from dataclasses import dataclass

from tasm.compress.parts.base import Scorer
from tasm.compress.recipes.recipe import Part, Recipe


@dataclass(frozen=True)
class Loudness(Scorer):
    power: float = 1.0

    def score(self, evidence):
        return evidence.values.float().norm(dim=-1) ** self.power


LOUD = Recipe("loud-values", "Loud values", 2026, "https://example.org",
              scorer=Part("loud_values:Loudness", {"power": 2.0}))
ROWS = [LOUD, LOUD.with_settings(scorer={"power": -1.0})]
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "loud_values.py").write_text(MODULE)
    about = tmp_path / "loud_values-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: loud-values\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[tasm.recipes]\nloud = loud_values:LOUD\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    all_recipes.cache_clear()
    yield tmp_path
    all_recipes.cache_clear()
    sys.modules.pop("loud_values", None)


def test_it_is_found_and_built(installed: Path) -> None:
    assert [*all_recipes()] == [*RECIPES, "loud-values"]
    with pytest.raises(RecipeError, match="Did you mean 'loud-values'"):
        find_recipe("loud-value")
    backbone = tiny_backbone()
    memory = build_tiny(backbone, 3, recipe="loud-values", core="20")
    whole = build_tiny(backbone, 3, recipe="full").core[2]
    kept = memory.core[2]
    assert whole is not None and kept is not None
    norms = whole.values.norm(dim=-1)
    norms[:, :4] = torch.inf  # the system prompt is always kept
    assert torch.equal(kept.index.long(), norms.topk(20, dim=1).indices.sort(1).values)


def test_the_command_line_lists_it(installed: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tasm", "recipes", "--json"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), *sys.path])},
        capture_output=True,
        text=True,
        check=True,
    )
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["loud-values"]["scorer"] == "Loudness"


def test_two_of_one_name(installed: Path) -> None:
    entries = installed / "loud_values-1.0.dist-info" / "entry_points.txt"
    entries.write_text("[tasm.recipes]\nloud = loud_values:ROWS\n")
    with pytest.raises(RecipeError, match="'loud-values'"):
        all_recipes()
