"""Peak memory of a piece of work above what was held before it.

On a GPU the allocator's own high-water mark; on a CPU the process's resident set, whose mark
Linux lets a process reset. Elsewhere the mark since the process began, which is why callers
measure each piece of work in a process of its own.
"""

import gc
import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


def peak_above(work: Callable[[], object], device: torch.device) -> int:
    """Run `work` and return the bytes its peak lay above what was held before.

    ```python
    >>> peak_above(lambda: torch.zeros(25_000_000), torch.device("cpu")) > 90_000_000
    True
    ```
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    can_reset = _reset_resident_peak()
    before = _status("VmRSS") if can_reset else _resident_peak()
    work()
    after = _status("VmHWM") if can_reset else _resident_peak()
    return max(after - before, 0)


def _reset_resident_peak() -> bool:
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"/proc/self/status has no line {name}")
    return int(found.group(1)) * 1024


def _resident_peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
