"""The dtypes that a model may run in, by name."""

from typing import Any

import torch

from tasm.arguments import shown
from tasm.errors import InputError, did_you_mean

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def dtype_named(name: Any, *others: str) -> torch.dtype:
    """Return the dtype of a name, or torch's own of that name; raises `InputError` for another.

    ```python
    >>> dtype_named("bfloat16")
    torch.bfloat16
    ```

    `others` are what else may be given, for the message.
    """
    text = str(name).removeprefix("torch.")
    if isinstance(name, str | torch.dtype) and text in DTYPES:
        return DTYPES[text]
    given = text if isinstance(name, torch.dtype) else shown(name)
    expected = ", ".join((*others, *DTYPES))
    raise InputError(f"Unknown dtype {given}. Expected {expected}.{did_you_mean(text, DTYPES)}")
