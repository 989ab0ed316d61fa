"""Greedy generation through transformers' own `generate`, timed.

It neither knows what a memory is nor what a query means: it gets the model's inputs and a cache.
Settings go to `generate` as arguments; nothing on the model changes, so that many threads may
answer from one model. Which tokens end an answer is said in `ends.py`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer

from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.ends import answer_ends
from tasm.backbone.hugging_face import HfTokenizer
from tasm.backbone.model import Backbone
from tasm.backbone.running.one_at_a_time import alone
from tasm.errors import WorkError


@dataclass(frozen=True, eq=False)
class Generated:
    """What a batch of rows generated: token ids without the end token, and what it took.

    `first_logits` is (rows, vocabulary), float32: the logits of the first answer token.
    `log_probabilities` has one number a token, and one more for the end token where there was one.
    """

    token_ids: list[tuple[int, ...]]
    log_probabilities: list[tuple[float, ...]]
    first_logits: Tensor
    prefill_seconds: float
    decode_seconds: float


def generate(
    backbone: Backbone,
    inputs: dict[str, Tensor],
    cache: MemoryCache | None = None,
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
    ends = answer_ends(backbone)
    clock = _Steps()
    streamer = None if on_text is None else _TextStream(backbone.tokenizer, on_text)
    cached = {} if cache is None else {"past_key_values": cache}
    started = time.perf_counter()
    with torch.inference_mode(), alone(backbone.core, cache):
        output = backbone.hf.generate(
            **inputs,
            **cached,
            **greedy_settings(backbone, max_new_tokens),
            logits_processor=LogitsProcessorList([clock]),
            streamer=streamer,
        )
    ended = time.perf_counter()
    if clock.logits is None:
        raise WorkError(
            f"{type(backbone.hf).__name__}.generate() chose no token: it does not call the logits "
            f"processor it is given. Expected a model that generates as transformers does."
        )
    prompt = inputs["input_ids"].shape[1]
    said = [_until_end(row, ends) for row in output[:, prompt:].tolist()]
    rows = zip(said, torch.stack(clock.chosen, 1).tolist(), strict=True)
    return Generated(
        said,
        [tuple(row[: len(token_ids) + 1]) for token_ids, row in rows],
        clock.logits,
        clock.at - started,
        ended - clock.at,
    )


def greedy_settings(backbone: Backbone, max_new_tokens: int) -> dict[str, Any]:
    """Return the arguments that make `generate` greedy, whatever the model's own settings say.

    `generate` fills every setting that it is not given from the model's own, so each one is given:
    the library's neutral value, also where that is None.

    ```python
    settings = greedy_settings(backbone, max_new_tokens=16)
    output = backbone.hf.generate(**inputs, **settings, past_key_values=memory.cache())
    ```
    """
    ends = answer_ends(backbone)
    settings = _neutral_settings()
    misplaced = set(_defaults()) - {"use_cache"}
    if any(getattr(backbone.hf.config, name, None) is not None for name in misplaced):
        # transformers refuses a configuration that holds such settings, unless it is given others.
        settings["generation_config"] = GenerationConfig()
    settings |= {
        "max_new_tokens": max_new_tokens,
        "max_length": None,
        "do_sample": False,
        "num_beams": 1,
        "use_cache": True,
        "eos_token_id": list(ends) or None,
        "pad_token_id": _padding(backbone, ends),
        "bos_token_id": backbone.tokenizer.bos_token_id,
    }
    return settings


def _neutral_settings() -> dict[str, Any]:
    """Every setting that this version of transformers knows, at its neutral value."""
    known = GenerationConfig().to_dict()
    settings = {**known, **_defaults()}
    return {
        name: value
        for name, value in settings.items()
        if not name.startswith("_") and name != "transformers_version"
    }


def _defaults() -> dict[str, Any]:
    """From transformers 5 on a new configuration holds None alone, and these are filled later."""
    found: dict[str, Any] = getattr(GenerationConfig, "_get_default_generation_params", dict)()
    return found


def _padding(backbone: Backbone, ends: tuple[int, ...]) -> int:
    """What a row that has ended is filled with; it is read by the model, so it must exist."""
    own = getattr(getattr(backbone.hf, "generation_config", None), "pad_token_id", None)
    vocabulary = getattr(backbone.hf.config.get_text_config(), "vocab_size", None)
    candidates = (own, backbone.tokenizer.pad_token_id, *ends)
    return next(
        (
            token
            for token in candidates
            if isinstance(token, int) and token >= 0 and (vocabulary is None or token < vocabulary)
        ),
        0,
    )


def decode(backbone: Backbone, token_ids: tuple[int, ...]) -> str:
    """Return the text of an answer, special tokens and outer white space left out."""
    return backbone.tokenizer.decode(token_ids, skip_special_tokens=True).strip()


class _Steps(LogitsProcessor):
    """Notes when the first answer token's logits were there, and the logits themselves; of every
    step how probable the token is that greedy decoding takes, (rows,) each."""

    def __init__(self) -> None:
        self.logits: Tensor | None = None
        self.at = 0.0
        self.chosen: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self.logits is None:
            self.logits = scores.float().cpu()  # waits for the device, so the time is true
            self.at = time.perf_counter()
        said = scores.float()
        self.chosen.append(said.amax(-1) - said.logsumexp(-1))
        return scores


class _TextStream(BaseStreamer):
    """Turns tokens into text as they come; holds back what a later token may still change.

    Not transformers' `TextStreamer`: it forgets its tokens at a line's end, so the pieces need not
    add up to the decoded answer ("one\\n two" loses its space with Llama's tokenizer), and its
    iterator needs a thread.
    """

    def __init__(self, tokenizer: HfTokenizer, on_text: Callable[[str], None]) -> None:
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
