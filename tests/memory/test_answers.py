"""A memory read by a model: against one stock forward over the whole prompt."""

import pytest
import torch
from torch import Tensor

import tasm
from tasm.backbone import Geometry, MemoryCache, attach, detach
from tasm.backbone.prompt.transcript import Layout
from tasm.memory import Bank, GateReference, GateSettings, LayerTokens, TaskMemory, TokenTable
from tests.memory.memories import identity
from tests.tiny_models import Tiny, Turn, tiny_model

STEPS = 5


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    return tiny_model("qwen2_vl")


@pytest.fixture(scope="module")
def encoded(tiny) -> MemoryCache:
    attach(tiny.model)
    cache = MemoryCache.empty(tiny.model.config)
    with torch.no_grad():
        tiny.model(**tiny.inputs(demonstrations(tiny)), past_key_values=cache, logits_to_keep=1)
    cache.commit()
    return cache


def demonstrations(tiny: Tiny) -> list[Turn]:
    return [tiny.turn(seed=seed) for seed in (1, 2, 3)]


def memory_of(
    tiny: Tiny, encoded: MemoryCache, in_bank: list[Tensor] | None = None, **gate
) -> TaskMemory:
    """Everything that was encoded; what `in_bank` (head after head) names lies in the bank."""
    total = encoded.logical_length

    def layers(chosen: list[Tensor]) -> list[LayerTokens]:
        kept = []
        for (segment,) in encoded.segments:
            keys = [segment.keys[0, head, rows] for head, rows in enumerate(chosen)]
            values = [segment.values[0, head, rows] for head, rows in enumerate(chosen)]
            counts = tuple(len(rows) for rows in chosen)
            flat = (torch.cat(keys), torch.cat(values), torch.cat(chosen).int())
            kept.append(LayerTokens.of_heads(*flat, counts))
        return kept

    banked = in_bank or [torch.tensor([], dtype=torch.long)] * 2
    everything = torch.arange(total)
    core = [everything[~torch.isin(everything, rows)] for rows in banked]
    zeros = torch.zeros(total)
    return TaskMemory(
        core=layers(core),
        bank=None if in_bank is None else Bank(layers(banked)),
        gate=GateSettings(top_k=total, largest_share=1.0, **gate) if gate else None,
        tokens=TokenTable.make(encoded.positions, zeros, zeros, zeros[:, None].expand(-1, 4)),
        next_position=encoded.next_position,
        logical_length=total,
        full_bytes=0,
        geometry=Geometry.of(tiny.model),
        identity=identity(),
        layout=Layout(),
        recipe={"name": "full"},
    )


def logits(tiny: Tiny, cache: MemoryCache, inputs: dict[str, Tensor]) -> Tensor:
    output = tiny.model.generate(
        **inputs,
        past_key_values=cache,
        max_new_tokens=STEPS,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        suppress_tokens=list(range(180, 200)),
    )
    return torch.stack(output.logits, 1)


@pytest.fixture(scope="module")
def stock(tiny, encoded) -> list[Tensor]:
    """(steps, vocabulary) for two queries, the whole prompt each time, by the model alone."""
    detach(tiny.model, "eager")
    answers = []
    for query in queries(tiny):
        whole = tiny.inputs([*demonstrations(tiny), query])
        answers.append(logits(tiny, None, whole)[0])
    attach(tiny.model)
    return answers


def queries(tiny: Tiny) -> list[Turn]:
    return [tiny.turn(seed=11), tiny.turn(seed=12, words=9)]


@pytest.mark.parametrize("place", ["held", "stored"])
def test_keeping_everything_is_the_full_context(tiny, encoded, stock, place, tmp_path):
    memory = memory_of(tiny, encoded)
    if place == "stored":
        memory.save(tmp_path / "full.tasm")
        memory = tasm.load(tmp_path / "full.tasm")
    for query, expected in zip(queries(tiny), stock, strict=True):
        got = logits(tiny, memory.cache(), tiny.inputs([query]))[0]
        assert (got - expected).abs().max() < 1e-5
    batch = logits(tiny, memory.cache(), tiny.batch(queries(tiny)))
    assert (batch - torch.stack(stock)).abs().max() < 1e-5


@pytest.mark.parametrize("bank_on", ["host", "device"])
@pytest.mark.parametrize("place", ["held", "stored"])
def test_core_and_a_bank_retrieved_whole_are_the_full_context(
    tiny, encoded, stock, place, bank_on, tmp_path
):
    """Uneven heads in core and bank; the gate always opens and the search brings all of it."""
    total = encoded.logical_length
    banked = [torch.arange(5, total, 2), torch.arange(3, total, 3)]
    memory = memory_of(tiny, encoded, banked, kind="always")
    if place == "stored":
        memory.save(tmp_path / "m.tasm")
        memory = tasm.load(tmp_path / "m.tasm")
    batch = logits(tiny, memory.cache(bank_on=bank_on), tiny.batch(queries(tiny)))
    assert (batch - torch.stack(stock)).abs().max() < 1e-5
    shut = logits(tiny, memory.cache(gate="never"), tiny.batch(queries(tiny)))
    assert (shut - torch.stack(stock)).abs().max() > 1e-2, "without the bank it must differ"


