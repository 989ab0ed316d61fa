"""Transcripts of any shape for a tiny backbone: one demonstration or many, of one token or more."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from tasm.backbone.prompt.transcript import Role, Transcript
from tests.compress.tiny_backbone import TinyBackbone
from tests.compress.transcripts import TranscriptWriter


class Shape(NamedTuple):
    """Tokens of a demonstration's parts, in order; one image or none after the question."""

    question: int = 2
    image: bool = False
    answer: int = 1
    template: int = 0


def shaped_transcript(
    backbone: TinyBackbone, shapes: Sequence[Shape], head: int = 4, seed: int = 0
) -> Transcript:
    """Lay demonstrations of these shapes out after `head` system tokens."""
    generator = torch.Generator().manual_seed(seed)
    writer = TranscriptWriter(backbone.tiny)

    def words(count: int) -> list[int]:
        return torch.randint(10, 180, (count,), generator=generator).tolist()

    writer.add(words(head), Role.SYSTEM)
    for shape in shapes:
        writer.begin()
        writer.add(words(shape.question), Role.QUESTION)
        if shape.image:
            writer.picture(generator, 2)
        said = words(shape.answer)
        writer.add(said, Role.ANSWER)
        writer.add(words(shape.template), Role.TEMPLATE)
        writer.end(said)
    return writer.transcript()
