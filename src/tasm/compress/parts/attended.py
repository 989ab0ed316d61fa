"""What parts take of the records: attention sums, and rows that are asked again.

A scorer may turn attention into ranks, or look at none; what weighs tokens by attention itself
names `EVERYONE` among its records and reads it here.
"""

from torch import Tensor

from tasm.compress.evidence import Evidence
from tasm.compress.parts.base import Budget, Reducer, Scorer
from tasm.compress.records.received import AttentionReceived
from tasm.compress.records.references import Asked

EVERYONE = AttentionReceived("all")
"""The record that `attention_sums` reads."""


def attention_sums(evidence: Evidence) -> Tensor:
    """Return (kv_heads, entries) the attention that entries received; padding has none."""
    mass: Tensor = evidence.records[EVERYONE].mass
    return mass.masked_fill(~evidence.valid, 0)


def asked_of(part: Scorer | Budget | Reducer, evidence: Evidence) -> Asked:
    """Return the reference rows that `part` named, of a replay or of the first reading."""
    if part.replayed:
        asked: Asked = evidence.replayed[part.replayed[0]]
    else:
        asked = evidence.records[part.records[0]]
    return asked
