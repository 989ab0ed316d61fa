"""Attention sums for budgets and reducers: their own view of what a scorer had recorded.

A scorer may turn attention into ranks; what weighs tokens by attention itself reads it here.
"""

from torch import Tensor

from tasm.compress.evidence import Evidence
from tasm.compress.records.received import Received


def attention_sums(evidence: Evidence, otherwise: Tensor) -> Tensor:
    """Return (kv_heads, entries) the attention that entries received, of the first such record.

    Padding has none. `otherwise` is returned where the scorer recorded no attention.
    """
    for records in (evidence.records, evidence.replayed):
        for state in records.values():
            if isinstance(state, Received):
                return state.mass.masked_fill(~evidence.valid, 0)
    return otherwise
