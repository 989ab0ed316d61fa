"""`tasm build --plan`: what a build would come to, from token counts; it builds nothing."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from tasm.backbone.model import Backbone
from tasm.backbone.prompt.transcript import Transcript
from tasm.compress.api import as_demonstrations, lay_out
from tasm.compress.chunks import chunk_edges
from tasm.compress.limits import check_transcript
from tasm.compress.recipes.recipe import Recipe
from tasm.compress.settings import Settings, Targets, targets, warn

_PATCHES_A_TOKEN = 4  # what most vision towers merge into one token


def plan(
    model: Any,
    demonstrations: str | Path | Sequence[Any],
    *,
    recipe: str | Recipe = "tasm",
    core: str | int | None = None,
    bank: str | int | None = None,
    mode: str = "joint",
    chunk_tokens: int | None = None,
    system: str | None = None,
    max_pixels: int | None = None,
    store: str | None = None,
    seed: int = 0,
    notice: Callable[[str], None] = warn,
) -> dict[str, Any]:
    """Return what `build` with the same arguments would come to, as JSON values.

    ```python
    plan(model, "birds.jsonl", core="64MB")["seconds"]      # an estimate
    ```

    Fields: model, recipe, mode, demonstrations, chunks, tokens, core_tokens, bank_tokens (per layer
    and KV head), full_bytes, core_bytes, bank_bytes, peak_memory_bytes (above the weights,
    estimated), seconds (estimated). Raises what `build` raises.
    """
    backbone: Backbone = getattr(model, "backbone", model)
    settings = Settings.of(
        recipe=recipe,
        core=core,
        bank=bank,
        mode=mode,
        chunk_tokens=chunk_tokens,
        system=system,
        max_pixels=max_pixels,
        store=store,
        seed=seed,
    )
    rows = as_demonstrations(demonstrations)
    transcript = lay_out(backbone, rows, settings)
    check_transcript(transcript, backbone.geometry)
    budget = targets(settings, backbone, transcript, notice)
    edges = chunk_edges(transcript.spans, settings.chunk_tokens)
    return {
        "model": backbone.name,
        "recipe": settings.recipe.name,
        "mode": settings.mode,
        "demonstrations": len(rows),
        "chunks": len(edges),
        "tokens": len(transcript),
        "core_tokens": budget.core,
        "bank_tokens": budget.bank,
        "full_bytes": budget.full_bytes,
        "core_bytes": budget.core_bytes,
        "bank_bytes": budget.bank_bytes,
        "peak_memory_bytes": _peak(settings, backbone, transcript, budget, edges),
        "seconds": float(f"{_flops(backbone, transcript) / _flops_a_second(backbone):.3g}"),
    }


def _peak(
    settings: Settings,
    backbone: Backbone,
    transcript: Transcript,
    budget: Targets,
    edges: Sequence[tuple[int, int]],
) -> int:
    """Keys and values held at once, one layer's work on them, and a chunk's activations."""
    spans = transcript.spans
    chunk = max(spans[stop - 1][1] - spans[first][0] for first, stop in edges)
    token_bytes = budget.full_bytes / max(1, len(transcript))
    bounded = min(len(transcript), chunk + budget.core)
    held = len(transcript) if settings.mode == "joint" else bounded
    text = backbone.hf.config.get_text_config()
    inner = getattr(text, "intermediate_size", 4 * text.hidden_size)
    layers = backbone.geometry.layers
    work = 4 * held * token_bytes / layers
    kept = (budget.bank_bytes + budget.core_bytes) / layers
    pixels = sum(packed.values.nbytes for packed in transcript.images.tensors.values())
    activations = chunk * (4 * text.hidden_size + 2 * inner) * backbone.dtype.itemsize
    return int(held * token_bytes + work + kept + activations + pixels)


def _flops(backbone: Backbone, transcript: Transcript) -> float:
    """Multiplications and additions of one pass over the demonstrations."""
    tokens, geometry = len(transcript), backbone.geometry
    decoder = sum(parameter.numel() for parameter in backbone.decoder.layers.parameters())
    embedding = sum(p.numel() for p in backbone.decoder.parameters()) - decoder
    everything = sum(parameter.numel() for parameter in backbone.hf.parameters())
    vision = max(0, everything - decoder - 2 * embedding)
    images = int((transcript.place[:, 0] >= 0).sum())
    attention = 2 * geometry.layers * geometry.query_heads * geometry.head_dim * tokens**2
    return 2 * decoder * tokens + 2 * vision * images * _PATCHES_A_TOKEN + attention


def _flops_a_second(backbone: Backbone) -> float:
    """Measured on one product of matrices, the best of three."""
    size = 768
    matrix = torch.ones(size, size, device=backbone.device, dtype=backbone.dtype)
    times = []
    for _ in range(3):
        started = time.perf_counter()
        float((matrix @ matrix)[0, 0])
        times.append(time.perf_counter() - started)
    return 2 * size**3 / min(times)
