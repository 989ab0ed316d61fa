"""Every family, saved in its own format: the memory path against the stock model and processor.

The oracle is the ordinary way: the processor's own chat template and call over the whole
conversation, and one forward pass of the model over it, by stock attention.
"""

from typing import Any

import pytest
import torch

from tasm.backbone import Backbone, Layout, MemoryCache, set_attention
from tasm.demonstrations import Demonstration, Query
from tests.backbone.conftest import demonstrations_for, queries_for
from tests.tiny_folders import IMAGE_FAMILIES, TEXT_FAMILIES

pytestmark = pytest.mark.matrix

TOLERANCE = 1e-5
SYSTEM = "Be brief."


def stock_inputs(
    backbone: Backbone, demonstrations: list[Demonstration], query: Query, system: str | None
) -> dict[str, Any]:
    """The whole conversation by the family's own processor, with nothing of tasm in between."""
    chat: list[dict[str, Any]] = []
    if system is not None:
        chat.append({"role": "system", "content": [{"type": "text", "text": system}]})
    images = []
    for conversation in [*demonstrations, query]:
        chat += conversation.chat()
        images += [picture.load() for picture in conversation.pictures]
    # Text decoders take strings, and GLM's template prints what it is given.
    if backbone.family.kind == "text" or backbone.family.name == "glm4v":
        for message in chat:
            if all(part["type"] == "text" for part in message["content"]):
                message["content"] = "".join(part["text"] for part in message["content"])
    processor = backbone.processor
    text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    bos = backbone.tokenizer.bos_token
    has_bos = bos is not None and text.startswith(bos)
    if backbone.family.kind == "text":
        return dict(processor([text], add_special_tokens=False, return_tensors="pt"))
    inputs = processor(
        text=[text],
        images=[images] if images else None,
        return_tensors="pt",
        add_special_tokens=not has_bos,
    )
    return {name: torch.as_tensor(value) for name, value in inputs.items()}


@torch.inference_mode()
def stock_logits(backbone: Backbone, inputs: dict[str, Any]) -> torch.Tensor:
    """Next-token logits of one ordinary forward pass by stock (eager) attention."""
    set_attention(backbone.hf, "eager")
    try:
        return backbone.hf(**inputs).logits[0, -1]
    finally:
        set_attention(backbone.hf, "tasm")


def first_logits(backbone: Backbone, queries: list[Query], cache: Any, layout: Layout) -> Any:
    output = backbone.hf.generate(
        **backbone.query_inputs(queries, layout=layout),
        past_key_values=cache.fork(),
        max_new_tokens=1,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
    )
    return output.logits[0]


def memory_of(backbone: Backbone, transcript: Any, per_chunk: int) -> MemoryCache:
    cache = MemoryCache.empty(backbone.hf.config)
    for first in range(0, len(transcript.spans), per_chunk):
        backbone.encode(transcript.chunk(first, first + per_chunk), cache)
        cache.commit()
    return cache


@pytest.mark.parametrize("family", IMAGE_FAMILIES + TEXT_FAMILIES)
def test_memory_equals_the_stock_model_on_the_stock_prompt(backbone_of: Any, family: str) -> None:
    backbone = backbone_of(family)
    demonstrations, queries = demonstrations_for(family), queries_for(family)
    system = None if family == "gemma2" else SYSTEM
    transcript = backbone.transcript(demonstrations, system=system)
    stock = [stock_inputs(backbone, demonstrations, query, system) for query in queries]
    expected = torch.stack([stock_logits(backbone, inputs) for inputs in stock])
    for query, inputs in zip(queries, stock, strict=True):
        own = backbone.query_inputs([query], layout=transcript.layout)["input_ids"][0]
        assert torch.equal(torch.cat([transcript.input_ids, own]), inputs["input_ids"][0])
        whole = backbone.full_inputs(demonstrations, query, layout=transcript.layout)
        for name in whole.keys() & inputs.keys() - {"mm_token_type_ids"}:
            assert torch.equal(whole[name], inputs[name]), name
    for per_chunk in (len(demonstrations), 1):
        cache = memory_of(backbone, transcript, per_chunk)
        single = torch.cat([first_logits(backbone, [q], cache, transcript.layout) for q in queries])
        batch = first_logits(backbone, queries, cache, transcript.layout)
        assert (single - expected).abs().max() < TOLERANCE
        assert (batch - expected).abs().max() < TOLERANCE
    without = first_logits(
        backbone, queries, MemoryCache.empty(backbone.hf.config), transcript.layout
    )
    assert (without - expected).abs().max() > 0.05


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_vl", "internvl"])
def test_a_lone_image_without_demonstrations_has_the_stock_layout(
    backbone_of: Any, family: str
) -> None:
    backbone = backbone_of(family)
    query = queries_for(family)[0]
    whole = backbone.full_inputs([], query, layout=Layout())
    stock = stock_inputs(backbone, [], query, None)
    assert torch.equal(whole["input_ids"], stock["input_ids"])
    assert torch.equal(whole["pixel_values"], stock["pixel_values"])
    got, expected = stock_logits(backbone, whole), stock_logits(backbone, stock)
    assert torch.equal(got, expected)


def test_onevision_lays_a_query_image_out_as_among_the_demonstrations(backbone_of: Any) -> None:
    backbone = backbone_of("llava_onevision")
    demonstrations = demonstrations_for("llava_onevision")[:1]
    query = queries_for("llava_onevision")[0]
    layout = backbone.transcript(demonstrations).layout
    among = backbone.query_inputs([query], layout=layout)["input_ids"]
    alone = backbone.query_inputs([query], layout=Layout())["input_ids"]
    token = backbone.hf.config.image_token_id
    assert (among == token).sum() == 17  # one square of 16 and a newline
    assert (alone == token).sum() > 17


@pytest.mark.parametrize(("family", "limit"), [("qwen2_vl", 60 * 60), ("mistral3", 30 * 30)])
def test_max_pixels_limits_every_image(backbone_of: Any, family: str, limit: int) -> None:
    backbone = backbone_of(family)
    demonstrations = demonstrations_for(family)
    free = backbone.transcript(demonstrations)
    limited = backbone.transcript(demonstrations, max_pixels=limit)
    assert len(limited) < len(free)
    query = queries_for(family)[0]
    whole = backbone.full_inputs(demonstrations, query, layout=limited.layout)
    own = backbone.query_inputs([query], layout=limited.layout)
    joined = torch.cat([limited.input_ids, own["input_ids"][0]])
    assert torch.equal(joined, whole["input_ids"][0])
    if family == "qwen2_vl":
        assert int(whole["image_grid_thw"].prod(-1).max()) * 14 * 14 <= limit
    else:
        # Sides are rounded up to merged patches of 14 pixels.
        assert int(whole["image_sizes"].prod(-1).max()) <= (30 + 14) ** 2