def test_statistics_of_answers(tiny, encoded):
    total = encoded.logical_length
    banked = [torch.arange(5, total, 2), torch.arange(3, total, 3)]
    cache = memory_of(tiny, encoded, banked, kind="always").cache()
    logits(tiny, cache, tiny.batch(queries(tiny)))
    assert cache.extra.statistics.triggered() == [1.0, 1.0]
    mean = sum(len(rows) for rows in banked) / 2
    assert cache.extra.statistics.retrieved_tokens() == pytest.approx([mean, mean])


def test_a_gate_that_stays_shut_changes_nothing(tiny, encoded):
    banked = [torch.arange(5, 20), torch.arange(5, 20)]
    memory = memory_of(tiny, encoded, banked, kind="js", epsilon=1.0)  # above ln 2
    even = [torch.full(layer.index.shape, 1 / layer.index.shape[1]) for layer in memory.core]
    memory = memory.replaced(reference=GateReference(tuple(even), (None,) * len(even)))
    inputs = tiny.inputs([queries(tiny)[0]])
    cache = memory.cache()
    got = logits(tiny, cache, inputs)
    assert torch.equal(got, logits(tiny, memory.cache(gate="never"), inputs))
    assert cache.extra.statistics.triggered() == [0.0]
    assert 0 < cache.extra.statistics.divergence()[0] < 1
    opened = memory.cache(epsilon=0.0)
    assert not torch.equal(got, logits(tiny, opened, inputs))
    assert opened.extra.statistics.triggered()[0] > 0


def test_segments_in_any_order_give_the_same(tiny, encoded):
    """Keys carry their positions, so a memory is a set."""
    memory = memory_of(tiny, encoded)
    order = torch.randperm(encoded.logical_length, generator=torch.Generator().manual_seed(3))
    shuffled = memory.replaced(
        core=[
            LayerTokens(layer.keys[:, order], layer.values[:, order], layer.index[:, order])
            for layer in memory.core
        ]
    )
    inputs = tiny.inputs([queries(tiny)[0]])
    difference = logits(tiny, memory.cache(), inputs) - logits(tiny, shuffled.cache(), inputs)
    assert difference.abs().max() < 1e-5


@pytest.mark.slow
def test_compiled_decoding_with_the_bank_on_the_device_has_no_graph_break():
    tiny = tiny_model("llama")  # Qwen2-VL's own forward branches on a static cache's length
    attach(tiny.model)
    encoded = MemoryCache.empty(tiny.model.config)
    with torch.no_grad():
        tiny.model(**tiny.inputs(demonstrations(tiny)), past_key_values=encoded, logits_to_keep=1)
    encoded.commit()
    banked = [torch.arange(5, 12), torch.arange(3, 15)]
    memory = memory_of(tiny, encoded, banked, kind="js", epsilon=0.01)
    even = [torch.full(layer.index.shape, 1 / layer.index.shape[1]) for layer in memory.core]
    memory = memory.replaced(reference=GateReference(tuple(even), (None,) * len(even)))
    query = tiny.inputs([queries(tiny)[0]])
    plain = memory.cache()
    static = memory.cache(bank_on="device", live_tokens=query["input_ids"].shape[1] + STEPS)
    compiled = torch.compile(tiny.model.forward, backend="eager", fullgraph=True)
    with torch.no_grad():
        expected = tiny.model(**query, past_key_values=plain).logits[:, -1]
        tiny.model(**query, past_key_values=static)
        for _ in range(STEPS):
            ids = expected.argmax(-1)[:, None]
            expected = tiny.model(input_ids=ids, past_key_values=plain).logits[:, -1]
            got = compiled(input_ids=ids, past_key_values=static).logits[:, -1]
            assert (got - expected).abs().max() < 1e-5
    assert 0 < plain.extra.statistics.triggered()[0] < 1


def test_beams_carry_what_their_rows_retrieved(tiny, encoded, stock):
    total = encoded.logical_length
    banked = [torch.arange(5, total, 2), torch.arange(3, total, 3)]
    memory = memory_of(tiny, encoded, banked, kind="always")
    inputs = tiny.batch(queries(tiny))
    options = {"max_new_tokens": STEPS, "num_beams": 3, "do_sample": False}
    retrieved = tiny.model.generate(**inputs, past_key_values=memory.cache(), **options)
    whole = memory_of(tiny, encoded).cache()
    assert torch.equal(retrieved, tiny.model.generate(**inputs, past_key_values=whole, **options))


def test_a_memory_is_not_written_by_answers(tiny, encoded):
    memory = memory_of(tiny, encoded)
    before = [(layer.keys.clone(), layer.values.clone()) for layer in memory.core]
    for query in queries(tiny):
        logits(tiny, memory.cache(), tiny.inputs([query]))
    for (keys, values), layer in zip(before, memory.core, strict=True):
        assert torch.equal(keys, layer.keys)
        assert torch.equal(values, layer.values)
