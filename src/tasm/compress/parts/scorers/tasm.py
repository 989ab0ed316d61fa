"""TASM's importance: nearness to the task direction, mixed with the attention that answers pay.

Chen, Shao, Chen, "Task-Aware Structured Memory", arXiv 2606.11853, equations (8) to (10).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tasm.compress.evidence import Evidence, lengths
from tasm.compress.parts.base import Scorer
from tasm.compress.parts.scaling import pooled, to_unit
from tasm.compress.parts.task_vector import Direction, cosine_to, task_vector
from tasm.compress.records.centroids import TaskCentroids
from tasm.compress.records.received import AnswerNumbers, AttentionReceived
from tasm.compress.records.record import Record
from tasm.errors import RecipeError


@dataclass(frozen=True)
class TaskScorer(Scorer):
    """S = λ(l)·s_task + (1 − λ(l))·s_attn, with s_task = ReLU(cos(k, τ)) + γ·‖v‖ / max‖v‖.

    | setting | |
    |---|---|
    | `direction` | τ from "keys" before rotation, from "hidden" states, or "random" |
    | `extracted_from` | the demonstrations τ comes from: "all", or those of "other answers" |
    | `question_tokens` | what the question centroid averages: "text" or "text+image" |
    | `value_weight` | γ of equation (8) |
    | `scaling` | "clipped": every term to [0, 1], or "literal": equation (8) as printed |
    | `task_share` | λ: "schedule" for equation (10), or a constant |
    | `attending` | the rows whose attention counts (see `tasm.compress.records.row_rules`) |
    | `normalise` | attention as "sum" over those rows, or "mean" over those that see it |
    | `pool` | window of the mean over neighbouring tokens |

    "clipped" scales each term before mixing, its largest hundredth clipped, so that λ means
    something in the presence of attention sinks; "literal" scales s_attn alone, by its extremes.

    "other answers" is the transferred τ of table 8. The distinct answers are numbered in order of
    first appearance; one τ comes from the demonstrations whose answer's number is even, one from
    the others, and every token is scored with the τ of the half it is not in. While only one
    distinct answer has been read, nothing can be transferred, and τ comes from all demonstrations.
    Differs from the paper in: there τ is transferred between disjoint sets of classes of a dataset;
    here both halves are in one set of demonstrations.

    ```python
    TaskScorer(task_share=0.3).score(evidence)      # (kv_heads, entries)
    ```
    """

    direction: Direction = "keys"
    extracted_from: Literal["all", "other answers"] = "all"
    question_tokens: Literal["text", "text+image"] = "text+image"
    value_weight: float = 0.2
    scaling: Literal["clipped", "literal"] = "clipped"
    task_share: float | Literal["schedule"] = "schedule"
    attending: str = "answers"
    normalise: Literal["sum", "mean"] = "sum"
    pool: int = 5

    @property
    def records(self) -> tuple[Record, ...]:
        """Attention from answers, and the centroids of the task vector."""
        if self.extracted_from == "all":
            return self._attention, self._centroids("all")
        return self._attention, self._centroids("even"), self._centroids("odd"), AnswerNumbers()

    @property
    def _attention(self) -> AttentionReceived:
        return AttentionReceived(self.attending)

    def _centroids(self, answer_numbers: Literal["all", "even", "odd"]) -> TaskCentroids:
        of: Literal["keys", "hidden"] = "hidden" if self.direction == "hidden" else "keys"
        return TaskCentroids(of, self.question_tokens, answer_numbers)

    def score(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries), equation (9)."""
        share = self._share(evidence.layer, evidence.layers)
        return share * self._task_score(evidence) + (1 - share) * self._attention_score(evidence)

    def _share(self, layer: int, layers: int) -> float:
        """λ(l), equation (10) with α = 0.1, β = 0.8, κ = 10, or the constant."""
        if self.task_share == "schedule":
            return depth_schedule(layer, layers)
        if isinstance(self.task_share, str):
            raise RecipeError(
                f"task_share is {self.task_share!r}; expected 'schedule' or a number."
            )
        return self.task_share

    def _task_score(self, evidence: Evidence) -> Tensor:
        """Return s_task (kv_heads, entries), equation (8)."""
        toward = self._cosines(evidence).relu()
        norms = lengths(evidence.values)
        if self.scaling == "literal":
            largest = norms.masked_fill(~evidence.valid, 0).amax(1, keepdim=True)
            return toward + self.value_weight * norms / largest.clamp(min=1e-12)
        competing = evidence.competing
        terms = to_unit(torch.cat([toward, norms]), competing.repeat(2, 1))  # both at once
        mixed = terms[: len(toward)] + self.value_weight * terms[len(toward) :]
        return to_unit(mixed, competing)

    def _cosines(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries) the cosine of every key before rotation with its τ."""
        keys = evidence.plain_keys
        if self.extracted_from == "all":
            everything = evidence.records[self._centroids("all")]
            return cosine_to(keys, task_vector(evidence, everything, self.direction))
        even = evidence.records[self._centroids("even")]
        odd = evidence.records[self._centroids("odd")]
        if odd.answers == 0:
            odd = even  # one distinct answer so far, and these are all its demonstrations
        from_even = task_vector(evidence, even, self.direction)
        from_odd = task_vector(evidence, odd, self.direction)
        # Which τ the system prompt gets does not matter: it is always kept.
        numbers = evidence.records[AnswerNumbers()][evidence.demonstration.clamp(min=0)]
        return torch.where(numbers % 2 == 0, cosine_to(keys, from_odd), cosine_to(keys, from_even))

    def _attention_score(self, evidence: Evidence) -> Tensor:
        """Return s_attn (kv_heads, entries) in [0, 1]."""
        received = evidence.records[self._attention]
        mass = received.mean if self.normalise == "mean" else received.mass
        smooth = pooled(mass, evidence.valid, self.pool)
        clip = 1.0 if self.scaling == "literal" else 0.99
        return to_unit(smooth, evidence.competing, clip)


def depth_schedule(
    layer: int, layers: int, alpha: float = 0.1, beta: float = 0.8, steepness: float = 10.0
) -> float:
    """Return λ(l) = α + β·σ(κ(l/L − 0.5)), equation (10); `layer` counts from 0.

    ```python
    >>> round(depth_schedule(14, 28), 3)
    0.5
    ```
    """
    return alpha + beta / (1 + math.exp(-steepness * (layer / layers - 0.5)))
