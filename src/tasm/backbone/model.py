"""One frozen model with its processor: demonstrations in, tokens and keys out.

`Backbone` is all that the rooms above know of transformers' models. It trains nothing and changes nothing
in the model but the attention it runs with.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from tasm.backbone.transcript import Layout, Transcript
from tasm.demonstrations import Demonstration, Query


class Backbone:
    """A loaded model; make one with `load_backbone` or `wrap_backbone`.

    Attributes: `hf` (the transformers model), `processor`, `family` (a row of `FAMILIES`), `decoder`,
    `rotary`, `geometry`, `identity` (computed when first asked for), `device`, `dtype`, `name`.
    """

    hf: nn.Module
    processor: Any
    name: str

    def transcript(
        self,
        demonstrations: Sequence[Demonstration],
        *,
        system: str | None = None,
        max_pixels: int | None = None,
    ) -> Transcript:
        """Lay the demonstrations out in the model's own chat template, tokenised once."""
        raise NotImplementedError

    def encode(self, chunk: Transcript, cache: Any) -> None:
        """Run the model over a chunk; its keys and values become live tokens of `cache` (commit them)."""
        raise NotImplementedError

    def query_inputs(self, queries: Sequence[Query], *, layout: Layout) -> dict[str, Tensor]:
        """Return a left-padded batch of the queries' own tokens, for `hf.generate(past_key_values=…)`."""
        raise NotImplementedError

    def full_inputs(
        self, demonstrations: Sequence[Demonstration], query: Query, *, layout: Layout
    ) -> dict[str, Tensor]:
        """Return the whole conversation as an ordinary prompt (no memory)."""
        raise NotImplementedError
