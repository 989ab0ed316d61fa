"""Sizing a memory by the demonstrations themselves: how small may it be, how good will it be.

Knows builds and answers; nothing of files, pages or command lines.
"""

from tasm.sizing.tuning import Tuned, tune

__all__ = ["Tuned", "tune"]
