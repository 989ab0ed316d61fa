"""Whole numbers in few bytes: differences, their bytes apart, deflated.

Positions, places and token numbers mostly count up, so that their first differences are small and
alike. Knows integers and bytes only.
"""

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_LEVEL = 9
_DEEPEST = 2**31  # bytes that a stream may unfold to


def deflated(numbers: Tensor) -> Tensor:
    """Return a stream (bytes,) uint8 that holds whole numbers of 32 bits, without loss.

    ```python
    >>> inflated(deflated(torch.tensor([[3, 4], [5, -1]])), (2, 2))
    tensor([[ 3,  4],
            [ 5, -1]], dtype=torch.int32)
    ```

    The numbers in row-major order, each minus the one before it (the first minus 0) modulo 2^32,
    little-endian; all lowest bytes, then all second ones and so on; deflated (zlib, RFC 1950).
    """
    flat = numbers.detach().cpu().to(torch.int32).reshape(-1).numpy()
    steps = np.diff(flat, prepend=np.int32(0)).astype("<i4")
    planes = steps.view(np.uint8).reshape(-1, 4).T
    stream = zlib.compress(np.ascontiguousarray(planes).tobytes(), _LEVEL)
    return torch.frombuffer(bytearray(stream), dtype=torch.uint8)


def inflated(stream: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the numbers of a stream, int32 of the given shape.

    Raises:
        ValueError: the stream holds something else, or another number of numbers.
    """
    count = int(np.prod(shape, dtype=np.int64))
    if not 0 <= 4 * count < _DEEPEST:
        raise ValueError(f"{count} packed numbers are too many")
    reader = zlib.decompressobj()
    try:
        planes = reader.decompress(stream.cpu().numpy().tobytes(), 4 * count + 1)
    except zlib.error as error:
        raise ValueError(f"packed numbers cannot be unfolded ({error})") from None
    if len(planes) != 4 * count or not reader.eof or reader.unused_data:
        raise ValueError(f"packed numbers are not the {count} that there must be")
    steps = np.frombuffer(planes, np.uint8).reshape(4, -1).T
    numbers = np.ascontiguousarray(steps).view("<i4").reshape(-1)
    return torch.from_numpy(np.cumsum(numbers, dtype=np.int32)).reshape(tuple(shape))
