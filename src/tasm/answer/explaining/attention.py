"""Which demonstrations an answer drew on: attention at the answer's first step.

It reads what the attention of each layer hands to a recorder; it knows neither how tokens were
chosen nor what an answer says.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tasm.answer.result import DemonstrationWeight

if TYPE_CHECKING:
    from tasm.backbone.attention.attention_call import AttentionCall
    from tasm.memory import DemonstrationEntry


class Explanation:
    """Adds up, per demonstration, what the query that makes the first answer token takes from it.

    A token counts with its attention weight times the length of its value vector (Kobayashi et
    al., EMNLP 2020): a token that is much attended to but says nothing, an attention sink, then
    counts little. Core and retrieved tokens count; a merged token counts for its sink's
    demonstration. The mean goes over layers and heads.

    ```python
    cache = memory.cache()
    cache.recorder = explanation = Explanation(memory.tokens.demonstration, rows=1)
    model.hf.generate(**inputs, past_key_values=cache)
    explanation.weights(memory.demonstrations)
    ```
    """

    def __init__(self, demonstration: Tensor, rows: int) -> None:
        self._demonstration = demonstration.long().cpu()
        count = int(self._demonstration.max()) + 1 if len(self._demonstration) else 0
        self._mass = torch.zeros(rows, count, dtype=torch.float64)
        self._retrieved = torch.zeros_like(self._mass)
        self._seen: set[int] = set()

    def __call__(self, call: "AttentionCall") -> None:
        """Take one layer's attention; its first call only, which is the reading of the query."""
        if call.layer in self._seen or not call.segments:
            return
        self._seen.add(call.layer)
        last = torch.tensor([call.query.shape[2] - 1], device=call.query.device)
        attention = torch.cat([block.mean(2)[:, :, 0] for block in call.weights(last)], -1)
        start = 0
        for segment in call.segments:
            stop = start + segment.keys.shape[2]
            lengths = segment.values.float().norm(dim=-1)
            if segment.index is not None:
                self._add((attention[:, :, start:stop] * lengths).cpu(), segment.index.cpu())
            start = stop

    def _add(self, mass: Tensor, index: Tensor) -> None:
        """Add (rows, kv_heads, tokens) of mass; `index` are places in the transcript."""
        places = index if index.ndim == 3 else index[None]
        owners = self._demonstration[places.long()].expand(mass.shape)
        belongs = owners >= 0
        owned = (mass * belongs).double().flatten(1)
        owners = owners.clamp_min(0).flatten(1)
        self._mass.scatter_add_(1, owners, owned)
        if index.ndim == 3:  # each row its own: what this row retrieved from the bank
            self._retrieved.scatter_add_(1, owners, owned)

    def weights(
        self, entries: "Sequence[DemonstrationEntry]"
    ) -> list[tuple[DemonstrationWeight, ...]]:
        """Return one tuple a row: every demonstration with its share, in order; shares sum to 1."""
        total = self._mass.sum(1, keepdim=True).clamp_min(1e-30)
        rows = zip((self._mass / total).tolist(), (self._retrieved / total).tolist(), strict=True)
        return [
            tuple(
                DemonstrationWeight(
                    id=entry.id,
                    weight=weight,
                    retrieved=retrieved,
                    question=entry.question,
                    answer=entry.answer,
                    pictures=tuple(picture.path for picture in entry.pictures),
                )
                for entry, weight, retrieved in zip(entries, *row, strict=True)
            )
            for row in rows
        ]
