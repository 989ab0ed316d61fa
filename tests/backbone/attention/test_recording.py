"""What a recorder is given, against the attention that the eager model returns."""

import pytest
import torch

from tasm.backbone import AttentionCall, MemoryCache, attach, detach
from tests.backbone.attention.exactness import tiny_or_skip

pytestmark = pytest.mark.matrix


@pytest.mark.parametrize("block", [None, 64])
@pytest.mark.parametrize("family", ["qwen2_vl", "llava", "gemma3", "gemma2", "gpt_oss"])
def test_column_sums_equal_eager_attention(
    family: str, block: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if block is not None:
        monkeypatch.setattr("tasm.backbone.attention.attention_call._MOST", block)
    tiny = tiny_or_skip(family)
    turns = [tiny.turn(1), tiny.turn(2), tiny.turn(3)]
    detach(tiny.model, "eager")
    with torch.no_grad():
        whole = tiny.model(**tiny.inputs(turns), output_attentions=True).attentions
    attach(tiny.model)
    cache = MemoryCache.empty(tiny.model.config)
    rows = torch.tensor([0, 2, 5])
    sums: list[tuple[int, torch.Tensor]] = []

    def record(call: AttentionCall) -> None:
        sums.append((call.layer, call.column_sums(rows)))

    cache.recorder = record
    start = 0
    for turn in turns:
        sums.clear()
        with torch.no_grad():
            tiny.model(**tiny.inputs([turn]), past_key_values=cache, logits_to_keep=1)
        cache.commit()
        assert [layer for layer, _ in sums] == list(range(len(whole)))
        for layer, received in sums:
            seen = received.shape[2]  # a sliding layer has forgotten what is out of its window
            attention = whole[layer][0][:, start + rows]
            last = start + len(turn.ids)
            expected = attention.unflatten(0, (2, -1)).mean(1).sum(1)[:, last - seen : last]
            torch.testing.assert_close(received[0], expected, atol=3e-6, rtol=0)
        start += len(turn.ids)


def test_forks_are_not_recorded() -> None:
    tiny = tiny_or_skip("llama")
    attach(tiny.model)
    cache = MemoryCache.empty(tiny.model.config)
    cache.recorder = lambda call: None
    assert cache.fork().recorder is None
