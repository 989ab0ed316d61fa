"""One frozen model with its processor: demonstrations in, tokens, keys and values out.

`Backbone` is all that the rooms above know of transformers' models. It trains nothing, and changes
nothing in the model but the attention it runs with.
"""

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.attention.hooks import attach
from tasm.backbone.attention.rotary import Rotary
from tasm.backbone.checkpoint.families import Family, family_of
from tasm.backbone.checkpoint.identity import Identity
from tasm.backbone.checkpoint.processors import tokenizer_of
from tasm.backbone.decoder import find_decoder
from tasm.backbone.geometry import Geometry
from tasm.backbone.head import Head
from tasm.backbone.hugging_face import HfConfig, HfModel, HfProcessor, HfTokenizer
from tasm.backbone.pickling import Reopen, reduced
from tasm.backbone.prompt.batching import Prompt, left_padded
from tasm.backbone.prompt.image_layout import KEPT_BYTES
from tasm.backbone.prompt.of_processor import conversations_of
from tasm.backbone.prompt.questions import AskedImages, asked_images
from tasm.backbone.prompt.transcript import Layout, Transcript
from tasm.backbone.running.guard import RunningModel, Source, VisionPart, refuse_training
from tasm.backbone.running.one_at_a_time import alone
from tasm.backbone.running.weights import dtype_of
from tasm.backbone.wrappers import (
    check_processor,
    forward_arguments,
    runner,
    running_device,
    show_arguments,
    unwrap,
)
from tasm.demonstrations import Demonstration, Query, make_query, shared_system
from tasm.errors import DemonstrationError


