"""What the demonstrations look like as tokens: ids, roles, places on the images, one span a
demonstration.

Plain data. It knows neither a model nor a chat template (those are in `laying_out.py`), and it
holds no positions: the cache's hook records them when the model runs.
"""

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from tasm.backbone.prompt.images import ImageInputs, one_after_another
from tasm.backbone.prompt.roles import Role
from tasm.errors import FormatError

__all__ = ["Layout", "Role", "TextEnds", "Transcript", "empty_places", "number_answers"]


@dataclass(frozen=True)
class Layout:
    """How a conversation is laid out, so that a query's tokens look as they would after the
    demonstrations.

    `system` is the system prompt (None: the template's own), `max_pixels` the largest image area in
    pixels (None: the processor's own), `multi_image` whether images are laid out as in a
    conversation of several images (LLaVA-OneVision tiles a lone image and no other).

    ```python
    >>> Layout.from_json(Layout(system="Be brief.").to_json()).system
    'Be brief.'
    ```
    """

    system: str | None = None
    max_pixels: int | None = None
    multi_image: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the layout as a dictionary of JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Layout":
        """Read what `to_json` wrote; raises `FormatError` on unknown fields."""
        try:
            return cls(**document)
        except TypeError as error:
            raise FormatError(
                f"The layout of a conversation has the fields {sorted(document)}; expected "
                f"'system', 'max_pixels' and 'multi_image'. Was it written by a newer tasm?"
            ) from error


TextEnds = tuple[tuple[tuple[int, ...], ...], ...]
"""Characters, by demonstration, message and text token."""


@dataclass(frozen=True, eq=False)
class Transcript:
    """The demonstrations as the model reads them, on the CPU.

    | field | shape | |
    |---|---|---|
    | `input_ids` | (tokens,) int64 | token ids, images expanded |
    | `roles` | (tokens,) uint8 | `Role` of every token |
    | `demonstration` | (tokens,) int32 | index of its demonstration, -1 in the head |
    | `place` | (tokens, 4) int32 | (image, t, h, w) on the merged grid, -1 for text |
    | `spans` | | (start, end) of every demonstration; the head lies before the first |
    | `answer_numbers` | (demonstrations,) int64 | which of the distinct answers each one gives |
    | `images` | | the processor's image tensors |
    | `text_ends` | | for every demonstration, for each of its messages, where each of its text
      tokens ends in the message's text (`<image>` marks counted); empty where not recorded |

    Images count from 0 over the whole transcript. A chunk keeps `answer_numbers` whole, because its
    `demonstration` counts over the whole transcript, too.

    ```python
    transcript = backbone.transcript(demonstrations)
    for first in range(0, len(transcript.spans), 8):
        backbone.encode(transcript.chunk(first, first + 8), cache)
        cache.commit()
    ```
    """

    input_ids: Tensor
    roles: Tensor
    demonstration: Tensor
    place: Tensor
    spans: tuple[tuple[int, int], ...]
    answer_numbers: Tensor
    images: ImageInputs
    layout: Layout
    first_image: int = 0
    text_ends: TextEnds = ()

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])

    def chunk(self, first: int, stop: int) -> "Transcript":
        """Return demonstrations `first` to `stop - 1`; the first chunk carries the system tokens.

        Token indices of the chunk count from its own start; `demonstration` and `place` keep the
        numbers of the whole transcript.
        """
        stop = min(stop, len(self.spans))
        if not 0 <= first < stop:
            raise IndexError(f"demonstrations {first} to {stop} of {len(self.spans)}")
        start = 0 if first == 0 else self.spans[first][0]
        end = self.spans[stop - 1][1]
        place = self.place[start:end]
        images_before = _images_until(self.place[:start], self.first_image)
        images_after = max(_images_until(place, self.first_image), images_before)
        return Transcript(
            input_ids=self.input_ids[start:end],
            roles=self.roles[start:end],
            demonstration=self.demonstration[start:end],
            place=place,
            spans=tuple((a - start, b - start) for a, b in self.spans[first:stop]),
            answer_numbers=self.answer_numbers,
            images=self.images.slice(
                images_before - self.first_image, images_after - self.first_image
            ),
            layout=self.layout,
            first_image=images_before,
            text_ends=self.text_ends[first:stop],
        )


def joined(
    parts: Sequence[Transcript], demonstration: int, image: int, answer_numbers: Tensor
) -> Transcript:
    """Return transcripts as one, whose first demonstration and first image have these numbers.

    `answer_numbers` are those of all demonstrations up to the last.
    """
    demonstrations, places, spans = [], [], []
    start, first_image = 0, image
    for part in parts:
        by = demonstration - int(part.demonstration[part.spans[0][0]])
        demonstrations.append(torch.where(part.demonstration < 0, -1, part.demonstration + by))
        place = part.place.clone()
        place[place[:, 0] >= 0, 0] += image - part.first_image
        places.append(place)
        spans += [(begin + start, end + start) for begin, end in part.spans]
        start += len(part)
        demonstration += len(part.spans)
        image += len(part.images)
    return Transcript(
        input_ids=torch.cat([part.input_ids for part in parts]),
        roles=torch.cat([part.roles for part in parts]),
        demonstration=torch.cat(demonstrations).to(torch.int32),
        place=torch.cat(places),
        spans=tuple(spans),
        answer_numbers=answer_numbers,
        images=one_after_another([part.images for part in parts]),
        layout=parts[-1].layout,
        first_image=first_image,
        text_ends=tuple(ends for part in parts for ends in part.text_ends),
    )


def _images_until(place: Tensor, first_image: int) -> int:
    """The number of the image after the last one that `place` mentions."""
    if place.shape[0] == 0:
        return first_image
    return max(first_image, int(place[:, 0].max()) + 1)


def empty_places(tokens: int) -> Tensor:
    """Return the (tokens, 4) table of a text without images: -1 everywhere."""
    return torch.full((tokens, 4), -1, dtype=torch.int32)


def number_answers(answers: Sequence[Hashable]) -> Tensor:
    """Return (demonstrations,) int64 numbers of distinct answers, in order of first appearance.

    ```python
    >>> number_answers(["wren", "robin", "wren"])
    tensor([0, 1, 0])
    ```
    """
    numbers: dict[Hashable, int] = {}
    for answer in answers:
        numbers.setdefault(answer, len(numbers))
    return torch.tensor([numbers[answer] for answer in answers], dtype=torch.int64)
