"""What a method saw and scored in a build of a tiny model, and the stock model's own attention."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tasm.compress.evidence import Stage
from tasm.compress.parts.base import Budget
from tasm.compress.recipes.recipe import Part, Recipe
from tasm.compress.recipes.table import find_recipe
from tests.compress.tiny_backbone import TinyBackbone, build_tiny
from tests.tiny_models import tiny_model

SEEN: list[Stage] = []


@dataclass(frozen=True)
class Capture(Budget):
    """A budget that keeps what it was asked with."""

    def allocate(self, stage: Stage) -> list[Tensor | None]:
        SEEN.append(stage)
        return [
            None if one is None else torch.full((one.kv_heads,), stage.tokens)
            for one in stage.evidence
        ]


def captured(backbone: TinyBackbone, recipe: str | Recipe, seeds: list[int], **given: Any) -> Stage:
    """The stage of a joint build with the recipe's scorer."""
    recipe = replace(
        find_recipe(recipe),
        budget=Part("tests.compress.methods.capture:Capture"),
        reducer=Part("drop"),
    )
    SEEN.clear()
    build_tiny(backbone, backbone.transcript(seeds), recipe=recipe, **given)
    (stage,) = SEEN
    return stage


def stock_model(family: str = "qwen2_vl", **changes: Any) -> Any:
    """The same weights with transformers' own eager attention."""
    model = tiny_model(family, **changes).model
    model.set_attn_implementation("eager")
    return model


def stock_attention(backbone: TinyBackbone, model: Any, seeds: list[int], again: int = 0) -> Any:
    """Attention (layers, query_heads, rows, tokens) over the demonstrations as one prompt; with
    `again` the demonstration of that seed comes once more at the end."""
    transcript = backbone.transcript([*seeds, again] if again else seeds)
    with torch.no_grad():
        output = model(
            **backbone.inputs(transcript.input_ids, transcript.images),
            use_cache=False,
            output_attentions=True,
        )
    return torch.stack(output.attentions)[:, 0].double()
