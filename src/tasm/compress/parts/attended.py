"""Attention sums for budgets and reducers: what all rows paid, whatever the scorer had recorded.

A scorer may turn attention into ranks, or look at none; what weighs tokens by attention itself
names `EVERYONE` among its records and reads it here.
"""

from torch import Tensor

from tasm.compress.evidence import Evidence
from tasm.compress.records.received import AttentionReceived

EVERYONE = AttentionReceived("all")
"""The record that `attention_sums` reads."""


def attention_sums(evidence: Evidence) -> Tensor:
    """Return (kv_heads, entries) the attention that entries received; padding has none."""
    mass: Tensor = evidence.records[EVERYONE].mass
    return mass.masked_fill(~evidence.valid, 0)
