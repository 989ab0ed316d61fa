"""What the full context answers: questions with their answers as the decoder is called with them.

The pictures are encoded once; later only the decoder runs, over another memory. Knows a model and a
context; not who learns of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.ends import answer_ends
from tasm.backbone.model import Backbone
from tasm.backbone.prompt.transcript import Layout
from tasm.compress.listening import ListeningToCalls
from tasm.demonstrations import Query

_ASKED_TOGETHER = 64
_PICTURES_TOGETHER = 8
_TYPES = ("mm_token_type_ids", "token_type_ids")


@dataclass(frozen=True, eq=False)
class Taught:
    """A batch of questions, answered by the full context.

    `calls` is what the decoder was called with, the cache left out; `states` (rows, answer,
    hidden_size) its last states where the answer is said, end included; `counts` (rows, answer)
    bool: which of them belong to it.
    """

    calls: dict[str, Any]
    states: Tensor
    counts: Tensor
    tokens: int
    """Of all rows, padding counted."""


@dataclass(frozen=True, eq=False)
class Teacher:
    """The full context: a fresh cache over it, how long an answer may be, and whether questions of
    several lengths may be padded."""

    backbone: Backbone
    context: Callable[[], MemoryCache]
    layout: Layout
    tokens: int
    pads: bool

    @torch.no_grad()
    def first_tokens(self, queries: Sequence[Query]) -> Tensor:
        """Return (queries, vocabulary) probabilities of the answers' first tokens, on the CPU."""
        order: list[int] = []
        found: list[Tensor] = []
        sized = [(len(one.pictures), len(one.question)) for one in queries]
        ordered = sorted(range(len(queries)), key=sized.__getitem__)
        for pictures, same in groupby(ordered, lambda number: sized[number][0]):
            numbers = list(same)
            most = _ASKED_TOGETHER if not pictures else max(1, _PICTURES_TOGETHER // pictures)
            step = most if self.pads else 1
            for first in range(0, len(numbers), step):
                some = [queries[number] for number in numbers[first : first + step]]
                inputs = self.backbone.query_inputs(some, layout=self.layout)
                logits = self.backbone.next_logits(inputs, self.context())
                found.append(logits.softmax(-1).cpu())
            order += numbers
        return torch.cat(found)[torch.tensor(order).argsort()]

    @torch.no_grad()
    def teach(self, queries: Sequence[Query]) -> Taught:
        """Answer questions greedily, and keep what the decoder makes of question and answer."""
        backbone = self.backbone
        inputs = backbone.query_inputs(queries, layout=self.layout)
        ids, counts = self._answered(inputs)
        more = self.tokens - 1
        whole = {**inputs, "input_ids": ids}
        mask = inputs["attention_mask"]
        whole["attention_mask"] = torch.cat([mask, mask.new_ones(len(mask), more)], 1)
        for name in _TYPES:
            if name in inputs:
                kinds = inputs[name]
                whole[name] = torch.cat([kinds, kinds.new_zeros(len(kinds), more)], 1)
        with ListeningToCalls(backbone) as heard:
            backbone.run(whole, self.context())
        heard.measure_head()
        states = heard.final[:, -self.tokens :]
        return Taught(heard.calls, states.clone(), counts, ids.numel())

    def _answered(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(rows, tokens) the questions' ids with all but the last token of their answers behind,
        and (rows, answer) bool: which of an answer's tokens come before or at its end."""
        backbone, cache = self.backbone, self.context()
        ends = torch.tensor(answer_ends(backbone), device=backbone.device)
        step, mask, ids = dict(inputs), inputs["attention_mask"], inputs["input_ids"]
        lives = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
        counts = []
        for number in range(self.tokens):
            counts.append(lives)
            if number + 1 == self.tokens:
                break
            token = backbone.run(step, cache).logits[:, -1].argmax(-1)[:, None]
            lives = lives & ~torch.isin(token[:, 0], ends)
            ids, mask = torch.cat([ids, token], 1), torch.cat([mask, torch.ones_like(token)], 1)
            step = {"input_ids": token, "attention_mask": mask}
            for name in _TYPES:
                if name in inputs:
                    step[name] = torch.zeros_like(token)
        return ids, torch.stack(counts, 1)
