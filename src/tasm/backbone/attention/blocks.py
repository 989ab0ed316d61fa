"""How many numbers are held at once where something is computed block by block.

Small blocks bound memory. On an accelerator a block that does not fill it costs what a large one
costs, and its memory is small change beside the weights.
"""

import torch

_FILLS, _MOST_THERE = 1 << 25, 1 << 26


def numbers_at_once(wanted: int, least: int, most: int, device: torch.device) -> int:
    """Return `wanted`, within `least` and `most` on a CPU, within 32 and 64 million elsewhere.

    ```python
    >>> numbers_at_once(1000, 4096, 1 << 22, torch.device("cpu"))
    4096
    ```
    """
    if device.type != "cpu":
        least, most = _FILLS, _MOST_THERE
    return min(most, max(least, wanted))
