"""Transcripts written token by token, for a tiny model without a processor."""

from collections.abc import Sequence

import torch

from tasm.backbone.prompt.images import NO_IMAGES, ImageInputs, PackedTensor
from tasm.backbone.prompt.transcript import Layout, Role, Transcript, number_answers
from tests.tiny_models import AFTER, BEFORE, IMAGE, Tiny


class TranscriptWriter:
    """Takes the tokens of a head (demonstration -1) and of demonstrations, in their order."""

    def __init__(self, tiny: Tiny) -> None:
        self._tiny = tiny
        self._ids: list[int] = []
        self._roles: list[int] = []
        self._demonstration: list[int] = []
        self._place: list[list[int]] = []
        self._spans: list[tuple[int, int]] = []
        self._pictures: list[dict[str, torch.Tensor]] = []
        self._answers: list[tuple[int, ...]] = []

    def add(self, tokens: Sequence[int], role: Role) -> None:
        """Tokens of one role: of the head, or of the demonstration that has begun."""
        self._ids += tokens
        self._roles += [int(role)] * len(tokens)
        self._demonstration += [len(self._spans) - 1] * len(tokens)
        self._place += [[-1] * 4 for _ in tokens]

    def begin(self) -> None:
        """Begin the next demonstration."""
        self._spans.append((len(self._ids), len(self._ids)))

    def picture(self, generator: torch.Generator, width: int) -> None:
        """A picture of `width` tokens a row, between two template tokens."""
        assert self._tiny.image is not None
        self.add([BEFORE], Role.TEMPLATE)
        count = self._tiny.tokens_per_image
        self.add([IMAGE] * count, Role.IMAGE)
        number = len(self._pictures)
        self._place[-count:] = [[number, 0, t // width, t % width] for t in range(count)]
        self.add([AFTER], Role.TEMPLATE)
        self._pictures.append(self._tiny.image(generator))

    def end(self, answer: Sequence[int]) -> None:
        """End the demonstration, whose answer's tokens were these."""
        self._spans[-1] = (self._spans[-1][0], len(self._ids))
        self._answers.append(tuple(answer))

    def transcript(self) -> Transcript:
        """All of it."""
        images = NO_IMAGES
        if self._pictures:
            packed = {
                name: PackedTensor(
                    torch.cat([picture[name] for picture in self._pictures]),
                    0,
                    tuple(picture[name].shape[0] for picture in self._pictures),
                )
                for name in self._pictures[0]
            }
            images = ImageInputs(len(self._pictures), packed)
        return Transcript(
            torch.tensor(self._ids),
            torch.tensor(self._roles, dtype=torch.uint8),
            torch.tensor(self._demonstration, dtype=torch.int32),
            torch.tensor(self._place, dtype=torch.int32),
            tuple(self._spans),
            number_answers(self._answers),
            images,
            Layout(),
        )
