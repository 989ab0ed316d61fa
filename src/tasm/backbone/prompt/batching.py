"""Prompts of several rows as one batch of the model's arguments. Knows tensors; no model."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tasm.backbone.prompt.images import ImageInputs, batched


@dataclass(frozen=True, eq=False)
class Prompt:
    """Tokens for the model: `input_ids` (tokens,), `is_image` (tokens,) bool, and image tensors."""

    input_ids: Tensor
    is_image: Tensor
    images: ImageInputs


def left_padded(
    prompts: Sequence[Prompt],
    images: Sequence[ImageInputs],
    pad_id: int,
    arguments: frozenset[str],
    multi_image: bool,
) -> dict[str, Tensor]:
    """Return prompts padded on the left, with the image tensors of all rows joined.

    `images` are the prompts' own, their tensors present; `arguments` are the names that the model
    takes, `multi_image` whether images are laid out as those of one conversation.
    """
    length = max(len(prompt.input_ids) for prompt in prompts)
    ids = torch.full((len(prompts), length), pad_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    kinds = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        start = length - len(prompt.input_ids)
        ids[row, start:] = prompt.input_ids
        mask[row, start:] = 1
        kinds[row, start:] = prompt.is_image.long()
    inputs = {"input_ids": ids, "attention_mask": mask}
    inputs |= {name: kinds for name in ("token_type_ids", "mm_token_type_ids") if name in arguments}
    inputs |= batched(images)
    counts = [len(shown) for shown in images]
    total = sum(counts)
    if "batch_num_images" in arguments and total:
        # The model tiles an image that is alone in its row; a larger number tells it not to.
        several = [max(2, total)]
        rows = several if multi_image else [count for count in counts if count]
        inputs["batch_num_images"] = torch.tensor(rows)
    return inputs
