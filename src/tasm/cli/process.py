"""The process that a command runs in: told to end, or started without a place to print to."""

import os
import signal
import sys
import threading
from typing import Any

BY_A_SIGNAL = 128  # plus the signal's number, as shells say it


class Stopped(BaseException):
    """Another process told this one to end; what is half-written is taken away on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = BY_A_SIGNAL + number


def stop_cleanly() -> None:
    """Let the signals that end a process raise `Stopped`, so that temporary files are removed.

    A second signal ends the process at once.
    """
    if threading.current_thread() is not threading.main_thread():
        return

    def stop(number: int, _: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise Stopped(number)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, stop)


def open_what_is_closed() -> None:
    """Let what is printed go nowhere where the process was started without a place for it."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
