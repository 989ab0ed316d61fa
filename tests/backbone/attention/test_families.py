"""A full memory gives what one stock forward over the whole prompt gives, in every family."""

import pytest
import torch

from tests.backbone.attention.exactness import encode, generate, stock, tiny_or_skip
from tests.tiny_models import FAMILIES

pytestmark = pytest.mark.matrix

TOLERANCE = {"qwen3_5": 5e-5}
"""Recurrent layers round otherwise step by step than over a whole prompt, stock caches too."""


@pytest.mark.parametrize("chunks", ["joint", "chunked"])
@pytest.mark.parametrize("family", FAMILIES)
def test_full_memory_equals_stock(family: str, chunks: str) -> None:
    tiny = tiny_or_skip(family)
    demonstrations = [tiny.turn(1), tiny.turn(2, 9), tiny.turn(3, 5)]
    queries = [tiny.turn(10), tiny.turn(11, 11), tiny.turn(12, 3)]
    groups = [demonstrations] if chunks == "joint" else [[turn] for turn in demonstrations]
    memory = encode(tiny, groups)

    singles = []
    for query in queries:
        tokens, logits = generate(tiny, memory.fork(), tiny.batch([query]))
        singles.append((tokens[0], logits[0]))
    padded = None
    if family != "qwen3_5":
        padded = generate(tiny, memory.fork(), tiny.batch(queries))

    tolerance = TOLERANCE.get(family, 1e-5)
    for row, query in enumerate(queries):
        tokens, logits = singles[row]
        expected = stock(tiny, [*demonstrations, query], tokens[:-1].tolist())
        torch.testing.assert_close(logits, expected, atol=tolerance, rtol=0)
        if padded is not None:
            assert padded[0][row].tolist() == tokens.tolist()
            torch.testing.assert_close(padded[1][row], expected, atol=tolerance, rtol=0)
        alone = stock(tiny, [query])[0]
        assert (alone - expected[0]).abs().max() > 0.05, "the memory must matter for the comparison"
