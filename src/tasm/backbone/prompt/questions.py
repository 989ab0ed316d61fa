"""Which question each picture of a prompt stands in, told by the prompt's tokens.

What a model is given are ids, and ids alone do not say which of them are a question. So whoever
lays a prompt out notes it here, and whoever needs the question when the prompt runs looks it up.
Knows ids; no model and no tokenizer.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tasm.backbone.prompt.images import ImageInputs

_REMEMBERED = 1 << 14
"""Prompts that are remembered; the oldest are forgotten first."""


@dataclass(frozen=True)
class AskedImage:
    """One picture of a prompt: the texts of the message that shows it, and into how many parts the
    processor cut the picture."""

    texts: tuple[str, ...]
    parts: int = 1


def asked_images(questions: Sequence[tuple[str, ...]], images: ImageInputs) -> list[AskedImage]:
    """Each picture's question, and how many parts of it the vision tower sees."""
    parts: tuple[int, ...] = (1,) * len(images)
    if "pixel_values" in images.tensors and "image_grid_thw" not in images.tensors:
        parts = images.tensors["pixel_values"].entries
    return [AskedImage(*pair) for pair in zip(questions, parts, strict=True)]


class AskedImages:
    """What was noted of prompts, by their ids without padding on the left.

    ```python
    asked.note(ids, [AskedImage(("Which bird is this?",))])
    asked.of(batch["input_ids"])      # of all rows, in order; None where one is unknown
    ```
    """

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id
        self._noted: OrderedDict[bytes, tuple[AskedImage, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: object) -> "AskedImages":
        return AskedImages(self._pad_id)

    def note(self, ids: Tensor, images: Sequence[AskedImage]) -> None:
        """Remember the pictures of a prompt, (tokens,)."""
        with self._lock:
            self._noted[self._key(ids)] = tuple(images)
            self._noted.move_to_end(self._key(ids))
            while len(self._noted) > _REMEMBERED:
                self._noted.popitem(last=False)

    def of(self, rows: Tensor) -> list[AskedImage] | None:
        """Return the pictures of all rows (rows, tokens), one row after another; None where one of
        the rows was never noted, or was forgotten."""
        found: list[AskedImage] = []
        for row in rows.cpu():
            images = self._noted.get(self._key(row))
            if images is None:
                return None
            found += images
        return found

    def _key(self, ids: Tensor) -> bytes:
        own = (ids != self._pad_id).nonzero()
        start = int(own[0]) if len(own) else len(ids)
        data = ids[start:].to(torch.int64).contiguous().numpy().tobytes()
        return hashlib.blake2b(data, digest_size=16).digest()
