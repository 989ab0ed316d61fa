"""The table of gates, each signal against plain Python, and how often a gate is asked."""

import json
import math
from typing import get_args

import pytest
import torch

from tasm.arguments import GateKind
from tasm.backbone.attention.segment import UNUSED
from tasm.errors import InputError
from tasm.memory import Bank, GateSettings, TaskMemory
from tasm.memory.retrieval.gate import GateReference
from tasm.memory.retrieval.gates import GATES
from tasm.memory.retrieval.in_attention import Retrieval
from tasm.memory.retrieval.looking import Look, core_weight
from tests.memory.memories import HEAD_DIM, KV_HEADS, layer_tokens, task_memory
from tests.memory.test_retrieval import LAYERS, SCALING, Scene, attached_keys

GROUP = 2


def weight(query, keys, bias=None):
    """log Σ exp of the logits of one query head, in plain Python."""
    logits = [
        SCALING * sum(a * b for a, b in zip(query.tolist(), key.tolist(), strict=True))
        for key in keys
    ]
    if bias is not None:
        logits = [one + float(b) for one, b in zip(logits, bias, strict=True)]
    return math.log(sum(math.exp(one) for one in logits))


def scene_of(**settings):
    scene = Scene()
    return scene, scene.retrieval(**settings)


def outweighs(scene, layer, query):
    """Nats by which the bank outweighs the core, for the query head that misses most."""
    found = []
    for head in range(KV_HEADS):
        core = scene.core[layer].keys[head]
        bank = scene.bank[layer].keys[head, : scene.bank[layer].counts[head]]
        found += [weight(query[head, g], bank) - weight(query[head, g], core) for g in range(GROUP)]
    return max(found)


def test_every_name_has_a_row_and_a_gate_knows_its_threshold():
    assert set(GATES) == set(get_args(GateKind))
    for name, gate in GATES.items():
        assert (gate is None) == (name in ("always", "never"))
        assert gate is None or gate.threshold > 0
        assert GateSettings(kind=name).is_calibrated == (name in ("js", "missing"))
        assert GateSettings(kind=name).compares == (name == "js")


def test_a_banks_weight_is_that_of_its_tokens_in_one_chunk_or_many(monkeypatch):
    generator = torch.Generator().manual_seed(3)
    tokens = layer_tokens(generator, (15, 11), total=40)
    query = torch.randn(3, KV_HEADS, GROUP, HEAD_DIM, generator=generator)
    expected = [
        [
            [weight(row[head, g], tokens.keys[head, : tokens.counts[head]]) for g in range(GROUP)]
            for head in range(KV_HEADS)
        ]
        for row in query
    ]
    whole = Bank([tokens]).weight(0, query, SCALING)
    torch.testing.assert_close(whole, torch.tensor(expected))
    monkeypatch.setattr("tasm.memory.retrieval.bank._SCAN_ELEMENTS", 4 * KV_HEADS * HEAD_DIM)
    torch.testing.assert_close(Bank([tokens]).weight(0, query, SCALING), whole)
    with pytest.raises(IndexError, match="no bank"):
        Bank([None]).weight(0, query, SCALING)


def test_an_empty_head_weighs_nothing_and_never_opens_missing():
    keys = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(1))
    bias = torch.tensor([[0.5, 0.0, UNUSED, UNUSED], [UNUSED] * 4])
    query = torch.ones(1, 2, 2, 8)
    found = core_weight(query, keys, SCALING, bias)
    expected = weight(query[0, 0, 0], keys[0, :2], bias[0, :2])
    torch.testing.assert_close(found[0, 0], torch.tensor([expected] * 2))
    assert found[0, 1].tolist() == [math.inf] * 2
    gate = GATES["missing"]
    side = gate.core_side(Look(query, keys, SCALING, bias))
    bank = torch.tensor([[[1.0, 2.0], [50.0, 60.0]]])
    assert float(gate.signal(side, lambda: bank)) == pytest.approx(2.0 - expected, abs=1e-5)
    for empty in (UNUSED, -2652.0):  # the lowest that CUDA's kernel makes of it in 16 bits
        known = torch.tensor([[[expected] * 2, [empty] * 2]])
        look = Look(query, keys, SCALING, bias, known_weight=lambda known=known: known)
        assert torch.equal(gate.core_side(look)[:, 2:], torch.full((1, 2), math.inf))
        assert float(gate.signal(gate.core_side(look), lambda: bank)) == pytest.approx(
            2.0 - expected, abs=1e-5
        )
    nothing = torch.full((1, 2, 2), -math.inf)
    assert float(gate.signal(side, lambda: nothing)) == -math.inf


