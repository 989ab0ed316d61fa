"""Hooks that keep what a model makes of a pass: final states, logits, what its decoder is given."""

from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from tasm.backbone.head import Head
from tasm.backbone.model import Backbone


class Listening(AbstractContextManager["Listening"]):
    """Keeps the decoder's `final` states and the `logits` of each pass, the last one's in the end.

    ```python
    with Listening(backbone) as heard:
        backbone.encode(chunk, cache)
    heard.final                                       # (batch, n, hidden_size)
    ```
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.final, self.logits = torch.empty(0), torch.empty(0)
        self._hooks = ExitStack()

    def __enter__(self) -> "Listening":
        for hook in (
            self.backbone.decoder.register_forward_hook(self._ended),
            self.backbone.hf.register_forward_hook(self._said),
        ):
            self._hooks.callback(hook.remove)
        return self

    def __exit__(self, *_: object) -> None:
        self._hooks.close()

    def measure_head(self) -> None:
        """Find out, once, what the model makes of its head's product before it says logits."""
        backbone = self.backbone
        if backbone.head is None:
            cap = getattr(backbone.hf.config.get_text_config(), "final_logit_softcapping", None)
            product = backbone.hf.get_output_embeddings()(self.final[:, -1])
            backbone.head = Head.measured(product, self.logits[:, -1], cap)

    def _ended(self, decoder: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self.final = output[0] if isinstance(output, tuple) else output.last_hidden_state

    def _said(self, model: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self.logits = output[0] if isinstance(output, tuple) else output.logits


class ListeningToCalls(Listening):
    """Keeps as well what the decoder is called with, the cache left out."""

    calls: dict[str, Any]

    def __enter__(self) -> "ListeningToCalls":
        super().__enter__()
        decoder: Any = self.backbone.decoder
        hook = decoder.register_forward_pre_hook(self._called, with_kwargs=True, prepend=True)
        self._hooks.callback(hook.remove)
        return self

    def _called(self, decoder: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> None:
        assert not args
        self.calls = {
            name: value.clone() if isinstance(value, Tensor) else value
            for name, value in given.items()
            if name != "past_key_values"
        }
