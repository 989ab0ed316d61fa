"""The package says what it is: version, types, licence, changelog, pinned versions."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
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


def test_a_wheel_holds_all_that_the_package_needs(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    skipped = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=skipped)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "out", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tmp_path / "out").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = [name for name in archive.namelist() if name.endswith("/licenses/LICENSE")]
    source = tmp_path / "src"
    needed = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    assert held == {name for name in needed if ".egg-info/" not in name}
    assert len(licences) == 1


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
