"""Importance of image tokens only, text kept whole: FastV and SparseVLM.

Chen et al., "FastV", arXiv 2403.06764, section 4; Zhang et al., "SparseVLM", arXiv 2410.04417,
equations (3) to (6).
"""

from dataclasses import dataclass

from torch import Tensor

from tasm.compress.evidence import Evidence
from tasm.compress.parts.base import Scorer
from tasm.compress.records.received import AttentionFromRaters, AttentionReceived
from tasm.compress.records.record import Record


@dataclass(frozen=True)
class VisualAttention(Scorer):
    """FastV: S_i = attention that an image token receives from the last token in layer `layer`;
    deeper layers take these scores. Text stays.

    | setting | |
    |---|---|
    | `layer` | the layer whose attention decides, counted from 0 (the paper's K − 1) |
    | `attending` | the rows that attend: "last:1" is the paper's code, "all" its text |

    Differs from the paper in:
    - The last token is the last of the demonstrations: the query is not known yet.
    - The context is read whole; what is pruned is the memory, not the pass that reads it.
    - Where the text alone is over the budget, text is pruned by the same attention.
    """

    layer: int = 1
    attending: str = "last:1"

    @property
    def records(self) -> tuple[Record, ...]:
        """Attention from the rows that decide."""
        return (AttentionReceived(self.attending),)

    def source_layer(self, layer: int, layers: int) -> int:
        """Layers from `layer` on take its scores."""
        return max(min(self.layer, layers - 1), 0) if layer > self.layer else layer

    def score(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries): attention, text above all image tokens."""
        mass = evidence.records[self.records[0]].mass
        return mass + ~evidence.is_image * (mass.max() + 1)


@dataclass(frozen=True)
class TextRaters(Scorer):
    """SparseVLM: S_i = attention of an image token from the raters, text tokens that look at the
    image more than the average text token does. Text stays.

    Differs from the paper in:
    - Raters are found per layer by the attention they pay to images; the paper finds them once,
      by the similarity of their embeddings with the image's.
    - The budget is given, not the rank of the attention matrix; pruned tokens are not recycled.
    - Where the text alone is over the budget, text is pruned by the same attention.
    """

    @property
    def records(self) -> tuple[Record, ...]:
        """Attention from raters."""
        return (AttentionFromRaters(),)

    def score(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries): attention from raters, text above all image tokens."""
        mass = evidence.records[self.records[0]].mass
        return mass + ~evidence.is_image * (mass.max() + 1)
