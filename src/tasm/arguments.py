"""Checks of what a caller passed: each names the argument, what was seen and what is expected.

Knows Python's own types only; what a value means is the business of who asks.
"""

import math
import os
from collections.abc import Iterable
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal

from tasm.errors import InputError, did_you_mean

GateKind = Literal["missing", "js", "entropy", "always", "never"]
"""When a query looks into a memory's bank; what each is: `tasm.memory.retrieval.gates`."""

_SHOWN = 60


def shown(value: Any) -> str:
    """Return a value as a sentence names it: short ones as written, others by their type.

    ```python
    >>> shown("abc"), shown([1, 2])
    ("'abc'", 'a list')
    ```
    """
    if value is None or isinstance(value, bool | int | float | str | Path):
        text = str(value) if isinstance(value, Path) else repr(value)
        return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def whole_number(value: Any, name: str, *, least: int, most: int | None = None) -> int:
    """Return a whole number between `least` and `most`; raises InputError for anything else.

    ```python
    >>> whole_number(8, "batch_size", least=1)
    8
    ```
    """
    fits = isinstance(value, Integral) and not isinstance(value, bool)
    if fits and value >= least and (most is None or value <= most):
        return int(value)
    upper = "or more" if most is None else f"to {most:,}"
    raise InputError(f"{name} is {shown(value)}; expected a whole number, {least} {upper}.")


def nats(value: Any, name: str) -> float:
    """Return a threshold in nats, zero or more; raises InputError for anything else.

    ```python
    >>> nats(0.002, "epsilon")
    0.002
    ```
    """
    fits = isinstance(value, Real) and not isinstance(value, bool)
    if fits and math.isfinite(value) and value >= 0:
        return float(value)
    raise InputError(
        f"{name} is {shown(value)}; expected a number of nats, 0 or more, or 'calibrated'."
    )


def share(value: Any, name: str) -> float:
    """Return a number between 0 and 1; raises InputError for anything else."""
    fits = isinstance(value, Real) and not isinstance(value, bool)
    if fits and 0 <= value <= 1:
        return float(value)
    raise InputError(f"{name} is {shown(value)}; expected a share between 0 and 1.")


def one_of(value: Any, name: str, choices: Iterable[str]) -> str:
    """Return one of the choices; raises InputError, with the nearest one, for anything else.

    ```python
    >>> one_of("js", "gate", ("js", "always", "never"))
    'js'
    ```
    """
    known = tuple(choices)
    if isinstance(value, str) and value in known:
        return value
    hint = did_you_mean(value, known) if isinstance(value, str) else ""
    raise InputError(f"{name} is {shown(value)}; expected one of {', '.join(known)}.{hint}")


def text(value: Any, name: str) -> str:
    """Return a string; raises InputError for anything else."""
    if isinstance(value, str):
        return value
    raise InputError(f"{name} is {shown(value)}; expected a string.")


def flag(value: Any, name: str) -> bool:
    """Return True or False; raises InputError for anything else."""
    if isinstance(value, bool):
        return value
    raise InputError(f"{name} is {shown(value)}; expected True or False.")


def listener(value: Any, name: str) -> None:
    """Raise InputError for what is neither None nor can be called."""
    if value is not None and not callable(value):
        raise InputError(f"{name} is {shown(value)}; expected a function to call, or None.")


def unheard(*said: object) -> None:
    """What is called where nobody listens."""


def path(value: Any, name: str, what: str) -> Path:
    """Return the path of `what` ("the folder of a task memory").

    Raises InputError for what is no path, and for an empty one, which would be the current folder.
    """
    if isinstance(value, bytes) or not isinstance(value, str | os.PathLike):
        raise InputError(f"{name} is {shown(value)}; expected the path of {what}.")
    written = os.fspath(value)
    if isinstance(written, bytes) or not written.strip() or "\0" in written:
        raise InputError(f"{name} is {written!r}; expected the path of {what}.")
    try:
        os.fsencode(written)
    except UnicodeError:
        raise InputError(
            f"{name} is {written!a:.80}, which has characters that no file name can have; expected "
            f"the path of {what}."
        ) from None
    return Path(written).expanduser()
