"""Turns pictures into the processor's tensors and into the text that stands for each in the prompt.

One call of the family's own processor serves many pictures: its text is nothing but image tokens
with separators between them, and what the processor hands to the tokenizer shows how each was
expanded.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from tasm.backbone.checkpoint.families import Family
from tasm.backbone.checkpoint.processors import tokenizer_of
from tasm.backbone.hugging_face import HfConfig, HfProcessor, HfTokenizer
from tasm.backbone.prompt.image_places import places_of
from tasm.backbone.prompt.image_shapes import (
    UnusablePicture,
    for_square,
    largest_ratio,
    least_length,
    limited,
    size_is_an_area,
    size_of,
    usable,
)
from tasm.backbone.prompt.images import ImageInputs, PackedTensor, concatenate, shares
from tasm.backbone.prompt.transcript import empty_places
from tasm.demonstrations import Picture
from tasm.errors import ModelError, TasmError

_PICTURES_AT_ONCE = 4
"""Pictures decoded at one time; more are processed group after group."""

KEPT_BYTES = 1 << 30
"""Image tensors kept between laying a conversation out and encoding it."""

_SEPARATOR = "\n\ue000\n"
_FOR_TEXT = {"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids"}


@dataclass(frozen=True, eq=False)
class LaidOutImages:
    """Pictures as the model takes them: text and (tokens, 3) places of each, and all tensors."""

    expansions: tuple[str, ...]
    places: tuple[Tensor, ...]
    inputs: ImageInputs

    def on_images(self, image: Tensor) -> Tensor:
        """Return the (tokens, 4) table of a transcript; `image` (tokens,) is each one's image."""
        place = empty_places(image.shape[0])
        for number, places in enumerate(self.places):
            rows = (image == number).nonzero()[:, 0]
            place[rows, 0] = number
            place[rows, 1:] = places
        return place


