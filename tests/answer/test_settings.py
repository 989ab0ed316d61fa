"""Greedy whatever the model's own generation settings say, with nothing on the model changed."""

import threading
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

import tasm
from tasm.answer.generation import generate, greedy_settings
from tasm.backbone.running import one_at_a_time
from tasm.check.fidelity import answer_distributions
from tests.answer.conftest import COLOURS, queries

pytestmark = pytest.mark.matrix

# What a checkpoint's generation_config.json may hold; each changes or stops a plain generate().
OWN_SETTINGS: list[dict[str, Any]] = [
    {"do_sample": True, "temperature": 9.0, "top_k": 3, "top_p": 0.5},
    {"num_beams": 3, "length_penalty": 4.0, "early_stopping": True, "num_return_sequences": 2},
    {"repetition_penalty": 5.0, "no_repeat_ngram_size": 1, "encoder_repetition_penalty": 3.0},
    {"max_new_tokens": 1, "max_length": 3, "max_time": 1e-9},
    {"min_new_tokens": 20, "min_length": 2000},
    {"stop_strings": ["e", "a"]},
    {"forced_bos_token_id": 7, "forced_eos_token_id": 8},
    {"bad_words_ids": [[n] for n in range(9, 200)]},
    {"suppress_tokens": list(range(9, 300)), "begin_suppress_tokens": list(range(9, 300))},
    {"sequence_bias": {(n,): -50.0 for n in range(9, 200)}},
    {"exponential_decay_length_penalty": (0, 9.0)},
    {"guidance_scale": 3.0},
    {"cache_implementation": "static"},
    {"use_cache": False},
    {"return_dict_in_generate": True, "output_scores": True},
    {"prefill_chunk_size": 3},
    {"prompt_lookup_num_tokens": 3},
    {"renormalize_logits": True, "remove_invalid_values": True, "epsilon_cutoff": 0.5},
]


def ask(model: tasm.Model, memory: tasm.TaskMemory) -> tuple[int, ...]:
    return model.ask(memory, question="Which?", max_new_tokens=6).token_ids


@pytest.mark.parametrize("settings", OWN_SETTINGS, ids=lambda one: "-".join(one)[:40])
def test_the_models_own_settings_change_nothing(
    model: tasm.Model, memory: tasm.TaskMemory, settings: dict[str, Any]
) -> None:
    expected = ask(model, memory)
    own = model.hf.generation_config
    theirs = GenerationConfig(**settings, pad_token_id=own.pad_token_id)
    before = theirs.to_dict()
    model.hf.generation_config = theirs
    try:
        assert ask(model, memory) == expected
        assert model.hf.generation_config is theirs
        assert theirs.to_dict() == before
    finally:
        model.hf.generation_config = own


def test_every_setting_that_transformers_knows_is_given(model: tasm.Model) -> None:
    """`generate` fills from the model's own what it is not given."""
    given = greedy_settings(model.backbone, 3)
    known = {name for name in GenerationConfig().to_dict() if not name.startswith("_")}
    assert set(given) >= known - {"transformers_version"}


def test_settings_in_the_configuration_itself(model: tasm.Model, memory: tasm.TaskMemory) -> None:
    """Older checkpoints and their users put them there."""
    expected = ask(model, memory)
    before = dict(vars(model.hf.config))
    model.hf.config.repetition_penalty = 7.0
    try:
        assert ask(model, memory) == expected
    finally:
        vars(model.hf.config).clear()
        vars(model.hf.config).update(before)


def test_padding_is_a_token_that_the_model_has(model: tasm.Model, memory: tasm.TaskMemory) -> None:
    own = model.hf.generation_config
    model.hf.generation_config = GenerationConfig(pad_token_id=10**6, eos_token_id=10**6)
    try:
        together = model.ask_all(memory, queries(), batch_size=4, max_new_tokens=12)
    finally:
        model.hf.generation_config = own
    alone = [model.ask_all(memory, [one], max_new_tokens=12)[0] for one in queries()]
    assert [one.token_ids for one in together] == [one.token_ids for one in alone]


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("task", [None, "CAUSAL_LM"])
def test_settings_reach_a_model_inside_an_adapter(folder: Any, task: str | None) -> None:
    peft = pytest.importorskip("peft")
    plain = tasm.load_model(str(folder))
    rows = tasm.read_demonstrations(
        [{"question": f"Which is number {n}?", "answer": word} for n, word in enumerate(COLOURS)]
    )
    expected = ask(plain, tasm.build(plain, rows, recipe="full"))
    plain.hf.generation_config = GenerationConfig(
        do_sample=True, temperature=9.0, max_new_tokens=2, repetition_penalty=9.0
    )
    lora = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type=task)  # B is zero: no change
    adapted = peft.get_peft_model(plain.hf, lora).eval()
    adapted.generation_config = GenerationConfig(do_sample=True, temperature=5.0, num_beams=2)
    wrapped = tasm.wrap(adapted, plain.processor)
    memory = tasm.build(wrapped, rows, recipe="full")
    assert [ask(wrapped, memory) for _ in range(2)] == [expected] * 2


