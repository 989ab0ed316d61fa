"""Answers: plain transformers agrees, batches agree, settings do what they say."""

from pathlib import Path

import pytest
import torch
from transformers import GenerationConfig

import tasm
from tasm.answer import ask_all, ordinary_answers, zero_shot_answers
from tasm.answer.ask import default_new_tokens
from tasm.answer.generation import generate
from tasm.backbone.ends import end_tokens
from tests.answer.conftest import demonstrations, queries


def test_the_python_interface_reads_as_documented(
    model: tasm.Model, memory: tasm.TaskMemory, tmp_path: Path
) -> None:
    memory.save(tmp_path / "colours.tasm")
    loaded = tasm.load(tmp_path / "colours.tasm")
    picture = demonstrations()[2].pictures[0].load()
    picture.save(tmp_path / "x.png")
    answer = model.ask(loaded, images=[tmp_path / "x.png"], question="Which?", max_new_tokens=6)
    inputs = model.inputs(loaded, images=[str(tmp_path / "x.png")], question="Which?")
    output = model.hf.generate(
        **inputs, past_key_values=loaded.cache(), max_new_tokens=6, do_sample=False
    )
    prompt = inputs["input_ids"].shape[1]
    assert output[0, prompt:].tolist()[: len(answer.token_ids)] == list(answer.token_ids)
    assert answer.text == model.processor.decode(answer.token_ids).strip()
    assert answer.tokens == {"query": prompt, "answer": len(answer.token_ids)}
    assert set(answer.seconds) == {"prefill", "decode"}


def test_a_batch_answers_as_single_queries_do(model: tasm.Model, memory: tasm.TaskMemory) -> None:
    together = model.ask_all(memory, queries(), batch_size=4, max_new_tokens=5, explain=True)
    for query, answer in zip(queries(), together, strict=True):
        alone = model.ask_all(memory, [query], max_new_tokens=5, explain=True)[0]
        assert answer.token_ids == alone.token_ids
        assert answer.tokens == alone.tokens
        assert answer.triggered == pytest.approx(alone.triggered)
        assert answer.divergence == pytest.approx(alone.divergence, abs=1e-6)
        assert answer.retrieved_tokens == pytest.approx(alone.retrieved_tokens)
        for mine, its in zip(answer.demonstrations, alone.demonstrations, strict=True):
            assert mine.id == its.id
            assert mine.weight == pytest.approx(its.weight, abs=1e-5)


def test_a_full_memory_answers_as_an_ordinary_prompt(
    model: tasm.Model, full: tasm.TaskMemory, memory: tasm.TaskMemory
) -> None:
    ordinary = ordinary_answers(
        model.backbone, demonstrations(), queries(), layout=full.layout, max_new_tokens=6
    )
    asked = model.ask_all(full, queries(), max_new_tokens=6)
    assert [one.token_ids for one in asked] == [one.token_ids for one in ordinary]
    without = zero_shot_answers(model.backbone, queries(), layout=full.layout, max_new_tokens=6)
    assert [one.token_ids for one in without] != [one.token_ids for one in ordinary]


def test_answers_are_greedy_whatever_the_model_says(
    model: tasm.Model, memory: tasm.TaskMemory
) -> None:
    before = model.ask(memory, question="Which?", max_new_tokens=8)
    own = model.hf.generation_config
    settings = GenerationConfig(
        do_sample=True,
        temperature=9.0,
        repetition_penalty=5.0,
        num_beams=3,
        suppress_tokens=list(before.token_ids),
        max_new_tokens=1,
        eos_token_id=own.eos_token_id,
        pad_token_id=own.pad_token_id,
    )
    model.hf.generation_config = settings
    try:
        assert model.ask(memory, question="Which?", max_new_tokens=8).token_ids == before.token_ids
        assert model.hf.generation_config is settings
    finally:
        model.hf.generation_config = own


def test_an_answer_ends_before_its_end_token(model: tasm.Model, memory: tasm.TaskMemory) -> None:
    """With the third generated token as the end token, two are left."""
    inputs = model.inputs(memory, question="Which?")
    free = generate(model.backbone, inputs, memory.cache(), max_new_tokens=6).token_ids[0]
    place = next(n for n in range(1, len(free)) if free[n] not in free[:n])
    own = model.hf.generation_config
    model.hf.generation_config = GenerationConfig(eos_token_id=[free[place]])
    try:
        assert free[place] in end_tokens(model.hf)
        cut = generate(model.backbone, inputs, memory.cache(), max_new_tokens=6)
        assert cut.token_ids == [free[:place]]
    finally:
        model.hf.generation_config = own


def test_first_logits_choose_the_first_token(model: tasm.Model, memory: tasm.TaskMemory) -> None:
    inputs = model.backbone.query_inputs(queries(), layout=memory.layout)
    generated = generate(model.backbone, inputs, memory.cache(), max_new_tokens=2)
    assert generated.first_logits.dtype == torch.float32
    first = generated.first_logits.argmax(-1).tolist()
    assert first == [row[0] for row in generated.token_ids]


