"""Every test file of the repository is collected: none guards nothing."""

from pathlib import Path

import pytest

from tests.own_process import run_python

ROOT = Path(__file__).parents[2]


def test_every_test_file_is_collected(pytestconfig: pytest.Config) -> None:
    here = {path.relative_to(ROOT) for path in _test_files(ROOT)}
    code, listed = run_python(
        "import sys, pytest\n"
        "sys.exit(pytest.main(['--collect-only', '-qq', '-p', 'no:cacheprovider']))",
        ROOT,
    )
    assert code == 0, listed[-2000:]
    collected = {Path(line.partition(": ")[0]) for line in listed.splitlines() if line}
    assert here - collected == set(), "these files are not collected by `make test`"


def test_a_file_outside_the_collected_folders_is_noticed(tmp_path: Path) -> None:
    for name in ("tests/build/test_a.py", "lib/test_b.py", ".venv/test_c.py", "tests/d_test.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = {path.relative_to(tmp_path).as_posix() for path in _test_files(tmp_path)}
    assert found == {"tests/build/test_a.py", "lib/test_b.py", "tests/d_test.py"}


def _test_files(root: Path) -> list[Path]:
    """All files that look like tests; what git does not keep (hidden folders, out) is no part."""
    ours = [entry for entry in root.iterdir() if not entry.name.startswith(".")]
    ours = [entry for entry in ours if entry.name not in {"out", "dist"}]
    files = [path for entry in ours for path in ([entry] if entry.is_file() else entry.rglob("*"))]
    return [path for path in files if path.match("test_*.py") or path.match("*_test.py")]
