"""An adapter at work in a vision tower: forward hooks on its blocks, on and off at will.

Nothing of the model is patched: the hooks add to what the blocks return. Which question a picture
stands in is looked up by the prompt's ids (`Backbone.asked`), or said by `asking`.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tasm.backbone.model import Backbone
from tasm.backbone.prompt.questions import AskedImage
from tasm.backbone.running.weights import RunningWeights
from tasm.errors import InputError, ModelError
from tasm.vision_memory.calls import Pass, States
from tasm.vision_memory.module import VisionAdapter
from tasm.vision_memory.towers import Tower, find_tower


class VisionMemory:
    """An adapter on a model's vision tower.

    ```python
    vision = VisionMemory(backbone, make_adapter(settings))
    vision.attach()
    ...                              # build, ask, generate as ever
    vision.remove()                  # the model is what it was
    ```

    `place` is the folder that the adapter came from, "" for none. The adapter computes in float32
    whatever the tower computes in. Raises `ModelError` where model and adapter do not fit.
    """

    def __init__(self, backbone: Backbone, adapter: VisionAdapter, place: str = "") -> None:
        self.backbone = backbone
        self.adapter = adapter
        self.place = place
        self.tower: Tower = find_tower(backbone.core)
        self._states = States()
        self._handles: list[Any] = []
        self._check_fit()
        adapter.to(backbone.device, torch.float32)
        self._weights = RunningWeights(adapter)

    @property
    def digest(self) -> str:
        """The SHA-256 of the adapter as it is now: its settings and every weight."""
        said = json.dumps(self.adapter.settings.to_json(), sort_keys=True)
        return hashlib.sha256(f"{said} {self._weights.digests().exact}".encode()).hexdigest()

    @property
    def is_on(self) -> bool:
        """Whether it is in the tower."""
        return bool(self._handles)

    def attach(self) -> None:
        """Put it into the tower; twice changes nothing.

        Raises `InputError` where another one is there.
        """
        if self.is_on:
            return
        if self.backbone.vision is not None:
            raise InputError(
                f"The model {self.backbone.name!r} has a vision memory already. Remove it first: "
                "vision_memory.remove()."
            )
        holder = self.tower.holder
        self._handles = [
            holder.register_forward_pre_hook(self._before_prompt, with_kwargs=True),
            holder.register_forward_hook(self._after_prompt, always_call=True),
        ]
        last = len(self.tower.blocks) - 1
        for number, block in enumerate(self.tower.blocks):
            after = partial(self._after_block, number == 0, number == last)
            # First of all hooks, so that transformers' own record what the next block will see.
            handle = block.register_forward_hook(after, prepend=True, with_kwargs=True)
            self._handles.append(handle)
        self.backbone.vision = self

    def remove(self) -> None:
        """Take it out; nothing of it stays in the model."""
        for handle in self._handles:
            handle.remove()
        if self._handles:
            self.backbone.vision = None
        self._handles = []

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave it out for a while."""
        was_on = self.is_on
        self.remove()
        try:
            yield
        finally:
            if was_on:
                self.attach()

    @contextmanager
    def asking(self, questions: Sequence[str]) -> Iterator[None]:
        """Say the questions of the images that the tower is called with directly, one each.

        ```python
        with vision.asking(["Which bird is this?"]):
            model.hf.model.get_image_features(pixel_values, image_grid_thw)
        ```
        """
        state = self._states.here
        state.said, before = [AskedImage((text,)) for text in questions], state.said
        try:
            yield
        finally:
            state.said = before

    @contextmanager
    def listening(self) -> Iterator[list[Tensor]]:
        """Give a list that receives the last memories (images, width) of every pass, with their
        gradients."""
        state = self._states.here
        state.heard, before = [], state.heard
        try:
            yield state.heard
        finally:
            state.heard = before

    def _check_fit(self) -> None:
        settings, tower = self.adapter.settings, self.tower
        wanted = (settings.width, settings.text_width, settings.has_class_token)
        found = (tower.width, tower.text_width, tower.has_class_token)
        if wanted != found:
            names = ("tower width", "text width", "class token")
            said = [
                f"{n} {w} (the model's: {f})" for n, w, f in zip(names, wanted, found, strict=True)
            ]
            raise ModelError(
                f"The adapter does not fit the model {self.backbone.name!r}: it was made for "
                f"{', '.join(said)}. Train one for this model: tasm vision-memory train."
            )

    def _before_prompt(
        self, holder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._enter(kwargs.get("input_ids", args[0] if args else None))

    def _after_prompt(self, holder: nn.Module, args: Any, output: Any) -> None:
        self._leave()

    @contextmanager
    def prompt(self, ids: Any) -> Iterator[None]:
        """Say which prompt (rows, tokens) the images of the calls inside belong to."""
        self._enter(ids)
        try:
            yield
        finally:
            self._leave()

    def _enter(self, ids: Any) -> None:
        state = self._states.here
        found = self.backbone.asked.of(ids) if isinstance(ids, Tensor) and ids.ndim == 2 else None
        if found is not None or state.prompts == 0:
            state.pictures = found
        state.prompts += 1

    def _leave(self) -> None:
        state = self._states.here
        state.prompts = max(0, state.prompts - 1)
        if state.prompts == 0:
            state.pictures = state.running = None

    def _after_block(
        self,
        is_first: bool,
        is_last: bool,
        block: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        output: Any,
    ) -> Any:
        tokens = output[0] if isinstance(output, tuple) else output
        state = self._states.here
        if is_first:
            grouping = self.tower.grouping(tokens, args, kwargs)
            pictures = state.pictures if state.said is None else state.said
            question = self._questions(pictures, grouping.images)
            start = self.adapter.start(grouping.images, tokens.device)
            state.running = Pass(grouping, start, question)
            if state.prompts:
                state.pictures = None  # one pass sees all of a prompt's images
        run = state.running
        assert run is not None
        wide = tokens.float()
        added, run.memory = self.adapter.step(wide, run.memory, run.question, run.grouping)
        if is_last:
            if state.heard is not None:
                state.heard.append(run.memory)
            state.running = None
        changed = (wide + added).to(tokens.dtype)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    def _questions(self, pictures: list[AskedImage] | None, images: int) -> Tensor | None:
        """The question vectors (images, width) of what the tower is about to see."""
        if self.adapter.settings.question_free:
            return None
        if pictures is None:
            raise ModelError(
                "The vision memory does not know the question that these images stand in: the "
                "prompt was not laid out by tasm, or long ago. Make the inputs with "
                "model.inputs(…) right before, say the questions (vision_memory.asking), or train "
                "an adapter with --question-free."
            )
        texts = [picture.texts for picture in pictures for _ in range(picture.parts)]
        if len(texts) != images:
            raise ModelError(
                f"The vision tower was given {images} images, and the prompt shows "
                f"{len(pictures)} in {len(texts)} parts: which question belongs to which cannot be "
                "told. Videos and other cuttings of images have no vision memory."
            )
        distinct = {one: number for number, one in enumerate(dict.fromkeys(texts))}
        means = torch.stack([self.embedded(one) for one in distinct])
        numbers = torch.tensor([distinct[one] for one in texts], device=means.device)
        found = self.adapter.question(means)
        return None if found is None else found[numbers]

    @torch.no_grad()
    def embedded(self, texts: Sequence[str]) -> Tensor:
        """Return the mean input embedding (text_width,) of the tokens of texts, float32; zeros
        where there are none."""
        tokenizer: Any = self.backbone.tokenizer
        ids = [
            token for text in texts for token in tokenizer(text, add_special_tokens=False).input_ids
        ]
        table = self.backbone.core.get_input_embeddings()
        if not ids:
            return torch.zeros(self.tower.text_width, device=self.backbone.device)
        return table(torch.tensor(ids, device=self.backbone.device)).float().mean(0)
