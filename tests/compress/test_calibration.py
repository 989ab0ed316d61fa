"""The gate's reference and threshold against the stock way of computing them, demonstration by
demonstration."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tasm.compress.calibrate import LARGEST_DIVERGENCE, MISSED, taught, thresholds_by_need
from tasm.compress.recipes.table import find_recipe
from tasm.compress.records.queries import Queries
from tasm.memory import Bank, TaskMemory
from tasm.memory.retrieval.gate import GateReference
from tests.compress.test_records import record
from tests.compress.tiny_backbone import build_tiny, tiny_backbone

JS = {"kind": "js", "first_steps": None}


def js(first: list[float], second: list[float]) -> float:
    total = 0.0
    for p, q in zip(first, second, strict=True):
        mean = (p + q) / 2
        total += p * math.log(p / mean) / 2 if p > 0 else 0
        total += q * math.log(q / mean) / 2 if q > 0 else 0
    return total


def without(distribution: list[float], own: list[bool]) -> list[float]:
    left = [0.0 if mine else p for p, mine in zip(distribution, own, strict=True)]
    return [p / sum(left) for p in left]


def average(rows: list[list[float]]) -> list[float]:
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("quantile", [0.5, 0.9])
def test_reference_and_threshold(quantile: float) -> None:
    backbone = tiny_backbone()
    transcript = backbone.transcript(range(1, 6))
    recipe = find_recipe("tasm").with_settings(gate=JS | {"quantile": quantile})
    memory = build_tiny(backbone, transcript, recipe=recipe, core="40%")
    assert memory.reference is not None
    queries = record(backbone, transcript, (Queries("answer-starts"),), 5)
    layer = 1
    kept = queries.layer(layer)[Queries("answer-starts")]
    core = memory.core[layer]
    assert core is not None and len(kept.index) == 5
    positions = memory.tokens.positions.long()
    starts = [start for start, _ in transcript.spans]
    looks: list[list[list[float]]] = []  # by demonstration and head
    for row, token in enumerate(kept.index.tolist()):
        moved = positions[:, token] - positions[:, starts[row]].min() + memory.next_position
        query = backbone.rotary.rotate(layer, kept.queries[:, row : row + 1], moved[:, None])
        heads = []
        for head in range(2):
            logits = query[2 * head : 2 * head + 2, 0] @ core.keys[head].T * 16**-0.5
            heads.append(logits.softmax(-1).mean(0).tolist())
        looks.append(heads)
    own = [
        [(transcript.demonstration[core.index[head].long()] == d).tolist() for head in range(2)]
        for d in range(5)
    ]
    masked = [[without(looks[d][h], own[d][h]) for h in range(2)] for d in range(5)]
    for head in range(2):
        expected = average([masked[d][head] for d in range(5)])
        expected = [p / sum(expected) for p in expected]
        found = memory.reference.layers[layer]
        assert found is not None
        torch.testing.assert_close(found[head], torch.tensor(expected), atol=1e-5, rtol=1e-3)
    divergences = []
    for d in range(5):
        by_head = []
        for head in range(2):
            others = average([masked[e][head] for e in range(5) if e != d])
            by_head.append(js(masked[d][head], without(others, own[d][head])))
        divergences.append(sum(by_head) / 2)
    threshold = float(torch.quantile(torch.tensor(divergences), quantile))
    assert memory.reference.thresholds[layer] == pytest.approx(threshold, abs=1e-5)


@pytest.mark.parametrize("core", ["30%", "80%"])
def test_quantile_by_need(core: str) -> None:
    """The quantile is the share of queries whose attention the core nearly has."""
    backbone = tiny_backbone()
    transcript = backbone.transcript(range(1, 6))
    built = {}
    for quantile in ("need", 0.0, 0.2, 0.4, 0.6, 0.8, 0.9):
        recipe = find_recipe("tasm-even-layers").with_settings(gate=JS | {"quantile": quantile})
        built[quantile] = build_tiny(backbone, transcript, recipe=recipe, core=core, bank="20%")
    memory = built["need"]
    assert memory.reference is not None and memory.bank is not None
    queries = record(backbone, transcript, (Queries("answer-starts"),), 5)
    positions = memory.tokens.positions.long()
    starts = [start for start, _ in transcript.spans]
    for layer in range(3):
        kept = queries.layer(layer)[Queries("answer-starts")]
        held, banked = memory.core[layer], memory.bank.layers[layer]
        assert held is not None and banked is not None
        content = 0
        for row, token in enumerate(kept.index.tolist()):
            moved = positions[:, token] - positions[:, starts[row]].min() + memory.next_position
            query = backbone.rotary.rotate(layer, kept.queries[:, row : row + 1], moved[:, None])
            most = 0.0
            for head in range(2):
                missed = []
                for one in (2 * head, 2 * head + 1):
                    weights = []
                    for entries in (held, banked.held()):
                        of = transcript.demonstration[entries.index[head].long()]
                        logits = (entries.keys[head] @ query[one, 0]) * 16**-0.5
                        weights.append(float(logits[of != row].exp().sum()))
                    missed.append(weights[1] / sum(weights))
                most = max(most, sum(missed) / 2)
            content += most <= MISSED
        quantile = min(0.9, content / 5)
        same = built[0.9 if quantile == 0.9 else round(quantile, 1)].reference
        assert same is not None
        assert memory.reference.thresholds[layer] == pytest.approx(same.thresholds[layer])


def test_one_demonstration_never_opens_the_gate() -> None:
    recipe = find_recipe("tasm").with_settings(gate=JS)
    memory = build_tiny(tiny_backbone(), 1, recipe=recipe, core="12", bank="4")
    assert memory.reference is not None
    assert memory.reference.thresholds == (LARGEST_DIVERGENCE,) * 3


def test_no_bank_no_reference() -> None:
    memory = build_tiny(tiny_backbone(), bank="0")
    assert memory.reference is None and memory.bank is None
    assert memory.gate.kind == "never"


def test_a_gate_of_a_number_of_nats_is_not_calibrated_and_records_it() -> None:
    nats = {"kind": "missing", "epsilon": 3.0, "first_steps": 2}
    recipe = find_recipe("tasm").with_settings(gate=nats)
    memory = build_tiny(tiny_backbone(), recipe=recipe, core="40%", bank="20%")
    assert memory.reference is None and memory.bank is not None
    assert (memory.gate.kind, memory.gate.epsilon, memory.gate.first_steps) == ("missing", 3.0, 2)


def built_to_weigh(quantile: float) -> TaskMemory:
    weighs = {"kind": "missing", "first_steps": 1, "quantile": quantile}
    recipe = find_recipe("tasm-even-layers").with_settings(gate=weighs)
    backbone = tiny_backbone()
    transcript = backbone.transcript(range(1, 6))
    return build_tiny(backbone, transcript, recipe=recipe, core="40%", bank="30%")


@pytest.mark.parametrize("quantile", [0.4, 0.8])
def test_thresholds_of_missing_against_a_plain_loop(quantile: float) -> None:
    memory = built_to_weigh(quantile)
    assert memory.bank is not None and memory.reference is not None
    backbone = tiny_backbone()
    transcript = backbone.transcript(range(1, 6))
    queries = record(backbone, transcript, (Queries("answer-starts"),), 5)
    positions, needs = memory.tokens.positions.long(), []
    starts = [start for start, _ in transcript.spans]
    for layer in range(3):
        kept = queries.layer(layer)[Queries("answer-starts")]
        core, bank = memory.core[layer], memory.bank.layers[layer]
        assert core is not None and bank is not None
        needs.append([])
        for row, token in enumerate(kept.index.tolist()):
            moved = positions[:, token] - positions[:, starts[row]].min() + memory.next_position
            query = backbone.rotary.rotate(layer, kept.queries[:, row : row + 1], moved[:, None])
            most = -math.inf
            for head in range(4):
                logs = []
                for entries in (core, bank.held()):
                    of = transcript.demonstration[entries.index[head // 2].long()]
                    logits = (entries.keys[head // 2] @ query[head, 0]) * 16**-0.5
                    logits = logits + (0 if entries.bias is None else entries.bias[head // 2])
                    logs.append(math.log(sum(math.exp(one) for one in logits[of != row].tolist())))
                most = max(most, logs[1] - logs[0])
            needs[-1].append(most)
    every = torch.tensor([need for layer in needs for need in layer])
    shut = max(0.0, float(torch.quantile(every, quantile)))
    for layer in range(3):
        is_often = sum(need > shut for need in needs[layer]) >= 2.5
        expected = 0.0 if is_often else shut
        assert memory.reference.thresholds[layer] == pytest.approx(expected, abs=1e-4)
    assert memory.reference.layers == (None,) * 3
    assert memory.gate.epsilon == "calibrated" and memory.gate.first_steps == 1


def test_a_planted_layer_that_needs_its_bank_is_open_and_no_other() -> None:
    memory = built_to_weigh(0.6)
    assert memory.bank is not None
    backbone, layers = tiny_backbone(), []
    for number, layer in enumerate(memory.bank.layers):
        assert layer is not None
        held = layer.held()
        far = replace(held, keys=held.keys * (30.0 if number == 1 else 0.0))
        # Less than any core: a bank of one token that looks like nothing.
        layers.append(far if number == 1 else far.at(torch.zeros(2, 1, dtype=torch.long), (1, 1)))
    transcript = backbone.transcript(range(1, 6))
    queries = record(backbone, transcript, (Queries("answer-starts"),), 5)
    asked = {n: queries.layer(n)[Queries("answer-starts")] for n in range(3)}
    planted = SimpleNamespace(
        core=memory.core, bank=layers, tokens=memory.tokens, next_position=memory.next_position
    )
    scalings = dict.fromkeys(range(3), 16**-0.5)
    compressed: Any = planted
    found = taught(
        compressed, asked, scalings, transcript.spans, backbone.rotary, "missing", 0.6
    ).thresholds
    assert found[1] == 0.0 and found[0] == found[2] >= 0.0
    grown = memory.replaced(bank=Bank(layers), reference=GateReference((None,) * 3, found))
    cache = grown.cache()
    backbone.hf(input_ids=torch.tensor([[11, 12, 13, 9]]), past_key_values=cache, use_cache=True)
    opened = [bool(torch.cat(steps).any()) for steps in cache.extra.statistics._fired]
    assert opened == [False, True, False]


def test_a_head_that_holds_only_padding_and_ones_own_needs_nothing() -> None:
    backbone = tiny_backbone()
    transcript = backbone.transcript(range(1, 6))
    recipe = find_recipe("tasm-weighing-gate").with_settings(gate={"quantile": 1.0})
    queries = record(backbone, transcript, (Queries("answer-starts"),), 5)
    kept = {0: queries.layer(0)[Queries("answer-starts")]}
    memory = build_tiny(backbone, transcript, recipe=recipe, core="40%", bank="30%")
    assert memory.bank is not None
    core, bank = memory.core[0], memory.bank.layers[0]
    assert core is not None and bank is not None
    of_first = (memory.tokens.demonstration[core.index[1].long()] == 0).nonzero()[:, 0]
    order = torch.stack([torch.arange(core.index.shape[1])] * 2)
    order[1, : len(of_first)] = of_first
    ragged = core.at(order, (core.index.shape[1], len(of_first)))
    compressed: Any = SimpleNamespace(
        core=[ragged],
        bank=[bank.held()],
        tokens=memory.tokens,
        next_position=memory.next_position,
    )
    given = (compressed, kept, {0: 0.25}, transcript.spans, backbone.rotary, "missing", 1.0)
    (threshold,) = taught(*given).thresholds  # type: ignore[arg-type]
    assert threshold is not None and threshold < 100


def test_layers_without_needs_have_no_threshold() -> None:
    nobody = torch.full((4,), -math.inf)
    assert thresholds_by_need({0: nobody}, 0.75) == {}
    some = torch.tensor([-5.0, -4.0, -3.0, -2.0])
    assert thresholds_by_need({0: nobody, 2: some}, 0.75) == {2: 0.0}
    often = {0: some + 9.0, 1: some, 2: torch.tensor([-5.0, -5.0, -5.0, 8.0])}
    assert thresholds_by_need(often, 0.7) == pytest.approx({0: 0.0, 1: 4.7, 2: 4.7}, abs=0.5)
    one = build_tiny(tiny_backbone(), 1, recipe="tasm-weighing-gate", core="12", bank="4")
    assert one.reference is not None and one.reference.thresholds == (None,) * 3