@pytest.mark.parametrize("path", ["branching", "masked"])
@pytest.mark.parametrize("first_steps", [None, 1, 2])
def test_missing_against_a_plain_loop(path, first_steps, monkeypatch):
    if path == "masked":
        monkeypatch.setattr(Retrieval, "_may_branch", lambda self, layer: False)
    every = [
        outweighs(Scene(), layer, row)
        for layers in Scene().queries
        for layer, rows in enumerate(layers)
        for row in rows
    ]
    at = sorted(every)[len(every) // 2]
    scene, retrieval = scene_of(kind="missing", epsilon=at, first_steps=first_steps)
    opened = [[], [], []]
    attached = {}
    for step, layers in enumerate(scene.queries):
        for layer, query in enumerate(layers):
            segment = retrieval(layer, query, SCALING)
            for row in range(3):
                asked = first_steps is None or step < first_steps
                opens = asked and outweighs(scene, layer, query[row]) > at
                opened[row].append(opens)
                seen = attached_keys(segment, row)
                if opens:
                    best = query[row].mean(1)
                    attached[layer, row] = [
                        scene.bank[layer].keys[head][
                            (
                                scene.bank[layer].keys[head, : scene.bank[layer].counts[head]] @ one
                            ).argsort(descending=True)[:4]
                        ]
                        for head, one in enumerate(best)
                    ]
                assert (seen is None) == ((layer, row) not in attached)
                for got, right in zip(seen or [], attached.get((layer, row), []), strict=True):
                    assert torch.equal(got, right)
    assert retrieval.statistics.triggered() == pytest.approx([sum(o) / len(o) for o in opened])
    assert retrieval.statistics.divergence() == []


def test_entropy_opens_where_a_head_is_undecided():
    scene, retrieval = scene_of(kind="entropy", epsilon=1.0)
    found = []
    for row in scene.queries[0, 0]:
        entropies = []
        for head in range(KV_HEADS):
            shares = torch.stack(
                [
                    torch.softmax(SCALING * scene.core[0].keys[head] @ row[head, g], 0)
                    for g in range(GROUP)
                ]
            ).mean(0)
            entropies.append(-sum(p * math.log(p) for p in shares.tolist() if p > 0))
        found.append(max(entropies) > 1.0)
    retrieval(0, scene.queries[0, 0], SCALING)
    assert retrieval.statistics.triggered() == [float(one) for one in found]


def test_steps_not_asked_count_as_shut_and_move_with_their_rows():
    scene, retrieval = scene_of(kind="always", first_steps=1)
    for layers in scene.queries:
        for layer, query in enumerate(layers):
            retrieval(layer, query, SCALING)
    assert retrieval.statistics.triggered() == [1 / 4] * 3
    assert retrieval.statistics.attached() == [1.0] * 3
    retrieval.map_rows(lambda state: state[torch.tensor([2, 0])])
    assert retrieval.statistics.triggered() == [1 / 4] * 2
    assert retrieval.statistics.triggered([1, 2]) == [1.0, 1 / 2]
    with pytest.raises(InputError, match="first 0 steps"):
        GateSettings(first_steps=0)


def test_a_gate_without_a_measured_threshold_takes_its_own():
    _, retrieval = scene_of(kind="missing")
    retrieval.reference = None
    own = GATES["missing"].threshold
    assert [retrieval._threshold(layer, True) for layer in range(LAYERS)] == [own] * LAYERS


def test_missing_takes_what_attention_has_weighed_and_multiplies_nothing(monkeypatch):
    def refused(*_):
        raise AssertionError("a second product of query and core")

    worked_out, given = Scene(), Scene()
    pairs = [
        (layer, row) for step in given.queries for layer, rows in enumerate(step) for row in rows
    ]
    at = sorted(outweighs(given, layer, row) for layer, row in pairs)[len(pairs) // 2]
    plain = worked_out.retrieval(kind="missing", epsilon=max(0.0, at))
    retrieval = given.retrieval(kind="missing", epsilon=max(0.0, at))
    for layers in given.queries:
        for layer, query in enumerate(layers):
            expected = plain(layer, query, SCALING)
            core = core_weight(query, given.core[layer].keys, SCALING)
            with monkeypatch.context() as patched:
                patched.setattr("tasm.memory.retrieval.looking.core_weight", refused)
                found = retrieval(layer, query, SCALING, lambda core=core: core)
            assert (found is None) == (expected is None)
            if found is not None and expected is not None:
                assert torch.equal(found.bias, expected.bias)
    assert retrieval.statistics.triggered() == plain.statistics.triggered()
    assert 0 < sum(plain.statistics.triggered()) < 3
    nothing = Look(given.queries[0][0], given.core[0].keys, SCALING)
    nothing.known_weight = lambda: torch.full((1, 1, 1), UNUSED)
    assert nothing.weight().item() == math.inf


def test_what_was_measured_of_one_gate_is_not_anothers():
    measured = GateReference((None,) * LAYERS, (0.25,) * LAYERS)
    memory = task_memory(gate=GateSettings(kind="missing", first_steps=1))
    memory = memory.replaced(reference=measured)
    assert memory.cache().extra._threshold(0, True) == 0.25
    assert memory.cache(gate="missing").extra._threshold(0, True) == 0.25
    assert memory.cache(gate="entropy").extra._threshold(0, True) == GATES["entropy"].threshold
    assert memory.cache(gate="js").extra.reference is None


def test_few_steps_compile_whole():
    scene, compiled_retrieval = scene_of(kind="missing", epsilon=0.0, first_steps=2)
    plain = scene.retrieval(kind="missing", epsilon=0.0, first_steps=2)

    def one(retrieval, layer, query):
        segment = retrieval(layer, query, SCALING)
        return segment.keys * (segment.bias > -1e20)[..., None]

    compiled = torch.compile(one, backend="eager", fullgraph=True)
    for layers in scene.queries:
        for layer, query in enumerate(layers):
            got = compiled(compiled_retrieval, layer, query)
            segment = plain(layer, query, SCALING)
            shown = (
                torch.zeros(())
                if segment is None
                else segment.keys * (segment.bias > -1e20)[..., None]
            )
            torch.testing.assert_close(got, shown.expand_as(got))


def test_a_gate_that_is_named_is_asked_at_every_step_another_with_its_own_threshold():
    own = GateSettings(kind="missing", epsilon=7.0, first_steps=2)
    memory = task_memory(gate=own)
    assert memory.cache().extra.settings == own
    named = memory.cache(gate="missing").extra.settings
    assert (named.epsilon, named.first_steps) == (7.0, None)
    other = memory.cache(gate="entropy").extra
    assert (other.settings.kind, other.settings.first_steps) == ("entropy", None)
    assert other._threshold(0, True) == GATES["entropy"].threshold
    assert memory.cache(gate="js", epsilon=0.1).extra._threshold(0, True) == 0.1


def test_first_steps_are_kept_on_disk_and_left_out_where_every_step_asks(tmp_path):
    for name, settings in (
        ("two", GateSettings(kind="missing", epsilon=4.0, first_steps=2)),
        ("all", GateSettings(kind="js")),
    ):
        task_memory(gate=settings).save(tmp_path / name)
        assert TaskMemory.load(tmp_path / name).gate == settings
        recorded = json.loads((tmp_path / name / "memory.json").read_text())["gate"]
        assert ("first_steps" in recorded) == (name == "two")