class Backbone:
    """A loaded model; made by `load_backbone` and `wrap_backbone`. `reopen` opens it again in
    another process; None for one that was wrapped.

    Attributes: `hf` (the transformers model, in what wraps it), `core` (the model itself),
    `processor`, `name`, `family` (a row of `FAMILIES`, or generic facts), `decoder`, `rotary`,
    `geometry`, `device`, `dtype`, `identity`.

    ```python
    backbone = load_backbone("models/qwen2-vl-2b")
    transcript = backbone.transcript(read_demonstrations("birds.jsonl"))
    cache = MemoryCache.empty(backbone.hf.config)
    backbone.encode(transcript, cache)
    cache.commit()
    ```
    """

    head: Head | None = None
    """How logits are made of final states, once that was measured."""

    def __init__(
        self,
        hf: nn.Module,
        processor: HfProcessor,
        name: str,
        source: Source = dict,
        *,
        reopen: Reopen | None = None,
    ) -> None:
        self.core: HfModel = unwrap(hf)
        check_processor(processor)
        self.hf: HfModel = runner(hf, self.core).eval()
        self.processor = processor
        self.name = name
        self._reopen = reopen
        config: HfConfig = self.core.config
        takes_images = hasattr(processor, "image_processor")
        self.family: Family = family_of(config.model_type, has_images=takes_images)
        self.decoder = find_decoder(self.core)
        self.geometry = Geometry.of(self.core)
        self.rotary = Rotary(self.core)
        self._arguments = forward_arguments(self.core)
        show_arguments(self.core)
        self._conversations = conversations_of(processor, self.family, config, self._arguments)
        attach(self.core)
        self._running = RunningModel(self.core, processor, source)
        self.decoder.tasm_guard = self._running.guard
        self.asked = AskedImages(self._pad_id)
        """The questions that the pictures of prompts stand in; noted while `vision` is set."""

    @property
    def device(self) -> torch.device:
        """Where the model takes its tokens."""
        return running_device(self.core)

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        return dtype_of(self.core)

    @property
    def identity(self) -> Identity:
        """What the model, its processor and its chat template are now, as hashes."""
        return self._running.identity()

    @property
    def vision(self) -> VisionPart | None:
        """What is hooked into the vision tower; None where nothing is."""
        return self._running.guard.vision

    @vision.setter
    def vision(self, part: VisionPart | None) -> None:
        self._running.guard.vision = part

    def __copy__(self) -> "Backbone":
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> "Backbone":
        twin = object.__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the place to load from; raises `InputError` for a model without one."""
        return reduced(
            self._reopen,
            self.name,
            self.dtype,
            self.device,
            lambda: self.identity,  # both read the weights, a wrapped model's to no use
            lambda: self.is_changed,
        )

    @property
    def is_changed(self) -> bool:
        """Whether weights, configuration or processor were changed after loading."""
        return self._running.is_changed

    @property
    def tokenizer(self) -> HfTokenizer:
        """The processor's tokenizer."""
        return tokenizer_of(self.processor)

    @property
    def template_ends(self) -> tuple[int, ...]:
        """The ids of the control tokens that the chat template writes after an answer, in order."""
        return self._conversations.template_ends

    def transcript(
        self,
        demonstrations: Sequence[Demonstration],
        *,
        system: str | None = None,
        max_pixels: int | None = None,
        kept_bytes: int = KEPT_BYTES,
    ) -> Transcript:
        """Lay demonstrations out in the model's chat template, as one conversation, tokenised once.

        `system` is the system prompt (None: the demonstrations' own, or the template's),
        `max_pixels` the largest area of an image in pixels (None: the processor's own). Where the
        images' tensors exceed `kept_bytes`, those of a chunk are made when it is encoded.

        Raises `DemonstrationError` for no demonstrations, for images where the model takes none and
        for differing system messages, `ModelError` where the template cannot be taken apart.
        """
        if not demonstrations:
            raise DemonstrationError("There are no demonstrations; expected at least one.")
        if max_pixels is not None and max_pixels < 1:
            raise DemonstrationError(f"max_pixels is {max_pixels}; expected at least 1.")
        layout = Layout(
            system=system if system is not None else shared_system(demonstrations),
            max_pixels=max_pixels,
            multi_image=any(demonstration.pictures for demonstration in demonstrations),
        )
        return self._conversations.transcript(demonstrations, layout, kept_bytes)

    @torch.inference_mode()
    def encode(self, chunk: Transcript, cache: MemoryCache) -> None:
        """Run the model over a chunk; its keys and values become live tokens of `cache`.

        The caller commits them (`cache.commit()`) before the next chunk.
        """
        self.encode_rows([chunk], cache)

    def encode_rows(self, chunks: Sequence[Transcript], cache: MemoryCache) -> None:
        """Run the model over chunks of one length, each a row of its own after what `cache`
        remembers."""
        self.run(self.transcript_inputs(chunks), cache)

    def run(self, inputs: dict[str, Tensor], cache: MemoryCache) -> Any:
        """Run the model over live tokens, which stay in `cache`; returns its output, with the last
        token's logits alone where the model can leave the others out."""
        last = {"logits_to_keep": 1} if "logits_to_keep" in self._arguments else {}
        with alone(self.core, cache):
            return self.hf(**inputs, **last, past_key_values=cache, use_cache=True)

    def transcript_inputs(self, transcripts: Sequence[Transcript]) -> dict[str, Tensor]:
        """Return whole transcripts, answers included, as ordinary prompts: a left-padded batch."""
        prompts = [Prompt(one.input_ids, one.place[:, 0] >= 0, one.images) for one in transcripts]
        return self._batch(prompts, transcripts[0].layout)

    def query_inputs(self, queries: Sequence[Query], *, layout: Layout) -> dict[str, Tensor]:
        """Return the queries' own tokens, laid out as they would be after the demonstrations.

        A left-padded batch with attention mask and image tensors, on the model's device:

        ```python
        inputs = backbone.query_inputs(queries, layout=memory.layout)
        tokens = backbone.hf.generate(**inputs, past_key_values=memory.cache())
        ```
        """
        prompts = [self._conversations.query(query, layout) for query in queries]
        return self._batch(prompts, layout)

    def question_tokens(self, text: str, *, layout: Layout) -> Tensor:
        """Return the token ids (tokens,) of a question without images as it would be asked after
        the demonstrations, up to where its answer begins."""
        return self._conversations.query(make_query(text), layout).input_ids

    def answer_tokens(self, text: str, *, layout: Layout) -> tuple[int, ...]:
        """Return the token ids that the model generates where it answers `text`, no end token.

        Raises `DemonstrationError` where the text spells a mark of the chat template.
        """
        return tuple(self._conversations.answer(text, layout).tolist())

    @torch.inference_mode()
    def next_logits(self, inputs: dict[str, Tensor], cache: MemoryCache) -> Tensor:
        """Run the model over live tokens, which stay in `cache`; returns the logits of what comes
        next, (rows, vocabulary) in float32."""
        return self.run(inputs, cache).logits[:, -1].float()

    def full_inputs(
        self, demonstrations: Sequence[Demonstration], query: Query, *, layout: Layout
    ) -> dict[str, Tensor]:
        """Return the whole conversation as an ordinary prompt of one row (no memory)."""
        return self._batch([self._conversations.whole(demonstrations, query, layout)], layout)

    def bare_inputs(self, queries: Sequence[Query], *, layout: Layout) -> dict[str, Tensor]:
        """Return queries as ordinary prompts without demonstrations, a left-padded batch."""
        prompts = [self._conversations.whole([], query, layout) for query in queries]
        return self._batch(prompts, layout)

    def query_positions(self, inputs: dict[str, Tensor]) -> int:
        """Return how many positions the longest row of `query_inputs` takes.

        With three rows of positions an image takes as many as the longest side of its merged grid.
        """
        tokens = int(inputs["attention_mask"].sum(-1).max())
        grids = inputs.get("image_grid_thw")
        if grids is None or self.geometry.position_rows == 1 or inputs["input_ids"].shape[0] > 1:
            return tokens
        merge = int(self.processor.image_processor.merge_size)
        sides = torch.stack([grids[:, 0], grids[:, 1] // merge, grids[:, 2] // merge], dim=-1)
        return tokens - int((sides.prod(-1) - sides.amax(-1)).sum())

    def _batch(self, prompts: Sequence[Prompt], layout: Layout) -> dict[str, Tensor]:
        refuse_training(self.core)
        if not prompts:
            raise DemonstrationError("There are no queries; expected at least one.")
        images = [prompt.images.present() for prompt in prompts]
        if self.vision is not None:
            for prompt, shown in zip(prompts, images, strict=True):
                noted = asked_images(prompt.images.questions, shown)
                self.asked.note(prompt.input_ids, noted)
        arguments = self._arguments
        if self.family.kind == "text":
            arguments = arguments - {"token_type_ids", "mm_token_type_ids"}
        inputs = left_padded(prompts, images, self._pad_id, arguments, layout.multi_image)
        device, dtype = self.device, self.dtype
        return {
            name: value.to(device, dtype if value.is_floating_point() else None)
            for name, value in inputs.items()
        }

    @cached_property
    def _pad_id(self) -> int:
        ids = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id)
        return next((token for token in ids if token is not None), 0)
