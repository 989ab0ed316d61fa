"""One recipe on one episode: built, asked, and compared with the full context.

An `Examination` holds what all recipes of one episode share: it is encoded once, and the full
context answers once. Knows nothing of files, processes or pooling.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tasm.answer import Answer, ask_all
from tasm.answer.ask import default_new_tokens
from tasm.bench.cards import CARDS, role_tokens
from tasm.bench.cells import Cell
from tasm.bench.prompts import Prompts, nearest_prompts, zero_shot_prompts
from tasm.bench.sources import Episode
from tasm.check.fidelity import agreement, answer_distributions, mean_js
from tasm.compress.encoded import Encoded
from tasm.compress.recipes.table import find_recipe
from tasm.compress.sizes import parse_size
from tasm.demonstrations import Query, is_correct

if TYPE_CHECKING:
    from tasm.backbone.model import Backbone

BATCH_SIZE = 40


@dataclass(frozen=True)
class Measurement:
    """What one recipe did on one episode; one value a query where there are several.

    `triggered` is the share of (layer, step) pairs that retrieved, tokens are means over layers
    and heads.
    """

    correct: tuple[float, ...]
    agrees: tuple[float, ...]
    js: tuple[float, ...]
    answers: tuple[str, ...]
    attended_tokens: float
    core_bytes: int
    bank_bytes: int
    build_seconds: float
    answer_ms: float
    triggered: float
    stored_share: float
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class FullContext:
    """What the whole of the demonstrations says to the queries."""

    memory: Any
    answers: list[Answer]
    answer_ms: float
    distributions: list[Tensor]


class Examination:
    """One episode before one model.

    ```python
    cell = Cell("tasm", "20%", "40%")
    examination = Examination(backbone, episode, [cell], seed=3)    # the seed that drew the episode
    examination.measure(cell).agrees
    ```
    """

    def __init__(
        self,
        backbone: "Backbone",
        episode: Episode,
        cells: Iterable[Cell],
        *,
        seed: int = 0,
        batch_size: int = BATCH_SIZE,
    ) -> None:
        self.backbone = backbone
        self.episode = episode
        self.seed = seed
        self.batch_size = batch_size
        self.recipes = [cell.form for cell in cells if cell.form.kind == "memory"]

    @cached_property
    def encoded(self) -> Encoded:
        """The demonstrations, as the model read them once for all cells."""
        return Encoded(self.backbone, self.episode.demonstrations, self.recipes)

    @cached_property
    def full(self) -> FullContext:
        """The full context, asked every query once."""
        memory = self.encoded.build(find_recipe("full"))
        answers, answer_ms = self._asked(memory)
        said = [answer.token_ids for answer in answers]
        return FullContext(memory, answers, answer_ms, self._distributions(memory, said))

    def measure(self, cell: Cell) -> Measurement:
        """Measure one cell.

        Raises:
            TasmError: if the recipe refuses the episode or the budget.
        """
        if cell.recipe == "full":
            full = self.full
            return self._judge(full.memory, full.answers, full.answer_ms)
        if cell.recipe == "zero-shot":
            return self._measure_prompts(zero_shot_prompts(self.episode.queries))
        if cell.recipe == "retrieve-demos":
            return self._measure_prompts(self._nearest(str(cell.core)))
        return self._measure_memory(cell)

    def _measure_memory(self, cell: Cell) -> Measurement:
        recipe, core, bank = cell.form, cell.core, cell.bank
        if cell.recipe in CARDS:
            core, bank = str(role_tokens(recipe, self.full.memory.tokens)), "0"
        memory = self.encoded.build(
            recipe, core=core, bank=bank, stored=cell.stored, seed=self.seed
        )
        return self._judge(memory, *self._asked(memory))

    def _asked(self, memory: Any) -> tuple[list[Answer], float]:
        """The answers to all queries, and the milliseconds of one in its batch."""
        started = time.perf_counter()
        answers = ask_all(self.backbone, memory, self.episode.queries, batch_size=self.batch_size)
        return answers, 1000 * (time.perf_counter() - started) / len(answers)

    def _judge(self, memory: Any, answers: list[Answer], answer_ms: float) -> Measurement:
        full = self.full
        distributions = (
            full.distributions
            if memory is full.memory
            else self._distributions(memory, [answer.token_ids for answer in full.answers])
        )
        return Measurement(
            **self._against_full(answers, distributions),
            attended_tokens=core_tokens(memory)
            + fmean(answer.retrieved_tokens for answer in answers),
            core_bytes=memory.core_bytes,
            bank_bytes=memory.bank_bytes,
            build_seconds=memory.report["seconds"]["total"],
            answer_ms=answer_ms,
            triggered=fmean(answer.triggered for answer in answers),
            stored_share=stored_share(memory),
            notes=memory.recipe.get("notes") or {},
        )

    def _nearest(self, core: str) -> Prompts:
        tokens = self.full.memory.tokens
        counts = torch.bincount(tokens.demonstration[tokens.demonstration >= 0]).tolist()
        return nearest_prompts(
            self.backbone,
            self.episode.demonstrations,
            self.episode.queries,
            lengths=counts,
            capacity=_prompt_tokens(core, self.full.memory),
            layout=self.full.memory.layout,
        )

    def _measure_prompts(self, prompts: Prompts) -> Measurement:
        full, layout = self.full, self.full.memory.layout
        new_tokens = default_new_tokens(full.memory)
        started = time.perf_counter()
        answers = [prompt.ask(self.backbone, layout, new_tokens) for prompt in prompts.prompts]
        answer_ms = 1000 * (time.perf_counter() - started) / len(answers)
        distributions = [
            prompt.distributions(self.backbone, layout, answer.token_ids)
            for prompt, answer in zip(prompts.prompts, full.answers, strict=True)
        ]
        return Measurement(
            **self._against_full(answers, distributions),
            attended_tokens=fmean(prompt.attended_tokens for prompt in prompts.prompts),
            core_bytes=prompts.core_bytes,
            bank_bytes=prompts.bank_bytes,
            build_seconds=prompts.build_seconds,
            answer_ms=answer_ms,
            triggered=0.0,
            stored_share=(prompts.core_bytes + prompts.bank_bytes) / full.memory.full_bytes,
        )

    def _against_full(
        self, answers: Sequence[Answer], distributions: Sequence[Tensor]
    ) -> dict[str, Any]:
        full = self.full
        texts = [answer.text for answer in answers]
        return {
            "correct": tuple(
                float(is_correct(text, query.answers))
                for text, query in zip(texts, self.episode.queries, strict=True)
            ),
            "agrees": tuple(agreement(texts, [answer.text for answer in full.answers])),
            "js": tuple(
                mean_js(mine, theirs)
                for mine, theirs in zip(distributions, full.distributions, strict=True)
            ),
            "answers": tuple(texts),
        }

    def _distributions(self, memory: Any, answers: Sequence[Sequence[int]]) -> list[Tensor]:
        queries: Sequence[Query] = self.episode.queries
        return answer_distributions(
            self.backbone, memory, queries, answers, batch_size=self.batch_size
        )


def stored_share(memory: Any) -> float:
    """Return core and bank over the full context, keys and values counted in 16 bits.

    ```python
    stored_share(memory)       # 0.207 for a fifth of the tokens, indices and table included
    ```
    """
    width = getattr(torch, memory.dtype).itemsize
    if memory.packing is not None:
        return float((memory.core_bytes + memory.bank_bytes) / (memory.full_bytes * 2 / width))
    bank = () if memory.bank is None else [one and one.held() for one in memory.bank.layers]
    layers = [one for one in (*memory.core, *bank) if one is not None]
    vectors = sum(one.keys.nbytes + one.values.nbytes for one in layers)
    others = memory.core_bytes + memory.bank_bytes - vectors
    return float((vectors * 2 / width + others) / (memory.full_bytes * 2 / width))


def core_tokens(memory: Any) -> float:
    """Return the tokens that every query attends to, a mean over attention layers and heads."""
    counts = [fmean(layer.counts) for layer in memory.core if layer is not None]
    return fmean(counts) if counts else 0.0


def _prompt_tokens(core: str, full: Any) -> int:
    """How many demonstration tokens a prompt may hold to match a core budget."""
    size = parse_size(core, "core")
    if size.unit == "share":
        return int(size.amount * len(full.tokens))
    if size.unit == "tokens":
        return int(size.amount)
    return int(size.amount * len(full.tokens) / full.full_bytes)
