"""Greedy generation through transformers' own `generate`, timed.

It neither knows what a memory is nor what a query means: it gets the model's inputs and a cache.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer


@dataclass(frozen=True)
class Generated:
    """What a batch of rows generated: token ids without the end token, and what it took.

    `first_logits` is (rows, vocabulary), float32: the logits of the first answer token.
    """

    token_ids: list[tuple[int, ...]]
    first_logits: Tensor
    prefill_seconds: float
    decode_seconds: float


def generate(
    backbone: Any,
    inputs: dict[str, Tensor],
    cache: Any = None,
    *,
    max_new_tokens: int,
    on_text: Callable[[str], None] | None = None,
) -> Generated:
    """Generate greedily for every row of `inputs`, whatever the model's generation settings say.

    `on_text` receives the text of a single row piece by piece, as it is made.

    ```python
    generated = generate(backbone, inputs, memory.cache(), max_new_tokens=16)
    ```
    """
    hf = backbone.hf
    clock = _FirstStep()
    streamer = None if on_text is None else _TextStream(backbone.tokenizer, on_text)
    cached = {} if cache is None else {"past_key_values": cache}
    started = time.perf_counter()
    with torch.inference_mode(), greedily(hf, max_new_tokens):
        output = hf.generate(
            **inputs, **cached, logits_processor=LogitsProcessorList([clock]), streamer=streamer
        )
    ended = time.perf_counter()
    assert clock.logits is not None  # generate asks for one token at least
    prompt = inputs["input_ids"].shape[1]
    ends = end_tokens(hf)
    return Generated(
        [_until_end(row, ends) for row in output[:, prompt:].tolist()],
        clock.logits,
        clock.at - started,
        ended - clock.at,
    )


def end_tokens(hf: Any) -> tuple[int, ...]:
    """Return the ids of the tokens that end an answer, as the model's own settings name them."""
    for settings in (hf.generation_config, hf.config, hf.config.get_text_config()):
        ends = getattr(settings, "eos_token_id", None)
        if ends is not None:
            return tuple(ends) if isinstance(ends, (list, tuple)) else (int(ends),)
    return ()


@contextmanager
def greedily(hf: Any, max_new_tokens: int) -> Iterator[None]:
    """Lay the model's own generation settings aside: `generate` fills the gaps of ours from them.

    ```python
    with greedily(hf, max_new_tokens=16):
        output = hf.generate(**inputs, past_key_values=memory.cache())
    ```
    """
    theirs = hf.generation_config
    ends = end_tokens(hf)
    padding = theirs.pad_token_id
    hf.generation_config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        eos_token_id=list(ends) or None,
        pad_token_id=padding if padding is not None else (ends[0] if ends else 0),
        bos_token_id=theirs.bos_token_id,
    )
    try:
        yield
    finally:
        hf.generation_config = theirs


def decode(backbone: Any, token_ids: tuple[int, ...]) -> str:
    """Return the text of an answer, special tokens and outer white space left out."""
    return backbone.tokenizer.decode(token_ids, skip_special_tokens=True).strip()


class _FirstStep(LogitsProcessor):
    """Notes when the first answer token's logits were there, and the logits themselves."""

    def __init__(self) -> None:
        self.logits: Tensor | None = None
        self.at = 0.0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self.logits is None:
            self.logits = scores.float().cpu()  # waits for the device, so the time is true
            self.at = time.perf_counter()
        return scores


class _TextStream(BaseStreamer):
    """Turns tokens into text as they come; holds back what a later token may still change."""

    def __init__(self, tokenizer: Any, on_text: Callable[[str], None]) -> None:
        self._tokenizer = tokenizer
        self._on_text = on_text
        self._tokens: list[int] | None = None
        self._said = ""

    def put(self, value: Tensor) -> None:
        if self._tokens is None:  # the first call brings the prompt
            self._tokens = []
            return
        self._tokens.extend(value.reshape(-1).tolist())
        text = self._text()
        if not text.endswith("\ufffd"):  # a character whose other bytes are still to come
            self._say(text)

    def end(self) -> None:
        self._say(self._text())

    def _text(self) -> str:
        return self._tokenizer.decode(self._tokens or [], skip_special_tokens=True).lstrip()

    def _say(self, text: str) -> None:
        if len(text) > len(self._said):
            self._on_text(text[len(self._said) :])
            self._said = text


def _until_end(token_ids: list[int], ends: tuple[int, ...]) -> tuple[int, ...]:
    for place, token in enumerate(token_ids):
        if token in ends:
            return tuple(token_ids[:place])
    return tuple(token_ids)
