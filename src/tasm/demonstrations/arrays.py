"""Turns arrays of NumPy and tensors of torch into pictures.

Knows shapes and number types; imports neither torch nor what made the array. A picture is uint8,
height × width, or with 1, 3 or 4 channels last or first.
"""

from typing import Any

import numpy as np
from PIL import Image

from tasm.demonstrations.problems import RowProblem

_EXPECTED = "uint8 numbers of 0 … 255, height × width × 3 (or × 4, × 1, or height × width)"
_CHANNELS = (1, 3, 4)


def as_array(value: Any) -> np.ndarray[Any, Any] | None:
    """Return `value` as a NumPy array if it is one, or a tensor; else None."""
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "detach") and hasattr(value, "cpu") and hasattr(value, "shape"):
        try:
            return np.asarray(value.detach().cpu().numpy())
        except Exception:  # bfloat16 and others that NumPy has not
            return np.empty(tuple(value.shape), np.float32)  # refused for its type
    return None


def picture_of_array(array: np.ndarray[Any, Any], field: str) -> Image.Image:
    """Return the picture that an array holds.

    ```python
    picture_of_array(np.zeros((48, 64, 3), np.uint8), "image").size      # (64, 48)
    ```

    Raises `RowProblem` for other shapes and number types.
    """
    shape = " × ".join(map(str, array.shape)) or "no size"
    found = f"an array of {array.dtype}, {shape}"
    if array.dtype.kind == "f":
        raise RowProblem(
            field, found, f"{_EXPECTED}: for 0 … 1 give (array * 255).round().astype('uint8')"
        )
    is_16_bit_grey = array.dtype == np.uint16 and array.ndim == 2
    if (array.dtype != np.uint8 and not is_16_bit_grey) or array.ndim not in (2, 3):
        raise RowProblem(field, found, _EXPECTED)
    if array.size == 0:
        raise RowProblem(field, found, "a picture of at least one pixel")
    if array.ndim == 3:
        last = array.shape[2] in _CHANNELS
        first = array.shape[0] in _CHANNELS and min(array.shape[1:]) > max(_CHANNELS)
        if array.shape[0] in (1, 3) and last:  # as narrow as it has channels: either could be meant
            raise RowProblem(field, found, "channels at one end only; a PIL.Image says which")
        if not (first or last):
            raise RowProblem(field, found, _EXPECTED)
        if not last:
            array = np.moveaxis(array, 0, 2)
        if array.shape[2] == 1:
            array = array[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(array))
