"""The demo, with the bundled model: its memory answers, and its page stands alone."""

from pathlib import Path

import pytest

from tasm.demo import run_demo
from tests.view.html_reader import check_page


@pytest.mark.slow
def test_the_memory_answers_clearly_better_than_nothing(tmp_path: Path) -> None:
    found = run_demo(tmp_path / "demo")
    assert len(found["answers"]) == found["queries"] == 10
    nothing, memory, full = (way["accuracy"] for way in found["ways"])
    assert memory >= nothing + 0.4
    assert abs(memory - full) <= 0.2
    assert found["agreement"] >= 0.8
    assert found["core_bytes"] < 0.22 * found["full_bytes"]
    page = check_page(Path(found["report"]).read_text(encoding="utf-8"))
    assert len(page.all("img")) == 40 + 10
    queries = page.all("article", "query")
    assert len(queries) == 10
    for query, answers in zip(queries, found["answers"], strict=True):
        assert query.all("h3")[0].text == answers["expected"]
        given = [mark.text.split() for mark in query.all("dd")]
        told = [answers[way] for way in ("memory", "full", "zero_shot")]
        assert [" ".join(words[1:]) for words in given] == told
        assert [words[0] == "✓" for words in given] == [
            answer == answers["expected"] for answer in told
        ]
    assert not any("open" in fold.attributes for fold in page.all("details"))
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == [
        "bind.tasm",
        "report.html",
        "task",
    ]
