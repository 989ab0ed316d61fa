"""The demo, with the bundled model: its memory answers, and its page stands alone."""

from pathlib import Path

import pytest

from tasm.demo import run_demo


@pytest.mark.slow
def test_the_memory_answers_clearly_better_than_nothing(tmp_path: Path) -> None:
    found = run_demo(tmp_path / "demo")
    assert len(found["answers"]) == found["queries"] == 10
    nothing, memory, full = (way["accuracy"] for way in found["ways"])
    assert memory >= nothing + 0.4
    assert abs(memory - full) <= 0.2
    assert found["agreement"] >= 0.8
    assert found["core_bytes"] < 0.22 * found["full_bytes"]
    page = Path(found["report"]).read_text(encoding="utf-8")
    assert page.count("<img") == 40 + 10
    assert "http" not in page.replace("http-equiv", "")
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == [
        "bind.tasm",
        "report.html",
        "task",
    ]
