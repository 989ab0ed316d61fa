"""The sizes read from tiny models are those they were made with."""

import pytest

from tasm.backbone import Geometry
from tests.backbone.attention.exactness import tiny_or_skip
from tests.tiny_models import FAMILIES

pytestmark = pytest.mark.matrix

LAYERS = {
    "gemma2": ("sliding", "full") * 2,
    "gemma3": ("sliding",) * 3 + ("full",),
    "gpt_oss": ("sliding", "full", "sliding"),
    "qwen3_5": ("linear",) * 3 + ("full",),
}
THREE_ROWS = {"qwen2_vl", "qwen2_5_vl", "qwen3_vl", "glm4v"}


@pytest.mark.parametrize("family", FAMILIES)
def test_geometry(family: str) -> None:
    geometry = Geometry.of(tiny_or_skip(family).model)
    kinds = LAYERS.get(family, ("full",) * 3)
    assert geometry.layer_kinds == kinds and geometry.layers == len(kinds)
    assert (geometry.kv_heads, geometry.query_heads, geometry.head_dim) == (2, 4, 16)
    assert geometry.sliding_window == (24 if "sliding" in kinds else None)
    assert geometry.max_positions == 4096
    if family != "qwen3_5":
        assert geometry.position_rows == (3 if family in THREE_ROWS else 1)


def test_a_window_that_is_switched_off_is_none() -> None:
    tiny = tiny_or_skip("qwen2", use_sliding_window=False, sliding_window=8)
    assert Geometry.of(tiny.model).sliding_window is None
