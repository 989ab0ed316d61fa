"""Reads the answers in a row: text, a number or a truth value, one or several accepted ones."""

import json
import math
from decimal import Decimal
from typing import Any

import numpy as np

from tasm.demonstrations.marks import IMAGE_MARK, split_at_marks
from tasm.demonstrations.problems import RowProblem, check_text, describe

_LARGEST_WHOLE = 10**15
"""Floating-point numbers up to here are written out; beyond they are powers of ten."""


def answers_from(value: Any) -> tuple[str, ...]:
    """Return the accepted answers that `value` names; `RowProblem` for what is no answer.

    ```python
    >>> answers_from(["wren", 3, 2.0, True])
    ('wren', '3', '2', 'true')
    ```
    """
    if isinstance(value, np.ndarray):
        value = value.tolist()
    accepted = list(value) if isinstance(value, list | tuple) else [value]
    if not accepted:
        raise RowProblem("answer", "an empty list", "a string, or a list of accepted ones")
    return tuple(_answer(one) for one in accepted)


def _answer(value: Any) -> str:
    answer = value if isinstance(value, str) else number_as_text(value)
    if answer is None:
        raise RowProblem("answer", describe(value), "a string")
    if not answer.strip():
        raise RowProblem("answer", "an empty string", "a string that is not empty")
    text, *others = split_at_marks(answer)
    if others:
        expected = f"text; answers hold no pictures, and \\{IMAGE_MARK} is the word itself"
        raise RowProblem("answer", f"the mark {IMAGE_MARK}", expected)
    check_text(text, "answer")
    return text


def number_as_text(value: Any) -> str | None:
    """Return a number or truth value as it is asked for; None for anything else.

    Whole numbers have no point, whatever type they came in: 3 and 3.0 are "3". Truth values are
    "true" and "false".
    """
    if isinstance(value, np.ndarray | np.generic) and value.ndim == 0:
        # By way of its text: 0.1 in 32 bits is 0.10000000149 in 64.
        value = float(str(value)) if value.dtype.kind == "f" else value.item()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        try:
            return str(value)
        except ValueError:  # thousands of digits
            return None
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() else None
    if isinstance(value, float) and math.isfinite(value):
        if value.is_integer() and abs(value) <= _LARGEST_WHOLE:
            return str(int(value))
        return json.dumps(value)
    return None
