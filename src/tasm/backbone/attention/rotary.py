"""Rotating keys to positions and back, exactly as the model does it.

Uses the model's own rotary module and its family's own `apply` function, so that sections,
interleaving, partial rotation, scaling and per-layer bases need no table here. Knows no caches.
"""

import copy
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from tasm.backbone.decoder import Decoder, attention_modules, find_decoder
from tasm.backbone.geometry import layer_kinds, rope_parameters, text_config
from tasm.backbone.hugging_face import HfModel
from tasm.errors import InputError, ModelError


class Rotary:
    """The rotary embedding of one model, and its exact inverse.

    ```python
    rotary = Rotary(model)
    plain = rotary.unrotate(layer, keys, positions)    # as k_proj (and a key norm) gave them
    again = rotary.rotate(layer, plain, positions)
    ```

    Raises ModelError for a model without rotary positions.
    """

    def __init__(self, model: HfModel) -> None:
        decoder = find_decoder(model)
        self._modules = attention_modules(decoder)
        self._config = text_config(model.config)
        self._kinds = layer_kinds(model.config)
        # Copies: dynamic scaling writes into its buffers, and the model's own must not change.
        self._embeddings = {
            name: copy.deepcopy(module)
            for name in ("rotary_emb", "rotary_emb_local")
            if (module := getattr(decoder, name, None)) is not None
        }
        self._switch = length_switch(decoder)
        self._length: int | None = None
        self._scaled: dict[tuple[str, int | None], bool] = {}
        if "rotary_emb" not in self._embeddings:
            raise ModelError(
                f"{type(decoder).__name__} has no `rotary_emb`: tasm needs rotary positions."
            )

    def for_length(self, tokens: int) -> "Rotary":
        """Return the rotation as it is in a prompt of so many tokens: itself, except where the
        frequencies depend on the length."""
        if self._switch is None or tokens <= self._switch.length:
            return self
        longer = copy.copy(self)
        longer._length = tokens
        return longer

    def rotate(self, layer: int, keys: Tensor, positions: Tensor) -> Tensor:
        """Rotate plain keys to positions.

        Shapes: keys (kv_heads, tokens, head_dim); positions (rows, tokens), or (rows, kv_heads,
        tokens) where heads keep different tokens; rows is 3 for multi-dimensional positions, else
        1. Computed in float32, returned in the keys' dtype.
        """
        return self._apply(layer, keys, positions, False).to(keys.dtype)

    def unrotate(self, layer: int, keys: Tensor, positions: Tensor) -> Tensor:
        """Return the plain float32 keys of rotated ones: the exact inverse of `rotate`."""
        return self._apply(layer, keys, positions, True)

    def _apply(self, layer: int, keys: Tensor, positions: Tensor, inverse: bool) -> Tensor:
        cos, sin = self._angles(layer, positions, keys)
        module = self._modules[layer]
        heads = keys.float()[:, None] if positions.ndim == 3 else keys.float()[None]
        turned = _turn(module, heads, cos, -sin if inverse else sin, self._sections())
        if inverse and self._is_scaled(layer, cos, sin):
            square = cos.square() + sin.square()
            turned = turned / _turn(
                module, torch.ones_like(heads), square, torch.zeros_like(sin), self._sections()
            )
        return turned[:, 0] if positions.ndim == 3 else turned[0]

    def _is_scaled(self, layer: int, cos: Tensor, sin: Tensor) -> bool:
        """Whether cos² + sin² is not 1 but attention_scaling² (yarn): alike at all positions, so
        that one is looked at once."""
        kind = (self._kinds[layer], self._length)
        if kind not in self._scaled and cos.shape[-2]:
            square = cos[..., :1, :].square() + sin[..., :1, :].square()
            self._scaled[kind] = not torch.allclose(square, torch.ones_like(square), atol=1e-4)
        return self._scaled.get(kind, False)

    def _sections(self) -> Any:
        return rope_parameters(self._config).get("mrope_section")

    def _angles(self, layer: int, positions: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin as the attention module gets them, float32, heads in the batch's place."""
        places = positions if positions.ndim == 3 else positions[:, None]
        places = places[0] if places.shape[0] == 1 else places
        probe = torch.empty(1, dtype=torch.float32, device=keys.device)
        embedding = self._embeddings["rotary_emb"].to(keys.device)
        if self._kinds[layer] == "sliding" and "rotary_emb_local" in self._embeddings:
            embedding = self._embeddings["rotary_emb_local"].to(keys.device)
        places = places.to(keys.device)
        if self._length is not None:  # the module takes the length from the largest position
            last = torch.full_like(places[..., :1], self._length - 1)
            places = torch.cat([places, last], -1)
        if "layer_type" in _parameters(type(embedding).forward):
            cos, sin = embedding(probe, places, self._config.layer_types[layer])
        else:
            cos, sin = embedding(probe, places)
        tokens = positions.shape[-1]
        return cos[..., :tokens, :].float(), sin[..., :tokens, :].float()


@dataclass(frozen=True)
class LengthSwitch:
    """A rotation whose frequencies depend on how long the prompt is.

    Up to `length` positions they are the same. Beyond it `longrope` has one other set for all
    lengths, `dynamic` a set for each.
    """

    kind: str
    length: int

    def check(self, before: int, end: int) -> None:
        """Raise InputError where tokens of one conversation would be rotated differently.

        `before` are the positions read so far, the memory's included; `end` those after this call.
        """
        if end <= self.length or (self.kind == "longrope" and not 0 < before <= self.length):
            return
        way_out = (
            ""
            if self.kind == "dynamic"
            else (
                f", or read more than {self.length:,} positions of demonstrations in one chunk "
                "(--chunk-tokens)"
            )
        )
        raise InputError(
            f"This model's rotation ({self.kind}) changes where a prompt passes {self.length:,} "
            f"positions, and this one passes it: {before:,} were read before, and it ends at "
            f"{end:,}. What was read before is rotated for another length. Use fewer "
            "demonstrations, smaller images or shorter answers, so that everything ends within "
            f"{self.length:,}{way_out}."
        )


def length_switch(decoder: Decoder) -> LengthSwitch | None:
    """Return where a decoder's rotation changes with the prompt's length, or None."""
    config = text_config(decoder.config)
    parameters = rope_parameters(config)
    nested = [value for value in parameters.values() if isinstance(value, dict)]
    switches = []
    for part in [parameters, *nested]:
        kind = str(part.get("rope_type", part.get("type", "")))
        if kind != "longrope" and "dynamic" not in kind:
            continue
        trained = config.max_position_embeddings
        if kind == "longrope":
            trained = part.get("original_max_position_embeddings") or getattr(
                config, "original_max_position_embeddings", trained
            )
        switches.append(LengthSwitch("longrope" if kind == "longrope" else "dynamic", int(trained)))
    return min(switches, key=lambda switch: switch.length, default=None)


@cache
def _parameters(function: Callable[..., Any]) -> list[str]:
    """The names of a function's parameters."""
    return list(inspect.signature(function).parameters)


def _turn(module: nn.Module, keys: Tensor, cos: Tensor, sin: Tensor, sections: Any) -> Tensor:
    """Call the family's own function on keys (batch, heads, tokens, head_dim)."""
    family: Any = sys.modules[type(module).__module__]
    queries = keys[:, :0]  # it turns both, and none are wanted
    if cos.ndim == 4:  # transformers before 5: three rows of angles, mixed by the apply function
        return family.apply_multimodal_rotary_pos_emb(queries, keys, cos, sin, sections)[1]
    apply = family.apply_rotary_pos_emb
    if _parameters(apply)[1] in ("k", "key"):
        return apply(queries, keys, cos, sin)[1]
    return apply(keys, cos, sin)
