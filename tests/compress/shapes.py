"""Transcripts of any shape for a tiny backbone: one demonstration or many, of one token or more."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from tasm.backbone.prompt.images import NO_IMAGES, ImageInputs, PackedTensor
from tasm.backbone.prompt.transcript import Layout, Role, Transcript, number_answers
from tests.compress.tiny_backbone import TinyBackbone
from tests.tiny_models import AFTER, BEFORE, IMAGE


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
    ids: list[int] = []
    roles: list[Role] = []
    demonstration: list[int] = []
    place: list[list[int]] = []

    def add(tokens: Sequence[int], role: Role, number: int) -> None:
        ids.extend(tokens)
        roles.extend([role] * len(tokens))
        demonstration.extend([number] * len(tokens))
        place.extend([[-1] * 4 for _ in tokens])

    def words(count: int) -> list[int]:
        return torch.randint(10, 180, (count,), generator=generator).tolist()

    add(words(head), Role.SYSTEM, -1)
    spans, pictures, answers = [], [], []
    for number, shape in enumerate(shapes):
        start = len(ids)
        add(words(shape.question), Role.QUESTION, number)
        if shape.image:
            assert backbone.tiny.image is not None
            add([BEFORE], Role.TEMPLATE, number)
            count = backbone.tiny.tokens_per_image
            add([IMAGE] * count, Role.IMAGE, number)
            for token in range(count):
                place[len(ids) - count + token] = [len(pictures), 0, token // 2, token % 2]
            add([AFTER], Role.TEMPLATE, number)
            pictures.append(backbone.tiny.image(generator))
        said = words(shape.answer)
        add(said, Role.ANSWER, number)
        add(words(shape.template), Role.TEMPLATE, number)
        answers.append(tuple(said))
        spans.append((start, len(ids)))
    images = NO_IMAGES
    if pictures:
        images = ImageInputs(
            len(pictures),
            {
                name: PackedTensor(
                    torch.cat([picture[name] for picture in pictures]),
                    0,
                    tuple(picture[name].shape[0] for picture in pictures),
                )
                for name in pictures[0]
            },
        )
    return Transcript(
        torch.tensor(ids),
        torch.tensor([int(role) for role in roles], dtype=torch.uint8),
        torch.tensor(demonstration, dtype=torch.int32),
        torch.tensor(place, dtype=torch.int32),
        tuple(spans),
        number_answers(answers),
        images,
        Layout(),
    )
