"""EMLoC against a plain, slow version of its algorithm on the stock model.

The oracle reads the demonstrations and one of them again as a single prompt with eager attention;
what a layer dropped is hidden from later rows by a mask of that layer and KV head.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tasm.compress.recipes.recipe import Part
from tasm.compress.recipes.table import find_recipe
from tests.compress.methods.capture import stock_model
from tests.compress.tiny_backbone import TinyBackbone, build_tiny, tiny_backbone

SEEDS = [1, 2, 3, 4]
RATIOS = (0.1, 0.2, 0.5, 1.0)
ANSWER = 4
LAYERS = 4
HIDDEN = torch.finfo(torch.float32).min


class Oracle:
    """The stock model, and which tokens of the memory every layer and KV head still holds."""

    def __init__(self, backbone: TinyBackbone, model: Any) -> None:
        self.backbone, self.model = backbone, model

    def run(self, seed: int, until: int, blocks: list[tuple[int, Tensor]]) -> Any:
        """Read the first `until` demonstrations and one again. A block is (first row that no longer
        sees what was dropped, what is held (layers, kv_heads, tokens))."""
        prompt = self.backbone.transcript([*SEEDS[:until], seed])
        handles = []
        for number, layer in enumerate(self.model.model.language_model.layers):

            def before(module: Any, args: Any, kwargs: Any, number: int = number) -> Any:
                rows = len(prompt)
                mask = torch.triu(torch.full((rows, rows), HIDDEN), 1).expand(4, rows, rows).clone()
                for first, held in blocks:
                    for head in range(4):
                        columns = (~held[number, head // 2]).nonzero()[:, 0]
                        mask[head, first:, columns] = HIDDEN
                return args, {**kwargs, "attention_mask": mask[None]}

            handles.append(layer.self_attn.register_forward_pre_hook(before, with_kwargs=True))
        try:
            with torch.no_grad():
                output = self.model(
                    **self.backbone.inputs(prompt.input_ids, prompt.images),
                    use_cache=False,
                    output_attentions=True,
                )
        finally:
            for handle in handles:
                handle.remove()
        start = len(self.backbone.transcript(SEEDS[:until]))
        answers = [i for i in range(start, len(prompt)) if prompt.roles[i] == ANSWER]
        predictions = output.logits[0, [i - 1 for i in answers]].softmax(-1)
        span = [answers[0] - 1, *answers, answers[-1] + 1]  # through the end of the turn
        attention = torch.stack(output.attentions)[:, 0][:, :, span]
        return predictions, attention


def divergence(first: Tensor, second: Tensor) -> float:
    """Jensen-Shannon in nats, a mean over rows."""
    total = 0.0
    for p, q in zip(first.double(), second.double(), strict=True):
        m = (p + q) / 2
        total += float((p * (p / m).log()).sum() / 2 + (q * (q / m).log()).sum() / 2)
    return total / first.shape[0]


def smooth(values: list[float]) -> list[float]:
    return [
        sum(values[max(0, i - 2) : i + 3]) / len(values[max(0, i - 2) : i + 3])
        for i in range(len(values))
    ]


def emloc(oracle: Oracle, chunks: list[int], delta: float) -> tuple[list[list[float]], Tensor]:
    """Every chunk's accepted ratios, and what is held at the end. `chunks` says after how many
    demonstrations each ends."""
    backbone = oracle.backbone
    begun, start = 0, 0
    blocks: list[tuple[int, Tensor]] = []
    held = torch.zeros(LAYERS, 2, 0, dtype=torch.bool)
    accepted: list[list[float]] = []
    for until in chunks:
        transcript = backbone.transcript(SEEDS[:until])
        end = len(transcript)
        new = end - start
        held = torch.cat([held, torch.ones(LAYERS, 2, new, dtype=torch.bool)], -1)
        asked = SEEDS[begun:until]
        teacher, mass = [], torch.zeros(LAYERS, 2, new)
        for seed in asked:
            predictions, attention = oracle.run(seed, until, blocks)
            teacher.append(predictions)
            chunk = attention[..., start:] / attention[..., start:].sum(-1, keepdim=True)
            for head in range(4):
                mass[:, head // 2] += chunk[:, head, :, :new].sum(1) / 2
        scores: list[list[list[float]]] = []
        for layer in range(LAYERS):
            scores.append([])
            for head in range(2):
                pooled = smooth(mass[layer, head].tolist())
                roles = transcript.roles[start:].tolist()
                scores[-1].append(
                    [
                        s + (100 if role == ANSWER else 0)
                        for s, role in zip(pooled, roles, strict=True)
                    ]
                )
        ratios = [1.0] * LAYERS
        system = int((transcript.demonstration[start:] < 0).sum())
        for layer in reversed(range(LAYERS)):
            for ratio in RATIOS:
                count = max(int(ratio * new), system)
                tried = held.clone()
                for head in range(2):
                    wish = [
                        float("inf") if i < system else s for i, s in enumerate(scores[layer][head])
                    ]
                    best = sorted(range(new), key=lambda i: -wish[i])[:count]
                    tried[layer, head, start:] = False
                    tried[layer, head, [start + i for i in best]] = True
                said = [oracle.run(seed, until, [*blocks, (end, tried)])[0] for seed in asked]
                if ratio == 1 or divergence(torch.cat(said), torch.cat(teacher)) <= delta:
                    ratios[layer], held = ratio, tried
                    break
        accepted.append(ratios)
        blocks.append((end, held))
        begun, start = until, end
    return accepted, held


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    backbone = tiny_backbone(num_hidden_layers=LAYERS)
    return Oracle(backbone, stock_model(num_hidden_layers=LAYERS))


def check_kept(memory: Any, held: Tensor) -> None:
    for layer in range(LAYERS):
        for head in range(2):
            tokens = memory.core[layer]
            found = tokens.index[head, : tokens.counts[head]].tolist()
            assert found == held[layer, head].nonzero()[:, 0].tolist()


@pytest.mark.parametrize("delta", [1e-3, 2e-3])
def test_accepted_ratios_and_kept_tokens(oracle: Oracle, delta: float) -> None:
    recipe = find_recipe("emloc-paper").with_settings(budget={"delta": delta})
    memory = build_tiny(oracle.backbone, 3, recipe=recipe)
    accepted, held = emloc(oracle, [3], delta)
    assert memory.recipe["notes"]["ratios"] == accepted[0]
    assert len(set(accepted[0])) > 1
    check_kept(memory, held)


def test_chunk_after_chunk(oracle: Oracle) -> None:
    recipe = find_recipe("emloc-paper").with_settings(budget={"delta": 5e-4})
    chunk = len(oracle.backbone.transcript(SEEDS[:2]))
    memory = build_tiny(oracle.backbone, 4, recipe=recipe, mode="streaming", chunk_tokens=chunk)
    accepted, held = emloc(oracle, [2, 4], 5e-4)
    assert memory.recipe["notes"]["ratios"] == accepted[1]
    check_kept(memory, held)


def test_bound_is_searched_for_the_budget(oracle: Oracle) -> None:
    memory = build_tiny(oracle.backbone, 3, recipe="emloc", core="40%")
    notes = memory.recipe["notes"]
    assert sum(notes["ratios"]) / LAYERS <= 0.4 + 1e-9
    literal = replace(
        find_recipe("emloc"),
        budget=Part("accepted-ratios", {"delta": notes["delta"]}),
    )
    # What the ratios leave of the budget is spent, too.
    whole = len(oracle.backbone.transcript(SEEDS[:3]))
    kept = [count for layer in memory.core if layer is not None for count in layer.counts]
    assert sum(kept) / len(kept) == int(0.4 * whole)
    again = build_tiny(oracle.backbone, 3, recipe=literal)
    assert again.recipe["notes"]["ratios"] == notes["ratios"]


def test_two_layers_share_a_ratio(oracle: Oracle) -> None:
    for delta in (5e-4, 2e-3):
        recipe = find_recipe("emloc-pairs").with_settings(budget={"delta": delta})
        ratios = build_tiny(oracle.backbone, 3, recipe=recipe).recipe["notes"]["ratios"]
        assert ratios[0] == ratios[1] and ratios[2] == ratios[3]
