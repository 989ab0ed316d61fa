"""The house is as README draws it, and no room reaches into another's private names."""

import ast
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "tasm"


def test_the_tree_in_readme_names_every_room() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    drawn = readme[readme.index("\nsrc/tasm/\n") :].partition("```")[0]
    rooms = set(re.findall(r"^  (\w+)/ ", drawn, re.MULTILINE)) | {"files"}
    there = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name[0] != "_"}
    assert "files/" in drawn
    assert rooms == there
    outside = re.findall(r"^([\w/]+)/ ", drawn, re.MULTILINE)
    assert outside
    for name in outside:
        assert (ROOT / name).is_dir(), name


def test_private_names_stay_in_their_module() -> None:
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tasm"):
                private = [one.name for one in node.names if re.match(r"_[^_]", one.name)]
                found += [(path.relative_to(PACKAGE).as_posix(), name) for name in private]
    assert found == []


@pytest.mark.parametrize("folder", ["benchmarks", "training"])
def test_scripts_beside_the_package_import_what_is_there(folder: str) -> None:
    """Most of them take minutes, so that no test runs them whole."""
    missing, seen = [], 0
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("tasm"):
                continue
            module = import_module(str(node.module))
            for one in node.names:
                seen += 1
                if not hasattr(module, one.name) and find_spec(f"{node.module}.{one.name}") is None:
                    missing.append((path.name, node.module, one.name))
    assert seen and missing == []
