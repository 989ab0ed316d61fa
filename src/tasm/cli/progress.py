"""A progress bar on standard error: only on a terminal, only for work of over two seconds."""

import sys
import time
from typing import Any

SECONDS_BEFORE_A_BAR = 2.0


class Progress:
    """Call it with a stage, how much of it is done and how much there is (0: nobody knows).

    ```python
    with Progress() as progress:
        for done in range(100):
            progress("Encoding", done + 1, 100)
    ```
    """

    def __init__(self) -> None:
        self._visible = sys.stderr.isatty()
        self._started = time.monotonic()
        self._bars: Any = None
        self._stages: dict[str, Any] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        if not self._visible:
            return
        if self._bars is None:
            if time.monotonic() - self._started < SECONDS_BEFORE_A_BAR:
                return
            self._open()
        if stage not in self._stages:
            self._stages[stage] = self._bars.add_task(
                stage, total=total or None
            )  # rich's own default is 100
        self._bars.update(self._stages[stage], completed=done, total=total or None)

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            transient=True,
        )
        self._bars.start()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()
