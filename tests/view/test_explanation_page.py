"""The page of an explanation: what counts most first, heat where it was read, texts escaped."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

import tasm
from tasm.answer import Answer
from tasm.answer.result import DemonstrationWeight
from tasm.errors import InputError
from tasm.view.explanation_page import explanation_page

MemoryOf = Callable[[str], tasm.TaskMemory]


def explained(memory: tasm.TaskMemory, supports: list[float]) -> Answer:
    """An answer that read the last demonstration's tokens only."""
    shares = [
        DemonstrationWeight(id=entry.id, weight=abs(support), support=support)
        for entry, support in zip(memory.demonstrations, supports, strict=True)
    ]
    weights = torch.zeros(2, len(memory.tokens))
    weights[0, memory.tokens.demonstration == len(supports) - 1] = 0.01
    query = tasm.make_query("Which <b>bird</b>?")
    return Answer("a <i>wren</i>", (1,), {}, {}, 0.0, None, 0.0, tuple(shares), query,
                  token_weights=weights)  # fmt: skip


def test_the_one_that_counts_most_comes_first(memory_of: MemoryOf) -> None:
    memory = memory_of("text")
    page = explanation_page(explained(memory, [0.1, -0.2, 0.4, 0.3]), memory)
    assert re.findall(r"<h3>\d · (sum \d)</h3>", page) == ["sum 2", "sum 3", "sum 0", "sum 1"]
    assert "+40\xa0%" in page and "-20\xa0%" in page
    assert "a &lt;i&gt;wren" in page and "<b>bird" not in page
    assert "core 100\xa0%" in page, "what was read most has full colour"
    masked = [replace(one, effect=-(one.support or 0)) for one in
              explained(memory, [0.1, -0.2, 0.4, 0.3]).demonstrations]  # fmt: skip
    answer = replace(explained(memory, [0.0] * 4), demonstrations=tuple(masked))
    page = explanation_page(answer, memory)
    assert re.findall(r"<h3>\d · (sum \d)</h3>", page)[0] == "sum 1"
    assert "+0.20 nats" in page


def test_without_texts_the_figures_stand_alone(memory_of: MemoryOf) -> None:
    memory = memory_of("text")
    bare = memory.replaced(demonstrations=[one.without_content() for one in memory.demonstrations])
    page = explanation_page(explained(bare, [0.1, -0.2, 0.4, 0.3]), bare)
    assert "not stored with this memory" in page and page.index("sum 2") < page.index("sum 1")


def test_another_memorys_explanation_is_refused(memory_of: MemoryOf) -> None:
    memory = memory_of("text")
    answer = explained(memory, [0.1, -0.2, 0.4, 0.3])
    with pytest.raises(InputError, match="tokens"):
        explanation_page(answer, memory_of("long"))
    with pytest.raises(InputError, match="explain=True"):
        explanation_page(replace(answer, token_weights=None), memory)
