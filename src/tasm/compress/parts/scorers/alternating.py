"""Importance by how little a token resembles the other half: ToMe's bipartite matching.

Bolya et al., "Token Merging", arXiv 2210.09461, section 3.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tasm.compress.evidence import Evidence
from tasm.compress.parts.base import Scorer


@dataclass(frozen=True)
class LeastRedundant(Scorer):
    """Tokens alternate between A and B; S_a = −max_b cos(k_a, k_b), and B scores above A.

    So the tokens of A that resemble B most leave first, and merge into their most similar token.
    Under half of the tokens B leaves too, by its resemblance to A.

    Differs from the paper in: one step to the budget, not r tokens a layer; the sink is the most
    similar kept token, from either half; keys of every KV head are matched apart, where the paper
    averages heads; made for a context, where the paper's is for a ViT.
    """

    def score(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries)."""
        unit = evidence.plain_keys
        for some in evidence.pieces():
            unit[:, some] = normalize(unit[:, some], dim=-1)
        second = (evidence.index % 2 == 1) & evidence.valid
        first = ~second & evidence.valid
        step = max(1, evidence.block // 2 // max(1, evidence.kv_heads * evidence.entries))
        best = []
        for start in range(0, evidence.entries, step):
            rows = slice(start, start + step)
            cosine = unit[:, rows] @ unit.transpose(1, 2)
            other = torch.where(second[:, rows, None], first[:, None], second[:, None])
            best.append(cosine.masked_fill_(~other, -1).amax(-1))
        return -torch.cat(best, 1) + second * 3.0