@dataclass(frozen=True, eq=False)
class ImageLayout:
    """The image side of a processor.

    `image_token` is the token that stands for one vector of the vision tower, `placeholder` what
    the chat template writes for a picture, `arguments` the names of the model's arguments.

    ```python
    laid_out = layout(pictures, max_pixels=None, multi_image=True)
    laid_out.expansions[0]      # '<|image_pad|><|image_pad|>…'
    ```
    """

    processor: HfProcessor
    family: Family
    config: HfConfig
    image_token: str
    placeholder: str
    arguments: frozenset[str]

    def __call__(
        self,
        pictures: Sequence[Picture],
        *,
        max_pixels: int | None,
        multi_image: bool,
        kept_bytes: int = KEPT_BYTES,
    ) -> LaidOutImages:
        """Lay pictures out: as images of one conversation with `multi_image`, else each alone.

        Tensors of more than `kept_bytes` are dropped, and made again where they are needed.
        """
        alone = self.family.lone_image_differs and not multi_image

        step = 1 if alone else _PICTURES_AT_ONCE

        def groups(chosen: Sequence[Picture]) -> Iterator[LaidOutImages]:
            for start in range(0, len(chosen), step):
                yield self._group(chosen[start : start + step], max_pixels, multi_image)

        expansions: list[str] = []
        places: list[Tensor] = []
        kept: list[ImageInputs] | None = []
        total = 0
        for group in groups(pictures):
            expansions += group.expansions
            places += group.places
            total += sum(packed.values.nbytes for packed in group.inputs.tensors.values())
            # Beyond what may be kept, the tensors of each chunk are made again when it is encoded.
            kept = [*kept, group.inputs] if kept is not None and total <= kept_bytes else None
        if kept is not None:
            return LaidOutImages(tuple(expansions), tuple(places), concatenate(kept))

        def made_again(first: int, stop: int) -> ImageInputs:
            return concatenate([group.inputs for group in groups(pictures[first:stop])])

        dropped = ImageInputs(len(pictures), {}, made_again)
        return LaidOutImages(tuple(expansions), tuple(places), dropped)

    def _group(
        self, pictures: Sequence[Picture], max_pixels: int | None, multi_image: bool
    ) -> LaidOutImages:
        image_processor = self.processor.image_processor
        ratio, length = largest_ratio(image_processor), least_length(self.processor)
        images = [limited(picture.load(), max_pixels, image_processor) for picture in pictures]
        if multi_image and self.family.lone_image_differs:
            images = [for_square(image) for image in images]
        images = [usable(image, ratio, length) for image in images]
        count = len(images)
        if count == 1 and multi_image and self.family.lone_image_differs:
            images = images * 2
        try:
            expansions, outputs = self._process(images, max_pixels)
        except Exception as error:  # a processor raises what it likes, and names no picture
            raise self._unusable(pictures, images, max_pixels, error) from error
        inputs = self._packed(outputs, expansions).slice(0, count)
        return LaidOutImages(
            tuple(expansions[:count]),
            tuple(self._places(expansions[i], inputs, i) for i in range(count)),
            inputs,
        )

    def _unusable(
        self,
        pictures: Sequence[Picture],
        images: Sequence[Image.Image],
        max_pixels: int | None,
        error: Exception,
    ) -> Exception:
        """The error of a group, as one that names the picture it is about."""
        if isinstance(error, TasmError):
            return error
        for picture, image in zip(pictures, images, strict=False):
            try:
                self._process([image], max_pixels)
            except Exception as own:  # the same as above
                return UnusablePicture(picture, image.size, self.processor, own)
        return ModelError(
            f"{type(self.processor).__name__} cannot lay {len(images)} pictures out together, "
            f"though each alone: {error}"
        )

    def _process(
        self, images: Sequence[Image.Image], max_pixels: int | None
    ) -> tuple[list[str], Mapping[str, Any]]:
        listener = _Listener(tokenizer_of(self.processor))
        processor = copy.copy(self.processor)
        processor.tokenizer = listener
        settings: dict[str, Any] = {}
        if max_pixels is not None and size_is_an_area(self.processor.image_processor):
            smallest = min(size_of(self.processor.image_processor)["shortest_edge"], max_pixels)
            size = {"shortest_edge": smallest, "longest_edge": max_pixels}
            settings["images_kwargs"] = {"size": size}
        text = _SEPARATOR.join([self.placeholder] * len(images))
        outputs = processor(images=[list(images)], text=[text], return_tensors="pt", **settings)
        expansions = listener.text.split(_SEPARATOR)
        if len(expansions) != len(images) or not all(self.image_token in e for e in expansions):
            raise ModelError(
                f"{type(self.processor).__name__} does not put {self.image_token!r} in place of "
                f"{self.placeholder!r} for each image; it wrote {listener.text[:120]!r}."
            )
        return expansions, outputs

    def _packed(self, outputs: Mapping[str, Any], expansions: Sequence[str]) -> ImageInputs:
        """Find out which entries of each tensor belong to which image."""
        tensors = {
            name: torch.as_tensor(value)
            for name, value in outputs.items()
            if name in self.arguments and name not in _FOR_TEXT and name != "batch_num_images"
        }
        if not any(tensor.is_floating_point() for tensor in tensors.values()):
            raise ModelError(
                f"The model would get no pixels: {type(self.processor).__name__} makes "
                f"{', '.join(sorted(set(outputs) - _FOR_TEXT)) or 'none'} of pictures, and "
                f"{self.config.model_type!r} takes none of those. Give model and processor of one "
                "checkpoint."
            )
        counts = [expansion.count(self.image_token) for expansion in expansions]
        grids = tensors.get("image_grid_thw")
        packed = {name: self._pack(name, value, grids, counts) for name, value in tensors.items()}
        return ImageInputs(len(expansions), packed)

    def _pack(
        self, name: str, value: Tensor, grids: Tensor | None, counts: Sequence[int]
    ) -> PackedTensor:
        images = len(counts)
        if grids is not None and name == "pixel_values":
            return PackedTensor(value, 0, tuple(int(n) for n in grids.prod(-1)))
        if self.family.places == "tiles" and value.ndim > 1 and value.shape[0] == 1:
            return PackedTensor(value, 1, shares(name, int(value.shape[1]), counts))
        if value.shape[0] == images:
            return PackedTensor(value, 0, (1,) * images)
        return PackedTensor(value, 0, shares(name, int(value.shape[0]), counts))

    def _places(self, expansion: str, inputs: ImageInputs, number: int) -> Tensor:
        tensors = inputs.slice(number, number + 1).tensors
        grid = size = None
        if "image_grid_thw" in tensors:
            t, h, w = tensors["image_grid_thw"].values[0].tolist()
            grid = (t, h, w)
        if "image_sizes" in tensors:
            height, width = tensors["image_sizes"].values[0].tolist()
            size = (height, width)
        pixels = tensors.get("pixel_values")
        tiles = int(pixels.values.shape[0]) if pixels is not None and grid is None else 1
        aspect = str(getattr(self.config, "vision_aspect_ratio", ""))
        vision = getattr(self.config, "vision_config", None)
        return places_of(
            self.family.places,
            expansion,
            self.image_token,
            grid=grid,
            tiles=tiles,
            size=size,
            pinpoints=getattr(self.config, "image_grid_pinpoints", None) or (),
            base=_base(vision),
            largest=int(aspect.rpartition("_")[2]) if aspect.startswith("anyres_max_") else None,
        )


class _Listener:
    """A tokenizer that remembers the text it was given last."""

    def __init__(self, tokenizer: HfTokenizer) -> None:
        self._tokenizer = tokenizer
        self.text = ""

    def __call__(self, text: Any, **settings: Any) -> Any:
        self.text = text if isinstance(text, str) else text[0]
        return self._tokenizer(text, **settings)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def _base(vision: Any) -> int:
    """The side in tokens of one picture of the vision tower, where pictures are square."""
    image, patch = getattr(vision, "image_size", None), getattr(vision, "patch_size", None)
    return image // patch if isinstance(image, int) and isinstance(patch, int) else 0
