"""A backbone over a tiny random model whose demonstrations are token ids: it needs no processor.

Every demonstration is: question text, image, question text, a template token, two answer tokens, a
template token. Four system tokens come first.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.attention.hooks import attach
from tasm.backbone.attention.rotary import Rotary
from tasm.backbone.checkpoint.identity import Identity
from tasm.backbone.decoder import find_decoder
from tasm.backbone.geometry import Geometry
from tasm.backbone.model import Backbone
from tasm.backbone.prompt.images import NO_IMAGES, ImageInputs, batched, concatenate
from tasm.backbone.prompt.transcript import Role, Transcript
from tasm.compress.api import build_transcript
from tasm.compress.chunks import chunk_edges
from tasm.compress.peak import PeakMemory
from tasm.compress.settings import Settings
from tasm.compress.streams.arriving import NOTHING_READ, Chunk, _and
from tasm.compress.streams.streamed import build_streamed
from tasm.demonstrations import Demonstration, Message
from tasm.memory import TaskMemory
from tests.compress.transcripts import TranscriptWriter
from tests.tiny_models import Tiny, tiny_model

SYSTEM = (5, 6, 7, 8)


class TinyBackbone(Backbone):
    """Takes seeds where a real one takes demonstrations."""

    def __init__(self, tiny: Tiny) -> None:
        self.tiny, self.hf, self.core, self.name = tiny, tiny.model, tiny.model, "tiny"
        self.decoder = find_decoder(tiny.model)
        self.geometry = Geometry.of(tiny.model)
        self.rotary = Rotary(tiny.model)
        attach(tiny.model)

    @property
    def identity(self) -> Identity:
        """One for all: nothing here has files."""
        return Identity({"weights": "0" * 64})

    @property
    def vision(self) -> None:  # type: ignore[override]
        """Nothing is hooked into its tower."""

    def transcript(self, seeds: Sequence[Any], **_: Any) -> Transcript:
        """Lay demonstrations out; of a real one its id is the seed."""
        seeds = [int(getattr(seed, "id", seed)) for seed in seeds]
        writer = TranscriptWriter(self.tiny)
        writer.add(SYSTEM, Role.SYSTEM)
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            words = torch.randint(10, 180, (9,), generator=generator).tolist()
            writer.begin()
            writer.add(words[:4], Role.QUESTION)
            if self.tiny.image is not None:
                writer.picture(generator, 3 if self.tiny.tokens_per_image % 3 == 0 else 2)
            writer.add(words[4:6], Role.QUESTION)
            writer.add([9], Role.TEMPLATE)
            writer.add(words[6:8], Role.ANSWER)
            writer.add([4], Role.TEMPLATE)
            writer.end(words[6:8])
        return writer.transcript()

    def question_tokens(self, text: str, *, layout: Any) -> Tensor:
        """Words of no meaning for any question."""
        return torch.tensor([11, 12, 13, 9])

    def inputs(self, ids: Tensor, images: ImageInputs = NO_IMAGES) -> dict[str, Any]:
        """The model's arguments for one row of tokens."""
        return self.placed({"input_ids": ids[None]}, images)

    def placed(self, ids: dict[str, Tensor], images: ImageInputs) -> dict[str, Any]:
        """The model's arguments for rows of tokens, where the model is."""
        return {**ids, **batched([images]), **self.tiny._token_types(ids["input_ids"])}

    @torch.inference_mode()
    def encode_rows(self, chunks: Sequence[Transcript], cache: MemoryCache) -> None:
        longest = max(len(chunk) for chunk in chunks)
        padding = [longest - len(chunk) for chunk in chunks]
        pad = torch.nn.functional.pad
        rows = [pad(one.input_ids, (n, 0)) for one, n in zip(chunks, padding, strict=True)]
        real = [pad(torch.ones(len(one)), (n, 0)) for one, n in zip(chunks, padding, strict=True)]
        inputs = {"input_ids": torch.stack(rows)}
        if any(padding):
            inputs["attention_mask"] = torch.stack(real).long()
        self.hf(
            **self.placed(inputs, concatenate([chunk.images for chunk in chunks])),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )


def tiny_backbone(family: str = "qwen2_vl", **changes: Any) -> TinyBackbone:
    """A backbone over a tiny random model of a family."""
    return TinyBackbone(tiny_model(family, **changes))


def settings(**given: Any) -> Settings:
    """A build's settings, the others as by default."""
    defaults: dict[str, Any] = {
        "recipe": "tasm",
        "core": None,
        "bank": None,
        "mode": "joint",
        "chunk_tokens": None,
        "system": None,
        "max_pixels": None,
        "store": None,
        "seed": 0,
    }
    return Settings.of(**(defaults | given))


def build_tiny(
    backbone: TinyBackbone,
    demonstrations: int | Transcript = 5,
    *,
    notices: list[str] | None = None,
    **given: Any,
) -> TaskMemory:
    """Build a memory of that many demonstrations."""
    transcript = (
        demonstrations
        if isinstance(demonstrations, Transcript)
        else backbone.transcript(range(1, demonstrations + 1))
    )
    here, shown = settings(**given), rows(len(transcript.spans))
    told = (notices if notices is not None else []).append
    peak = PeakMemory(torch.device("cpu"))
    if here.mode != "streaming":
        return build_transcript(backbone, transcript, shown, here, lambda *_: None, told, peak, 0.0)
    return build_streamed(
        backbone,
        lambda _: chunks_of(transcript, shown, here.chunk_tokens),
        here,
        lambda *_: None,
        told,
        peak,
        0.0,
        tokens=len(transcript),
        demonstrations=len(shown),
    )


def chunks_of(
    transcript: Transcript, demonstrations: Sequence[Demonstration], chunk_tokens: int
) -> Iterator[Chunk]:
    """Yield the chunks of demonstrations that are laid out already."""
    digest = NOTHING_READ
    for first, stop in chunk_edges(transcript.spans, chunk_tokens):
        some = demonstrations[first:stop]
        for one in some:
            digest = _and(digest, one)
        yield Chunk(transcript.chunk(first, stop), some, digest)


def rows(count: int) -> list[Demonstration]:
    """Demonstrations whose ids are seeds for a tiny backbone."""
    turns = (Message("user", ("q",)), Message("assistant", ("a",)))
    return [Demonstration(str(number), turns, "0" * 64) for number in range(1, count + 1)]


def logits_after(backbone: TinyBackbone, cache: Any, ids: Sequence[int]) -> Tensor:
    """Logits of text tokens read after what the cache holds, (tokens, vocabulary)."""
    with torch.no_grad():
        inputs = backbone.inputs(torch.tensor(ids))
        return backbone.hf(**inputs, past_key_values=cache, use_cache=True).logits[0]


def stock_logits(backbone: TinyBackbone, transcript: Transcript, ids: Sequence[int]) -> Tensor:
    """Logits of the same tokens after the whole transcript as an ordinary prompt."""
    whole = torch.cat([transcript.input_ids, torch.tensor(ids)])
    with torch.no_grad():
        inputs = backbone.inputs(whole, transcript.images)
        return backbone.hf(**inputs, use_cache=False).logits[0, -len(ids) :]
