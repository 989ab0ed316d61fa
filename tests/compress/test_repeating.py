"""The demonstrations repeated as one context: what KVzip scores by, against the stock model."""

import pytest
import torch
from torch import Tensor

from tasm.compress import repeating
from tasm.compress.parts.scorers.reconstruction import Reconstruction
from tasm.compress.recipes.table import find_recipe
from tasm.compress.repeating import repeated
from tests.compress.test_replay import layers_of, replay_of
from tests.compress.tiny_backbone import TinyBackbone, build_tiny, tiny_backbone


def stock_scores(backbone: TinyBackbone, ids: Tensor, head: int, end: int) -> list[Tensor]:
    """(kv_heads, end) by layer: the largest attention from anything after `end`, by the stock
    model's own attention weights."""
    backbone.hf.set_attn_implementation("eager")
    with torch.no_grad():
        read = backbone.hf(input_ids=ids[None], output_attentions=True, use_cache=False)
    backbone.hf.set_attn_implementation("tasm")
    heads = backbone.geometry.kv_heads
    return [one[0, :, end:, :end].unflatten(0, (heads, -1)).amax((1, 2)) for one in read.attentions]


def test_scores_are_those_of_the_stock_model_that_repeats_the_context() -> None:
    backbone = tiny_backbone("llama")
    transcript = backbone.transcript([1, 2, 3])
    memory = build_tiny(backbone, transcript, recipe="full")
    head, end = transcript.spans[0][0], len(transcript)
    (chunk,) = repeated(backbone, transcript, range(3))
    asked = backbone.question_tokens(repeating.INSTRUCTION, layout=transcript.layout)
    assert torch.equal(chunk.input_ids, torch.cat([asked, transcript.input_ids[head:]]))
    replay = replay_of(backbone, transcript, memory)
    object.__setattr__(replay, "contexts", lambda: (chunk,))
    (record,) = Reconstruction(repeats="context").replayed
    held = replay.read_contexts(layers_of(memory), (record,))
    whole = torch.cat([transcript.input_ids, chunk.input_ids])
    for layer, expected in enumerate(stock_scores(backbone, whole, head, end)):
        torch.testing.assert_close(held[layer][record].mass, expected, atol=1e-5, rtol=1e-4)


def test_a_long_context_is_repeated_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_backbone("qwen2_vl")
    transcript = backbone.transcript([1, 2, 3, 4, 5])
    length = transcript.spans[1][1] - transcript.spans[1][0]
    monkeypatch.setattr(repeating, "CHUNK_TOKENS", 2 * length + 1)
    chunks = repeated(backbone, transcript, range(1, 5))
    assert [len(chunk.spans) for chunk in chunks] == [2, 2]
    for chunk, numbers in zip(chunks, ([1, 2], [3, 4]), strict=True):
        count = chunk.spans[0][0]
        assert count == 4 and len(chunk) == 4 + 2 * length
        assert chunk.demonstration[:count].tolist() == [-1] * count
        assert chunk.demonstration[count:].unique().tolist() == numbers
        first, end = transcript.spans[numbers[0]][0], transcript.spans[numbers[1]][1]
        assert torch.equal(chunk.input_ids[count:], transcript.input_ids[first:end])
        assert len(chunk.images) == 2


@pytest.mark.parametrize("mode", ["joint", "streaming", "independent"])
def test_kvzip_repeats_the_context_in_every_mode(mode: str) -> None:
    assert find_recipe("kvzip").scorer != find_recipe("kvzip-tuned").scorer
    memory = build_tiny(tiny_backbone(), 4, recipe="kvzip", core="50%", mode=mode)
    assert 0 < memory.report["core_tokens"] < memory.logical_length
