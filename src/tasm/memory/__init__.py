"""The task memory: core, bank, gate and retrieval, and how it is written and read.

Knows nothing of how a memory's tokens were chosen.
"""

from tasm.memory.entry import DemonstrationEntry, PictureEntry
from tasm.memory.layer import LayerTokens
from tasm.memory.retrieval.bank import Bank
from tasm.memory.retrieval.gate import GateReference, GateSettings
from tasm.memory.task_memory import TaskMemory
from tasm.memory.tokens import TokenTable

load = TaskMemory.load

__all__ = [
    "Bank",
    "DemonstrationEntry",
    "GateReference",
    "GateSettings",
    "LayerTokens",
    "PictureEntry",
    "TaskMemory",
    "TokenTable",
    "load",
]
