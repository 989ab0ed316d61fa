"""What a vision memory learns from: the answers of a run, and Mema's alignment.

Knows transcripts, logits and last memories; nothing of steps or files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tasm.backbone.prompt.transcript import Role, Transcript
from tasm.vision_memory.attached import VisionMemory
from tasm.vision_memory.module import alignment_loss


@dataclass(frozen=True, eq=False)
class Losses:
    """Sums of a batch: `answers` (nats) over `tokens` tokens, `alignment` over `pairs`
    demonstrations with images, and how many of `asked` answers are right token by token."""

    answers: Tensor
    tokens: int
    alignment: Tensor
    pairs: int
    right: int
    asked: int


def losses(vision: VisionMemory, transcripts: Sequence[Transcript], shown: Sequence[int]) -> Losses:
    """Run the model over whole transcripts; of each, the answers after the first `shown`
    demonstrations count.

    The token that ends an answer counts with it. The alignment is of every demonstration with
    images: the mean of its images' last memories, projected, against its answer's mean embedding.
    """
    backbone = vision.backbone
    inputs = backbone.transcript_inputs(transcripts)
    with vision.listening() as heard:
        logits = backbone.core(**inputs, use_cache=False).logits
    length = inputs["input_ids"].shape[1]
    rows, places, wanted, owners = [], [], [], []
    for row, (transcript, first) in enumerate(zip(transcripts, shown, strict=True)):
        for place, owner in targets_of(transcript, first):
            rows.append(row)
            places.append(length - len(transcript) + place - 1)
            wanted.append(int(transcript.input_ids[place]))
            owners.append((row, owner))
    targets = torch.tensor(wanted, device=logits.device)
    said = logits[rows, places].float()
    right = (said.argmax(-1) == targets).tolist()
    wrong = {owner for owner, fine in zip(owners, right, strict=True) if not fine}
    aligned = _alignments(vision, transcripts, heard)
    zero = said.sum() * 0.0
    return Losses(
        answers=F.cross_entropy(said, targets, reduction="sum") if wanted else zero,
        tokens=len(wanted),
        alignment=torch.stack(aligned).sum() if aligned else zero,
        pairs=len(aligned),
        right=len(set(owners)) - len(wrong),
        asked=len(set(owners)),
    )


def targets_of(transcript: Transcript, shown: int) -> list[tuple[int, int]]:
    """Return (token, demonstration) of every answer's tokens from demonstration `shown` on, and of
    the token after each answer."""
    is_answer = transcript.roles == int(Role.ANSWER)
    follows = torch.zeros_like(is_answer)
    follows[1:] = is_answer[:-1] & ~is_answer[1:]
    counts = (is_answer | follows) & (transcript.demonstration >= shown)
    return [(int(n), int(transcript.demonstration[n])) for n in counts.nonzero()[:, 0]]


def _alignments(
    vision: VisionMemory, transcripts: Sequence[Transcript], heard: list[Tensor]
) -> list[Tensor]:
    """One loss a demonstration with images and an answer."""
    if not heard or vision.adapter.settings.kind != "mema":
        return []
    projected = vision.tower.project(torch.cat(heard).to(vision.backbone.dtype)).float()
    table: Any = vision.backbone.core.get_input_embeddings()
    found, first = [], 0
    for transcript in transcripts:
        parts = _parts_of_images(transcript)
        for images, answer in pairs_of(transcript):
            start, stop = first + sum(parts[: images[0]]), first + sum(parts[: images[-1] + 1])
            with torch.no_grad():
                mean = table(answer.to(vision.backbone.device)).float().mean(0)
            found.append(alignment_loss(projected[start:stop], mean))
        first += sum(parts)
    return found


def pairs_of(transcript: Transcript) -> list[tuple[list[int], Tensor]]:
    """Return the images, by number, and the answer's ids of every demonstration that has both; an
    earlier answer of several turns counts with the last."""
    owners = _owners_of_images(transcript)
    is_answer = transcript.roles == int(Role.ANSWER)
    pairs = []
    for number in range(len(transcript.spans)):
        images = [n for n, owner in enumerate(owners) if owner == number]
        answer = transcript.input_ids[is_answer & (transcript.demonstration == number)]
        if images and len(answer):
            pairs.append((images, answer))
    return pairs


def _parts_of_images(transcript: Transcript) -> tuple[int, ...]:
    """Into how many parts each image was cut for the tower."""
    tensors = transcript.images.present().tensors
    if "image_grid_thw" in tensors or "pixel_values" not in tensors:
        return (1,) * len(transcript.images)
    return tensors["pixel_values"].entries


def _owners_of_images(transcript: Transcript) -> list[int]:
    """The demonstration that each image belongs to."""
    owners = [-1] * len(transcript.images)
    pairs = torch.stack([transcript.place[:, 0], transcript.demonstration], 1).unique(dim=0)
    for image, owner in pairs.tolist():
        if image >= 0:
            owners[image - transcript.first_image] = owner
    return owners
