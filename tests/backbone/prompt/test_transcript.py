"""Roles, spans, places and chunks of the transcript."""

from itertools import pairwise
from typing import Any

import pytest
import torch

from tasm.backbone import Layout, Role
from tasm.backbone.prompt.images import batched
from tasm.demonstrations import make_query, read_demonstrations
from tasm.errors import DemonstrationError, FormatError
from tests.backbone.conftest import PICTURES, demonstrations_for, queries_for
from tests.tiny_folders import IMAGE_FAMILIES, TEXT_FAMILIES


def texts_of(backbone: Any, transcript: Any, demonstration: int, role: Role) -> str:
    chosen = (transcript.demonstration == demonstration) & (transcript.roles == role)
    return str(backbone.tokenizer.decode(transcript.input_ids[chosen]))


@pytest.mark.parametrize("family", IMAGE_FAMILIES + TEXT_FAMILIES)
def test_roles_and_spans_of_every_family(backbone_of: Any, family: str) -> None:
    backbone = backbone_of(family)
    demonstrations = demonstrations_for(family)
    transcript = backbone.transcript(demonstrations)
    tokens = len(transcript)
    assert transcript.input_ids.shape == transcript.roles.shape == (tokens,)
    assert transcript.demonstration.shape == (tokens,)
    assert transcript.place.shape == (tokens, 4)
    head = transcript.spans[0][0]
    assert (transcript.demonstration[:head] == -1).all()
    assert (transcript.roles[:head] == Role.SYSTEM).all()
    assert (transcript.roles[head:] != Role.SYSTEM).all()
    assert transcript.spans[-1][1] == tokens
    for number, (start, end) in enumerate(transcript.spans):
        assert (transcript.demonstration[start:end] == number).all()
    assert all(before[1] == after[0] for before, after in pairwise(transcript.spans))

    answers = [texts_of(backbone, transcript, n, Role.ANSWER).strip() for n in range(4)]
    assert answers[0] == "seven"
    assert answers[1] == "A red bird on a branch."
    assert answers[2].startswith("yes") and answers[2].endswith("東京")
    assert answers[3] == "blue"
    questions = [texts_of(backbone, transcript, n, Role.QUESTION).strip() for n in range(4)]
    assert questions[0] == "Which digit is shown?"
    assert questions[1].endswith("in this picture?")
    assert questions[2].startswith("Is it the same?") and questions[2].endswith("Why?")

    is_image = transcript.roles == Role.IMAGE
    assert torch.equal(is_image, transcript.place[:, 0] >= 0)
    if family in IMAGE_FAMILIES:
        assert transcript.place[:, 0].max() == 3
        owners = [
            transcript.demonstration[transcript.place[:, 0] == image].unique().tolist()
            for image in range(4)
        ]
        assert owners == [[0], [1], [1], [3]]
        places = transcript.place[is_image].tolist()
        assert len({tuple(place) for place in places}) == len(places)
    else:
        assert not is_image.any()


def test_a_system_prompt_is_the_head(backbone_of: Any) -> None:
    for family in ("qwen2_vl", "gemma3", "mistral3", "llava", "glm4v"):
        backbone = backbone_of(family)
        transcript = backbone.transcript(demonstrations_for(family), system="Answer in one word.")
        head = backbone.tokenizer.decode(transcript.input_ids[transcript.demonstration == -1])
        assert "Answer in one word." in head
        assert "Which digit" not in head