def test_pieces_of_a_stream_make_the_answer(model: tasm.Model, memory: tasm.TaskMemory) -> None:
    pieces: list[str] = []
    answer = model.ask(memory, question="Which?", max_new_tokens=12, on_text=pieces.append)
    assert "".join(pieces).strip() == answer.text
    assert len(pieces) > 1
    with pytest.raises(tasm.errors.InputError, match="Only one"):
        ask_all(model.backbone, memory, queries(), on_text=pieces.append)


def test_the_longest_answer_waited_for(model: tasm.Model, memory: tasm.TaskMemory) -> None:
    """Twice the longest demonstration answer and 8: the longest says its colour three times."""
    transcript = model.backbone.transcript(demonstrations())
    longest = max(
        int(((transcript.demonstration == number) & (transcript.roles == 4)).sum())
        for number in range(6)
    )
    assert default_new_tokens(memory) == 2 * longest + 8
    answer = model.ask(memory, question="Which?")
    assert answer.tokens["answer"] <= 2 * longest + 8


def test_positions_are_not_passed(
    model: tasm.Model, memory: tasm.TaskMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    query = model.inputs(memory, question="Which?")["input_ids"].shape[1]
    room = replace(model.backbone.geometry, max_positions=memory.next_position + query + 3)
    monkeypatch.setattr(model.backbone, "geometry", room)
    assert model.ask(memory, question="Which?").tokens["answer"] <= 3
    assert model.ask(memory, question="Which?", max_new_tokens=3).tokens["answer"] <= 3
    fewer = "4 for the answer. Ask for at most 3 new tokens .*max_new_tokens=3"
    with pytest.raises(tasm.errors.InputError, match=fewer):
        model.ask(memory, question="Which?", max_new_tokens=4)


def test_where_no_answer_fits_fewer_new_tokens_are_no_way_out(
    model: tasm.Model, memory: tasm.TaskMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    query = model.inputs(memory, question="Which?")["input_ids"].shape[1]

    def refusal(max_positions: int, wanted: int | None) -> str:
        short = replace(model.backbone.geometry, max_positions=max_positions)
        monkeypatch.setattr(model.backbone, "geometry", short)
        with pytest.raises(tasm.errors.InputError) as refused:
            model.ask(memory, question="Which?", max_new_tokens=wanted)
        assert "new_tokens" not in str(refused.value)
        assert "streaming" not in str(refused.value)  # a streaming memory takes as many positions
        return str(refused.value)

    for wanted in (None, 4):
        # Behind the memory the question fits, and no answer does; one position is an answer's.
        full = refusal(memory.next_position + query, wanted)
        assert f"room for {query - 1:,} positions" in full
        assert "fewer demonstrations" in refusal(memory.next_position, wanted)
        # A question longer than the model, whatever the memory: demonstrations are not to blame.
        alone = refusal(query, wanted)
        assert "too long for this model" in alone and "demonstrations." not in alone


def test_another_models_memory_is_refused(memory: tasm.TaskMemory, tmp_path: Path) -> None:
    from tests.tiny_folders import tiny_folder

    other = tasm.load_model(str(tiny_folder("qwen2_vl", tmp_path / "other", seed=3)))
    with pytest.raises(tasm.errors.MismatchError, match="another model"):
        other.ask(memory, question="Which?")
    with pytest.raises(tasm.errors.MismatchError, match="another model"):
        other.inputs(memory, question="Which?")


def test_a_wrapped_model_asks_as_a_loaded_one(folder: Path, memory: tasm.TaskMemory) -> None:
    loaded = tasm.load_model(str(folder))
    wrapped = tasm.wrap(loaded.hf, loaded.processor)
    own = tasm.build(wrapped, demonstrations(), recipe="tasm", core="40%")
    answer = wrapped.ask(own, question="Which?", max_new_tokens=6)
    assert answer.token_ids == loaded.ask(memory, question="Which?", max_new_tokens=6).token_ids


def test_a_question_that_is_too_long_is_told_to_be_shorter(
    model: tasm.Model, memory: tasm.TaskMemory
) -> None:
    """Fewer demonstrations would not make room for it."""
    with pytest.raises(tasm.errors.InputError, match="shorten it"):
        model.ask(memory, question="word " * 20_000)


def test_an_odd_system_prompt_is_refused_in_a_sentence(model: tasm.Model) -> None:
    with pytest.raises(tasm.errors.InputError, match="system prompt: found half of a surrogate"):
        model.backbone.transcript(demonstrations(), system="a\ud800b")
    # Text that looks like tasm's own marks is text as well.
    assert len(model.backbone.transcript(demonstrations(), system="zqtasm0000001qz").spans) == 6
