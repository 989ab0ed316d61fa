"""Where text tokens end in their messages: pieces are what the tokenizer says they are."""

from typing import Any

import pytest

from tasm.backbone import Role
from tests.backbone.conftest import demonstrations_for
from tests.tiny_folders import IMAGE_FAMILIES, TEXT_FAMILIES


@pytest.mark.parametrize("family", IMAGE_FAMILIES + TEXT_FAMILIES)
def test_pieces_are_the_tokens(backbone_of: Any, family: str) -> None:
    backbone = backbone_of(family)
    demonstrations = demonstrations_for(family)
    transcript = backbone.transcript(demonstrations)
    compared = 0
    for number, demonstration in enumerate(demonstrations):
        start, end = transcript.spans[number]
        roles = transcript.roles[start:end]
        ids = transcript.input_ids[start:end][(roles == Role.QUESTION) | (roles == Role.ANSWER)]
        ends = transcript.text_ends[number]
        assert len(ends) == len(demonstration.turns)
        assert sum(map(len, ends)) == len(ids)
        remaining = iter(ids.tolist())
        for message, own in zip(demonstration.turns, ends, strict=True):
            text = message.text
            assert list(own) == sorted(own) and own[-1] <= len(text)
            starts = [0, *own[:-1]]
            assert text[own[-1] :].strip() == ""
            for first, last, token in zip(starts, own, remaining, strict=False):
                piece = text[first:last].replace("<image>", "").strip()
                if piece.isascii() and last > first and own.count(last) == 1 == own.count(first):
                    assert backbone.tokenizer.decode([token]).strip() == piece
                    compared += 1
    assert compared > 20


def test_a_chunk_has_its_own_ends(backbone_of: Any) -> None:
    transcript = backbone_of("qwen2_vl").transcript(demonstrations_for("qwen2_vl"))
    assert transcript.chunk(1, 3).text_ends == transcript.text_ends[1:3]
