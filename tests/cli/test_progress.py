"""The progress bar, on a pretended terminal."""

import io
import sys
from typing import Any

import pytest

from tasm.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("total", "shown"), [(0, None), (300, 300)])
def test_a_stage_whose_length_nobody_knows_never_looks_finished(
    total: int, shown: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr("tasm.cli.progress.SECONDS_BEFORE_A_BAR", -1.0)
    with Progress() as progress:
        for done in range(250):
            progress("Reading", done + 1, total)
        (task,) = progress._bars.tasks
        assert (task.completed, task.total, task.finished) == (250, shown, False)


def test_nothing_is_drawn_where_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr: Any = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr("tasm.cli.progress.SECONDS_BEFORE_A_BAR", -1.0)
    with Progress() as progress:
        progress("Reading", 1, 2)
    assert stderr.getvalue() == ""
