"""Importance by the attention of probe tokens: ZipVL's normalised scores.

He et al., "ZipVL", arXiv 2410.08584, equations (4) and (5).
"""

from dataclasses import dataclass

from torch import Tensor

from tasm.compress.evidence import Evidence
from tasm.compress.parts.base import Scorer
from tasm.compress.records.received import AttentionReceived
from tasm.compress.records.record import Record


@dataclass(frozen=True)
class ProbeAttention(Scorer):
    """S_i = Σ_r a_ri / (number of probe rows that can see i), every `every`-th token a probe.

    Differs from the paper in: probes are evenly spaced; the paper takes recent and random ones.
    """

    every: int = 8

    @property
    def records(self) -> tuple[Record, ...]:
        """Attention from the probes."""
        return (AttentionReceived(f"every:{self.every}"),)

    def score(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries)."""
        received = evidence.records[self.records[0]]
        mean: Tensor = received.mean
        return mean.expand(evidence.index.shape)