def test_places_on_qwen2_vl_follow_the_merged_grid(backbone_of: Any) -> None:
    transcript = backbone_of("qwen2_vl").transcript(demonstrations_for("qwen2_vl"))
    grids = batched([transcript.images])["image_grid_thw"]
    for image, (t, h, w) in enumerate(grids.tolist()):
        own = transcript.place[transcript.place[:, 0] == image][:, 1:]
        expected = [[a, b, c] for a in range(t) for b in range(h // 2) for c in range(w // 2)]
        assert own.tolist() == expected


def test_tiles_of_idefics3_lie_on_one_fine_grid(backbone_of: Any) -> None:
    transcript = backbone_of("idefics3").transcript(demonstrations_for("idefics3"))
    own = transcript.place[transcript.place[:, 0] == 0][:, 1:]
    fine, whole = own[own[:, 0] == 0], own[own[:, 0] == 1]
    assert sorted(fine[:, 1:].tolist()) == [[h, w] for h in range(4) for w in range(4)]
    assert whole[:, 1:].tolist() == [[h, w] for h in range(2) for w in range(2)]


@pytest.mark.parametrize("family", IMAGE_FAMILIES)
def test_chunks_carry_their_own_images_and_make_up_the_whole(backbone_of: Any, family: str) -> None:
    transcript = backbone_of(family).transcript(demonstrations_for(family))
    chunks = [transcript.chunk(first, first + 1) for first in range(4)]
    assert torch.equal(torch.cat([c.input_ids for c in chunks]), transcript.input_ids)
    assert torch.equal(torch.cat([c.place for c in chunks]), transcript.place)
    assert [len(c.images) for c in chunks] == [1, 2, 0, 1]
    assert batched([chunks[2].images]) == {}
    assert chunks[0].spans[0][0] > 0 or transcript.spans[0][0] == 0
    assert chunks[1].spans == ((0, len(chunks[1])),)
    for name, packed in transcript.images.tensors.items():
        parts = [c.images.tensors[name].values for c in chunks if len(c.images)]
        assert torch.equal(torch.cat(parts, packed.dimension), packed.values)
    again = transcript.chunk(1, 4).chunk(1, 3)
    assert torch.equal(again.input_ids, transcript.chunk(2, 4).input_ids)
    assert len(again.images) == 1


def test_equal_answers_have_equal_numbers(backbone_of: Any) -> None:
    answers = ["wren", "robin", "wren", "owl", "robin"]
    rows = [{"question": f"Bird {n}?", "answer": answer} for n, answer in enumerate(answers)]
    transcript = backbone_of("llama").transcript(read_demonstrations(rows))
    assert transcript.answer_numbers.tolist() == [0, 1, 0, 2, 1]
    later = transcript.chunk(2, 5).chunk(1, 3)
    owners = later.demonstration.unique().tolist()
    assert later.answer_numbers[owners].tolist() == [2, 1]


@pytest.mark.parametrize("family", ["qwen2_vl", "llava_onevision", "idefics3"])
def test_image_tensors_too_large_to_keep_are_made_again_chunk_by_chunk(
    backbone_of: Any, family: str
) -> None:
    backbone, demonstrations = backbone_of(family), demonstrations_for(family)
    kept = backbone.transcript(demonstrations)
    dropped = backbone.transcript(demonstrations, kept_bytes=1)
    assert torch.equal(dropped.input_ids, kept.input_ids)
    assert torch.equal(dropped.place, kept.place)
    assert not dropped.images.tensors
    for first, stop in ((0, 1), (1, 2), (2, 3), (1, 4)):
        expected = batched([kept.chunk(first, stop).images])
        made = batched([dropped.chunk(first, stop).images])
        assert made.keys() == expected.keys()
        for name, value in made.items():
            # Padding to the largest image of the whole may be narrower in a part.
            wide = expected[name]
            assert torch.equal(value, wide[tuple(slice(0, size) for size in value.shape)])


def test_chunks_outside_the_demonstrations_are_refused(backbone_of: Any) -> None:
    transcript = backbone_of("llama").transcript(demonstrations_for("llama"))
    assert len(transcript.chunk(3, 99).spans) == 1
    for first, stop in ((4, 5), (2, 2), (-1, 2)):
        with pytest.raises(IndexError, match="of 4"):
            transcript.chunk(first, stop)


def test_what_cannot_be_laid_out_is_refused(backbone_of: Any) -> None:
    text, image = backbone_of("llama"), backbone_of("qwen2_vl")
    with pytest.raises(DemonstrationError, match="no demonstrations"):
        text.transcript([])
    with pytest.raises(DemonstrationError, match="takes no images"):
        text.transcript(demonstrations_for("qwen2_vl"))
    with pytest.raises(DemonstrationError, match="max_pixels"):
        image.transcript(demonstrations_for("qwen2_vl"), max_pixels=0)
    with pytest.raises(DemonstrationError, match="no queries"):
        image.query_inputs([], layout=Layout())


def test_batches_are_padded_on_the_left(backbone_of: Any) -> None:
    backbone = backbone_of("idefics3")
    queries = queries_for("idefics3")
    inputs = backbone.query_inputs(queries, layout=Layout(multi_image=True))
    lengths = inputs["attention_mask"].sum(-1)
    for row, query in enumerate(queries):
        alone = backbone.query_inputs([query], layout=Layout(multi_image=True))["input_ids"][0]
        assert lengths[row] == len(alone)
        assert torch.equal(inputs["input_ids"][row, -len(alone) :], alone)
        assert (inputs["attention_mask"][row, : -len(alone)] == 0).all()
    assert inputs["pixel_values"].shape[0] == len(queries)
    assert not inputs["pixel_values"][1].any()


def test_query_positions_count_an_image_by_its_longest_side(backbone_of: Any) -> None:
    backbone = backbone_of("qwen2_vl")
    query = make_query("Which?", [PICTURES[1]])
    inputs = backbone.query_inputs([query], layout=Layout())
    grid = (inputs["image_grid_thw"][0] // torch.tensor([1, 2, 2])).tolist()
    tokens = inputs["input_ids"].shape[1]
    expected = tokens - grid[0] * grid[1] * grid[2] + max(grid)
    assert backbone.query_positions(inputs) == expected
    plain = backbone_of("llama")
    alone = plain.query_inputs([make_query("Which?")], layout=Layout())
    assert plain.query_positions(alone) == alone["input_ids"].shape[1]


def test_layout_survives_json() -> None:
    layout = Layout(system="Be brief.", max_pixels=50_000, multi_image=True)
    assert Layout.from_json(layout.to_json()) == layout
    with pytest.raises(FormatError, match="newer"):
        Layout.from_json({"system": None, "tiles": 4})


def test_a_query_may_not_bring_another_system_message(backbone_of: Any) -> None:
    backbone = backbone_of("qwen2")
    turns = [("system", "Be long."), ("user", "Which?"), ("assistant", "x")]
    messages = [{"role": role, "content": content} for role, content in turns]
    row = read_demonstrations([{"messages": messages}])[0]
    transcript = backbone.transcript([row])
    assert transcript.layout.system == "Be long."
    query = type(queries_for("qwen2")[0])("q", row.messages[:2])
    assert backbone.query_inputs([query], layout=transcript.layout)["input_ids"].numel()
    with pytest.raises(DemonstrationError, match="system message"):
        backbone.query_inputs([query], layout=Layout())
