"""The table of gates. To add one: a file beside this one, a row here, its name in `GateKind`."""

from tasm.arguments import GateKind
from tasm.memory.retrieval.gates.base import Gate
from tasm.memory.retrieval.gates.divergence import Divergence
from tasm.memory.retrieval.gates.entropy import Entropy
from tasm.memory.retrieval.gates.missing import Missing

GATES: dict[GateKind, Gate | None] = {
    "missing": Missing(),
    "js": Divergence(),
    "entropy": Entropy(),
    "always": None,
    "never": None,
}
"""By name; "always" and "never" have nothing to ask."""
