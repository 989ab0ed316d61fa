"""An adapter in stock towers: what the features are, who gets them, and what is left afterwards."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tasm.backbone import Backbone, wrap_backbone
from tasm.backbone.prompt.transcript import Layout
from tasm.demonstrations import make_query, read_demonstrations
from tasm.errors import InputError, ModelError
from tasm.vision_memory.attached import VisionMemory
from tasm.vision_memory.module import make_adapter
from tasm.vision_memory.towers import FAMILIES, find_tower
from tests.backbone.conftest import PICTURES, demonstrations_for, queries_for
from tests.vision_memory.conftest import settings_for, shaken_memory

BackboneOf = Callable[[str], Backbone]


def features(backbone: Backbone, rows: list[dict[str, Any]]) -> Tensor:
    """What the decoder gets of all images of rows, laid out as demonstrations."""
    transcript = backbone.transcript(read_demonstrations(rows))
    inputs = backbone.transcript_inputs([transcript])
    seen: list[Tensor] = []
    decoder = backbone.decoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    with torch.no_grad():
        backbone.core(**inputs)
    decoder.remove()
    return seen[0][0, transcript.place[:, 0] >= 0]


def row(question: str = "Which digit?", answer: str = "seven", *pictures: int) -> dict[str, Any]:
    shown = [PICTURES[number] for number in pictures or (0,)]
    return {"question": question, "answer": answer, "images": shown}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_adapter_changes_nothing(backbone_of: BackboneOf, family: str) -> None:
    backbone = backbone_of(family)
    rows = [row("One?", "a", 1), row("<image>Two<image>", "b", 2, 3)]
    before = features(backbone, rows)
    vision = VisionMemory(backbone, make_adapter(settings_for(backbone)))
    vision.attach()
    after = features(backbone, rows)
    vision.remove()
    torch.testing.assert_close(after, before, atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["mema", "plain"])
def test_each_image_has_its_own_question_and_nothing_else(
    backbone_of: BackboneOf, family: str, kind: Any
) -> None:
    backbone = backbone_of(family)
    plain = features(backbone, [row()])
    vision = shaken_memory(backbone, kind)
    vision.attach()
    try:
        alone = [
            features(backbone, [row("One?", "a", 1)]),
            features(backbone, [row("Two", "b", 2)]),
        ]
        together = features(backbone, [row("One?", "a", 1), row("Two", "b", 2)])
        torch.testing.assert_close(together, torch.cat(alone), atol=2e-5, rtol=1e-4)
        first = features(backbone, [row()])
        assert (first - plain).abs().max() > 1e-2
        # The answer is never seen, and neither is a later question about the same picture.
        assert torch.equal(features(backbone, [row(answer="eight, surely")]), first)
        turns = [
            {
                "role": "user",
                "content": [{"type": "image"}, {"type": "text", "text": "Which digit?"}],
            },
            {"role": "assistant", "content": "seven"},
            {"role": "user", "content": "And the colour?"},
            {"role": "assistant", "content": "green"},
        ]
        later = [{"messages": turns, "images": [PICTURES[0]]}]
        torch.testing.assert_close(features(backbone, later), first, atol=1e-6, rtol=0)
        assert (features(backbone, [row("Which colour?")]) - first).abs().max() > 1e-4
    finally:
        vision.remove()


@pytest.mark.parametrize("family", FAMILIES)
def test_removed_without_trace(backbone_of: BackboneOf, family: str) -> None:
    backbone = backbone_of(family)
    inputs = backbone.transcript_inputs([backbone.transcript(demonstrations_for(family))])
    with torch.no_grad():
        before = backbone.core(**inputs).logits
    names = [name for name, _ in backbone.core.named_modules()]
    hooks = _hooks(backbone.core)
    weights = {name: value.clone() for name, value in backbone.core.state_dict().items()}
    vision = shaken_memory(backbone)
    vision.attach()
    with torch.no_grad():
        inputs = backbone.transcript_inputs([backbone.transcript(demonstrations_for(family))])
        assert not torch.equal(backbone.core(**inputs).logits, before)
        with vision.paused():
            assert torch.equal(backbone.core(**inputs).logits, before)
        assert not torch.equal(backbone.core(**inputs).logits, before)
        vision.remove()
        assert torch.equal(backbone.core(**inputs).logits, before)
    assert [name for name, _ in backbone.core.named_modules()] == names
    assert _hooks(backbone.core) == hooks
    now = backbone.core.state_dict()
    assert now.keys() == weights.keys()
    assert all(torch.equal(now[name], value) for name, value in weights.items())


def _hooks(core: Any) -> dict[str, int]:
    return {
        name: len(module._forward_hooks) + len(module._forward_pre_hooks)
        for name, module in core.named_modules()
    }


def test_llava_takes_the_layer_before_the_last_after_its_feedback(backbone_of: BackboneOf) -> None:
    backbone = backbone_of("llava")
    vision = shaken_memory(backbone)
    tower, core = backbone.core.model.vision_tower, backbone.core
    pixels = torch.randn(2, 3, 28, 28)
    asked = ["What is it?", "Which one?"]
    vision.attach()
    try:
        with torch.no_grad(), vision.asking(asked):
            found = core.model.get_image_features(pixels, vision_feature_layer=-2)
            last = core.model.get_image_features(pixels, vision_feature_layer=-1)
    finally:
        vision.remove()
    with torch.no_grad():
        inner = getattr(tower, "vision_model", tower)
        x = inner.pre_layrnorm(inner.embeddings(pixels))
        means = torch.stack([vision.embedded([text]) for text in asked])
        question = vision.adapter.question(means)
        memory, states = vision.adapter.start(2), []
        for block in inner.encoder.layers:
            output = block(x, None)
            x = output[0] if isinstance(output, tuple) else output
            added, memory = vision.adapter.step(
                x, memory, question, vision.tower.grouping(x, (x, None), {})
            )
            x = x + added
            states.append(x)
        for layer, features_ in ((-2, found), (-1, last)):
            expected = core.model.multi_modal_projector(states[layer][:, 1:])
            given = getattr(features_, "pooler_output", features_)
            torch.testing.assert_close(torch.stack(list(given)), expected, atol=1e-5, rtol=1e-4)


def test_siglip_in_llava_has_no_class_token(backbone_of: BackboneOf) -> None:
    from transformers import LlavaConfig, LlavaForConditionalGeneration, SiglipVisionConfig

    clip = backbone_of("llava")
    settings = clip.core.config.to_dict()
    sizes = {
        k: v for k, v in settings["vision_config"].items() if k in ("hidden_size", "image_size")
    }
    settings["vision_config"] = SiglipVisionConfig(
        **sizes, patch_size=7, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2
    ).to_dict()
    settings |= {"vision_feature_select_strategy": "full", "vision_feature_layer": -2}
    torch.manual_seed(0)
    backbone = wrap_backbone(
        LlavaForConditionalGeneration(LlavaConfig(**settings)).eval(), clip.processor
    )
    vision = shaken_memory(backbone)
    assert not vision.tower.has_class_token
    pixels = torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        before = torch.stack(list(_pooled(backbone.core.model.get_image_features(pixels))))
        vision.attach()
        with vision.asking(["a", "b"]):
            after = torch.stack(list(_pooled(backbone.core.model.get_image_features(pixels))))
        with vision.asking(["b"]):
            one = torch.stack(list(_pooled(backbone.core.model.get_image_features(pixels[1:]))))
        vision.remove()
    assert (after - before).abs().max() > 1e-2
    torch.testing.assert_close(after[1:], one, atol=1e-5, rtol=1e-4)


def _pooled(output: Any) -> Any:
    return getattr(output, "pooler_output", output)


def test_padding_of_a_tile_is_not_seen(backbone_of: BackboneOf) -> None:
    backbone = backbone_of("idefics3")
    tower = backbone.core.model.vision_model
    small = torch.randn(1, 3, 14, 28)
    padded = torch.cat([torch.zeros(1, 3, 28, 28), torch.randn(1, 3, 28, 28)])
    padded[0, :, :14] = small[0]
    mask = torch.ones(2, 4, 4, dtype=torch.bool)
    mask[0, 2:] = False
    vision = shaken_memory(backbone)
    vision.attach()
    try:
        with torch.no_grad(), vision.asking(["Which?", "Which?"]):
            batch = tower(pixel_values=padded, patch_attention_mask=mask).last_hidden_state
        with torch.no_grad(), vision.asking(["Which?"]):
            alone = tower(
                pixel_values=small, patch_attention_mask=torch.ones(1, 2, 4, dtype=torch.bool)
            ).last_hidden_state
    finally:
        vision.remove()
    torch.testing.assert_close(batch[0, :8], alone[0], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_images_of_unknown_questions_are_refused(backbone_of: BackboneOf, family: str) -> None:
    backbone = backbone_of(family)
    rows = read_demonstrations([row("Never noted?", "one", 0), row("Nor this one?", "two", 1)])
    with_unknown = backbone.transcript_inputs([backbone.transcript(rows)])
    for question_free in (False, True):
        vision = shaken_memory(backbone, question_free=question_free)
        vision.attach()
        try:
            with torch.no_grad():
                if question_free:
                    backbone.core(**with_unknown)
                    continue
                with pytest.raises(ModelError, match="does not know the question"):
                    backbone.core(**with_unknown)
                pictures = {n: v for n, v in with_unknown.items() if "image" in n or "pixel" in n}
                with pytest.raises(ModelError, match="does not know the question"):
                    backbone.core.model.get_image_features(**pictures)
                with vision.asking(["one too few"]), pytest.raises(ModelError, match="images"):
                    backbone.core.model.get_image_features(**pictures)
        finally:
            vision.remove()


def test_a_video_is_refused(backbone_of: BackboneOf) -> None:
    """It goes through the same blocks, and no question belongs to it."""
    backbone = backbone_of("qwen2_vl")
    rows = read_demonstrations([row("Which?", "one", 0)])
    inputs = backbone.transcript_inputs([backbone.transcript(rows)])
    frames = {
        "pixel_values_videos": inputs["pixel_values"],
        "video_grid_thw": inputs["image_grid_thw"],
    }
    vision = shaken_memory(backbone)
    vision.attach()
    try:
        with torch.no_grad(), pytest.raises(ModelError, match="does not know the question"):
            backbone.core.model.get_video_features(**frames)
    finally:
        vision.remove()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_padded_batch_with_a_text_row_and_beams(backbone_of: BackboneOf, family: str) -> None:
    backbone = backbone_of(family)
    vision = shaken_memory(backbone)
    vision.attach()
    layout = Layout(multi_image=True)
    try:
        queries = queries_for(family)
        with torch.no_grad():
            batch = backbone.core(**backbone.bare_inputs(queries, layout=layout)).logits[:, -1]
            for query, together in zip(queries, batch, strict=True):
                alone = backbone.core(**backbone.bare_inputs([query], layout=layout)).logits[0, -1]
                torch.testing.assert_close(together, alone, atol=3e-4, rtol=1e-3)
            inputs = backbone.bare_inputs(queries[:1], layout=layout)
            tokens = backbone.core.generate(**inputs, num_beams=2, max_new_tokens=2)
        assert tokens.shape[0] == 1
    finally:
        vision.remove()


def test_two_threads_do_not_mix_their_questions(backbone_of: BackboneOf) -> None:
    backbone = backbone_of("qwen2_vl")
    vision = shaken_memory(backbone)
    vision.attach()
    rows = {"One?": 1, "Two, or three?": 2}
    try:
        expected = {text: features(backbone, [row(text, "a", n)]) for text, n in rows.items()}
        found: dict[str, list[Tensor]] = {text: [] for text in rows}

        def work(text: str) -> None:
            transcript = backbone.transcript(read_demonstrations([row(text, "a", rows[text])]))
            inputs = backbone.transcript_inputs([transcript])
            images = {n: inputs[n] for n in ("pixel_values", "image_grid_thw")}
            for _ in range(10):
                with torch.no_grad(), vision.asking([text]):
                    found[text].append(
                        torch.cat(_pooled(backbone.core.model.get_image_features(**images)))
                    )

        threads = [threading.Thread(target=work, args=(text,)) for text in rows]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for text, outputs in found.items():
            assert len(outputs) == 10
            for one in outputs:
                torch.testing.assert_close(one, expected[text], atol=1e-6, rtol=0)
    finally:
        vision.remove()


@pytest.mark.parametrize("family", FAMILIES)
def test_ten_steps_move_the_adapter_and_nothing_else(backbone_of: BackboneOf, family: str) -> None:
    backbone = backbone_of(family)
    for parameter in backbone.core.parameters():
        parameter.requires_grad_(False)
    torch.manual_seed(0)
    adapter = make_adapter(settings_for(backbone))
    before = {name: value.detach().clone() for name, value in adapter.named_parameters()}
    frozen = {name: value.clone() for name, value in backbone.core.state_dict().items()}
    vision = VisionMemory(backbone, adapter)
    vision.attach()
    inputs = backbone.transcript_inputs([backbone.transcript(demonstrations_for(family))])
    optimiser = torch.optim.AdamW(adapter.parameters(), lr=3e-3, weight_decay=0.0)
    losses = []
    try:
        for _ in range(10):
            with vision.listening() as heard:
                logits = backbone.core(**inputs).logits
            loss = torch.nn.functional.cross_entropy(
                logits[0, :-1].float(), inputs["input_ids"][0, 1:]
            )
            loss = loss + 0.1 * (
                1
                - torch.cosine_similarity(
                    vision.tower.project(heard[0]).mean(0), torch.ones(vision.tower.text_width), 0
                )
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
    finally:
        vision.remove()
    assert losses[-1] < losses[0]
    for name, value in adapter.named_parameters():
        assert not torch.equal(value, before[name]), f"{name} has not moved"
    for name, value in backbone.core.state_dict().items():
        assert torch.equal(value, frozen[name]), f"{name} has moved"


def test_what_does_not_fit_is_refused(backbone_of: BackboneOf) -> None:
    llava, qwen = backbone_of("llava"), backbone_of("qwen2_vl")
    with pytest.raises(ModelError, match=r"class token True .the model's: False"):
        VisionMemory(qwen, make_adapter(settings_for(llava)))
    with pytest.raises(ModelError, match="'qwen2_5_vl'"):
        find_tower(backbone_of("qwen2_5_vl").core)
    one, two = shaken_memory(qwen), shaken_memory(qwen)
    one.attach()
    one.attach()
    try:
        with pytest.raises(InputError, match="has a vision memory already"):
            two.attach()
    finally:
        one.remove()
    assert not one.is_on


def test_a_query_made_long_ago_is_refused_not_guessed(backbone_of: BackboneOf) -> None:
    backbone = backbone_of("qwen2_vl")
    query = make_query("Which?", [PICTURES[0]])
    before = backbone.bare_inputs([query], layout=Layout())
    vision = shaken_memory(backbone)
    vision.attach()
    try:
        with torch.no_grad(), pytest.raises(ModelError, match=r"model\.inputs"):
            backbone.core(**before)
    finally:
        vision.remove()