class Silent:
    """A model whose generate() ignores what it is given."""

    config = generation_config = None

    def generate(self, **arguments: Any) -> torch.Tensor:
        return arguments["input_ids"]


def test_a_generate_that_chooses_nothing_is_named(
    model: tasm.Model, memory: tasm.TaskMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = model.inputs(memory, question="Which?")
    monkeypatch.setattr(type(model.hf), "generate", Silent.generate, raising=False)
    with pytest.raises(tasm.errors.WorkError, match="chose no token"):
        generate(model.backbone, inputs, memory.cache(), max_new_tokens=2)


def test_many_threads_get_each_its_own_answer(model: tasm.Model, memory: tasm.TaskMemory) -> None:
    """Single questions, streams and batches at once, each of another length."""
    several = queries()

    def single(number: int, length: int) -> list[tuple[int, ...]]:
        return [
            one.token_ids for one in model.ask_all(memory, [several[number]], max_new_tokens=length)
        ]

    def streamed(number: int, length: int) -> list[tuple[int, ...]]:
        pieces: list[str] = []
        (answer,) = model.ask_all(
            memory, [several[number]], max_new_tokens=length, on_text=pieces.append
        )
        assert "".join(pieces).strip() == answer.text
        return [answer.token_ids]

    def batch(number: int, length: int) -> list[tuple[int, ...]]:
        rows = several[number:] + several[:number]
        return [one.token_ids for one in model.ask_all(memory, rows, max_new_tokens=length)]

    work = [
        (kind, number, length)
        for number in range(4)
        for kind, length in ((single, 3 + number), (streamed, 7 - number), (batch, 4 + number))
    ]
    expected = [kind(number, length) for kind, number, length in work]
    found: list[Any] = [None] * len(work)
    start = threading.Barrier(4)

    def run(worker: int) -> None:
        start.wait(20)
        for place in range(worker, len(work), 4):
            kind, number, length = work[place]
            found[place] = kind(number, length)

    own = model.hf.generation_config
    threads = [threading.Thread(target=run, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == expected
    assert model.hf.generation_config is own


def test_a_request_may_begin_while_another_is_decoding(
    model: tasm.Model, memory: tasm.TaskMemory
) -> None:
    """The second begins inside the first, and the first ends inside the second."""
    begun, inside = threading.Event(), threading.Event()
    lengths: dict[str, int] = {}

    def first() -> None:
        def on_text(_: str) -> None:
            begun.set()
            inside.wait(10)

        answer = model.ask(memory, question="Which?", max_new_tokens=5, on_text=on_text)
        lengths["first"] = len(answer.token_ids)

    def second() -> None:
        begun.wait(10)

        def on_text(_: str) -> None:
            inside.set()
            one.join(10)

        answer = model.ask(memory, question="Which?", max_new_tokens=3, on_text=on_text)
        lengths["second"] = len(answer.token_ids)

    one, two = threading.Thread(target=first), threading.Thread(target=second)
    one.start()
    two.start()
    one.join(20)
    two.join(20)
    assert lengths == {"first": 5, "second": 3}


def test_whatever_reads_takes_turns_where_threads_disturb_each_other(
    model: tasm.Model, memory: tasm.TaskMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with transformers before 5.2: while one thread reads, no other may."""
    monkeypatch.setattr(one_at_a_time, "_RECORDS_BY_THREAD", False)
    others: list[bool] = []

    def is_free() -> None:
        others.append(one_at_a_time._LOCKS[model.backbone.core].acquire(blocking=False))

    def watch(_: Any, given: Any, named: dict[str, Any]) -> None:
        if named["input_ids"].shape[1] > 1:
            thread = threading.Thread(target=is_free)
            thread.start()
            thread.join(10)

    ways: list[dict[str, Any]] = [{}, {"labels": ["red", "blue"]}, {"explain": "ablation"}]
    watched = model.hf.register_forward_pre_hook(watch, with_kwargs=True)
    try:
        for settings in ways:
            others.clear()
            model.ask(memory, question="Which?", **settings)
            assert others and not any(others), settings
        others.clear()
        tasm.build(
            model,
            tasm.read_demonstrations([{"question": "Which?", "answer": "red"}]),
            recipe="full",
        )
        assert others and not any(others)
        others.clear()
        query = tasm.make_query("Which?")
        answer_distributions(model.backbone, memory, [query], [(1, 2)])
        assert others and not any(others)
    finally:
        watched.remove()
