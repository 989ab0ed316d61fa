"""The package says what it is: version, types, licence, changelog, pinned versions."""

import importlib.metadata
import re
import tomllib
from itertools import chain
from pathlib import Path

import tasm

ROOT = Path(__file__).parents[2]


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {name.lower().replace("_", "-"): version for name, version in pairs}


def test_the_version_is_one() -> None:
    assert importlib.metadata.version("tasm") == tasm.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text()
    newest = re.search(r"^## (\S+)", changelog, re.MULTILINE)
    assert newest is not None and newest[1] == tasm.__version__


def test_the_command_is_there() -> None:
    scripts = importlib.metadata.entry_points(group="console_scripts", name="tasm")
    assert [script.value for script in scripts] == ["tasm.cli:main"]


def test_the_package_is_typed_and_licensed() -> None:
    assert (Path(tasm.__file__).parent / "py.typed").exists()
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert project()["project"]["license"] == "Apache-2.0"


def test_every_dependency_is_pinned_and_torchvision_is_none() -> None:
    about = project()["project"]
    wanted = list(chain(about["dependencies"], *about["optional-dependencies"].values()))
    names = {re.split(r"[\[<>=!~ ]", one)[0].lower().replace("_", "-") for one in wanted}
    versions = pinned()
    assert names - {"tasm"} <= versions.keys()
    assert "torchvision" not in versions


def test_the_extra_all_holds_every_other_extra() -> None:
    extras = project()["project"]["optional-dependencies"]
    (everything,) = extras.pop("all")
    named = set(everything.removeprefix("tasm[").removesuffix("]").split(","))
    assert named == set(extras)


def test_nothing_unpickles() -> None:
    """A memory or a model from elsewhere must not run code when it is opened."""
    risky = re.compile(
        r"\bimport pickle\b|\bfrom pickle\b|\btrust_remote_code=True"
        r"|\btorch\.load\((?!.*weights_only=True)"
    )
    found = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "src").rglob("*.py")
        if risky.search(path.read_text())
    ]
    assert found == []
