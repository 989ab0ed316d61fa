"""Peak memory of a build above what was held before it.

On a GPU the allocator's own mark; on Linux the resident set, whose mark a process may reset;
elsewhere nothing is known, and None is reported.
"""

import re
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


class PeakMemory:
    """Measures from when it is made.

    ```python
    peak = PeakMemory(torch.device("cpu"))
    ...
    peak.bytes_above_start()
    ```
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before = self._start()

    def _start(self) -> int | None:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return torch.cuda.memory_allocated(self._device)
        try:
            _CLEAR.write_text(_RESET_PEAK)
            return _status("VmRSS")
        except OSError:
            return None

    def bytes_above_start(self) -> int | None:
        """Return the peak since the start, less what was held then."""
        if self._before is None:
            return None
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) - self._before
        return max(0, _status("VmHWM") - self._before)


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    if found is None:
        raise OSError(f"{_STATUS} has no line {name}")
    return int(found[1]) * 1024
