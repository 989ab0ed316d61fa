"""The image tensors of a processor, sliceable image by image.

Every family packs images in its own way: rows of patches, one entry an image, tiles of all images
in one row. This module knows the packing (which dimension, how many entries an image) and nothing
of models.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tasm.errors import ModelError


@dataclass(frozen=True, eq=False)
class PackedTensor:
    """One tensor: image `i` owns `entries[i]` entries of dimension `dimension`, in order."""

    values: Tensor
    dimension: int
    entries: tuple[int, ...]

    def slice(self, first: int, stop: int) -> "PackedTensor":
        """Return the part of images `first` to `stop - 1` (a view)."""
        before = sum(self.entries[:first])
        count = sum(self.entries[first:stop])
        values = self.values.narrow(self.dimension, before, count)
        return PackedTensor(values, self.dimension, self.entries[first:stop])


def shares(name: str, total: int, counts: Sequence[int]) -> tuple[int, ...]:
    """Split `total` entries among images in proportion to their tokens."""
    tokens = sum(counts)
    found = [total * count // tokens for count in counts]
    if sum(found) != total or any(total * c % tokens for c in counts):
        raise ModelError(
            f"Which part of {name!r} belongs to which image cannot be told: {total} entries for "
            f"images of {list(counts)} tokens."
        )
    return tuple(found)


@dataclass(frozen=True, eq=False)
class ImageInputs:
    """Image tensors by the names of the model's arguments, for `count` images.

    Where all tensors together would fill the memory, only `made_again` is held: called with the
    first image and the one after the last, it makes their tensors from the pictures again.
    `questions` gives for each image the texts of the message that shows it.

    ```python
    first_two = transcript.images.slice(0, 2)
    hf(input_ids=…, **batched([first_two]))
    ```
    """

    count: int
    tensors: Mapping[str, PackedTensor]
    made_again: Callable[[int, int], "ImageInputs"] | None = None
    first: int = 0
    questions: tuple[tuple[str, ...], ...] = ()

    def __len__(self) -> int:
        return self.count

    def slice(self, first: int, stop: int) -> "ImageInputs":
        """Return images `first` to `stop - 1`; the tensors are views."""
        return ImageInputs(
            max(0, stop - first),
            {name: packed.slice(first, stop) for name, packed in self.tensors.items()},
            self.made_again,
            self.first + first,
            self.questions[first:stop],
        )

    def present(self) -> "ImageInputs":
        """Return these images with their tensors, made again where they were not kept."""
        if self.count == 0 or self.tensors or self.made_again is None:
            return self
        return self.made_again(self.first, self.first + self.count)


NO_IMAGES = ImageInputs(0, {})


def concatenate(parts: Sequence[ImageInputs]) -> ImageInputs:
    """Join images in order; other dimensions are padded with zeros to the largest."""
    parts = [part.present() for part in parts if part.count]
    if not parts:
        return NO_IMAGES
    if len(parts) == 1:
        return parts[0]
    tensors = {}
    for name, packed in parts[0].tensors.items():
        pieces = [part.tensors[name] for part in parts]
        tensors[name] = PackedTensor(
            _pad_and_join([piece.values for piece in pieces], packed.dimension),
            packed.dimension,
            tuple(entry for piece in pieces for entry in piece.entries),
        )
    return ImageInputs(sum(part.count for part in parts), tensors)


def one_after_another(parts: Sequence[ImageInputs]) -> ImageInputs:
    """Images of several transcripts as one run, their tensors joined when they are asked for."""
    held = [part for part in parts if part.count]
    if len(held) < 2:
        return held[0] if held else NO_IMAGES

    def made_again(first: int, stop: int) -> ImageInputs:
        pieces, before = [], 0
        for part in held:
            begin, end = max(first - before, 0), min(stop - before, part.count)
            if begin < end:
                pieces.append(part.slice(begin, end).present())
            before += part.count
        return concatenate(pieces)

    questions = tuple(texts for part in held for texts in part.questions)
    return ImageInputs(sum(part.count for part in held), {}, made_again, 0, questions)


def _pad_and_join(tensors: Sequence[Tensor], dimension: int) -> Tensor:
    shapes = [tensor.shape for tensor in tensors]
    largest = [max(sizes) for sizes in zip(*shapes, strict=True)]
    padded = []
    for tensor in tensors:
        widths: list[int] = []
        for axis in reversed(range(tensor.ndim)):
            missing = 0 if axis == dimension else largest[axis] - tensor.shape[axis]
            widths += [0, missing]
        padded.append(torch.nn.functional.pad(tensor, widths) if any(widths) else tensor)
    return torch.cat(padded, dim=dimension)


def batched(rows: Sequence[ImageInputs]) -> dict[str, Tensor]:
    """Join the images of several rows as arguments of the model.

    Tensors with one entry an image (or patch) are concatenated; those that hold all images of a
    row in their second dimension become one row each, padded with zeros to the largest number.
    """
    rows = [row.present() for row in rows]
    names = next((list(row.tensors) for row in rows if row.count), [])
    joined = concatenate(rows)
    arguments = {}
    for name in names:
        packed = joined.tensors[name]
        if packed.dimension == 0:
            arguments[name] = packed.values
            continue
        entries = [sum(row.tensors[name].entries) if row.count else 0 for row in rows]
        pieces = torch.split(packed.values[0], entries)
        values = packed.values.new_zeros(len(rows), max(entries), *packed.values.shape[2:])
        for number, piece in enumerate(pieces):
            values[number, : piece.shape[0]] = piece
        arguments[name] = values
    return arguments
