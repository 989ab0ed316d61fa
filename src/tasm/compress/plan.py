"""`tasm build --plan`: what a build would come to, from token counts; it builds nothing."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch

from tasm.arguments import listener, unheard
from tasm.backbone.given import as_backbone
from tasm.backbone.limits import check_transcript
from tasm.backbone.model import Backbone
from tasm.backbone.prompt.transcript import Transcript
from tasm.compress.chunks import chunk_edges
from tasm.compress.given import as_demonstrations
from tasm.compress.polish.polishing import check_polishing
from tasm.compress.recipes.recipe import Recipe
from tasm.compress.recipes.table import DEFAULT_RECIPE
from tasm.compress.records.row_rules import Rows
from tasm.compress.settings import Settings, Targets, costs_of, targets_at, warn
from tasm.compress.shards.independent import ASKED, calibrates, refuse_other_layers
from tasm.compress.shards.share import Share
from tasm.compress.streams.arriving import KEPT_IMAGE_BYTES

_PATCHES_A_TOKEN = 4  # what most vision towers merge into one token
_FLOAT_BYTES, _INDEX_BYTES, _HALF_BYTES = 4, 4, 2
_BLOCK = 1 << 21  # numbers of a block of attention; never is all of it held
_LIBRARIES = 6 * 10**6  # what a process on a CPU grows by when a model first runs in it
_GAPS, _FEW_GAPS = 1.55, 1.2  # resident bytes over live ones, measured with glibc


def plan(
    model: Any,
    demonstrations: Any,
    *,
    recipe: str | Recipe = DEFAULT_RECIPE,
    core: str | float | None = None,
    bank: str | float | None = None,
    mode: Literal["joint", "streaming", "independent"] = "joint",
    chunk_tokens: int | None = None,
    question: str | None = None,
    system: str | None = None,
    max_pixels: int | None = None,
    store: str | torch.dtype | None = None,
    skip_bad_rows: bool = False,
    seed: int = 0,
    shown: int = 1,
    polish: int = 0,
    notice: Callable[[str], None] | None = warn,
) -> dict[str, Any]:
    """Return what `build` with the same arguments would come to, as JSON values.

    ```python
    tasm.plan(model, "birds.jsonl", core="64MB")["peak_memory_bytes"]      # an estimate
    ```

    Fields: model, recipe, mode, demonstrations, chunks, tokens, core_tokens, bank_tokens (per layer
    and KV head), full_bytes, core_bytes, bank_bytes, peak_memory_bytes (above the weights,
    estimated), seconds (estimated); the estimates are without a polish. Raises what `build` raises.
    """
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
        shown=shown,
        polish=polish,
    )
    listener(notice, "notice")
    rows = as_demonstrations(
        demonstrations, question=question, skip_bad_rows=skip_bad_rows, notice=notice
    )
    backbone = as_backbone(model)
    # A streaming build does not hold all pictures' tensors.
    limit = {"kept_bytes": KEPT_IMAGE_BYTES} if settings.mode == "streaming" else {}
    transcript = backbone.transcript(
        rows, system=settings.system, max_pixels=settings.max_pixels, **limit
    )
    check_transcript(transcript, backbone.geometry)
    costs = costs_of(settings, backbone, transcript)
    budget = targets_at(settings, costs, notice or unheard)
    if settings.polish:
        check_polishing(backbone, rows)
    if settings.mode == "independent":
        refuse_other_layers(backbone)
        budget = Share.of(settings, budget, transcript).whole(transcript, costs)
        asked = _asked_bytes(settings, backbone, transcript)
        budget = replace(budget, core_bytes=budget.core_bytes + asked)
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


def _asked_bytes(settings: Settings, backbone: Backbone, transcript: Transcript) -> int:
    """What an independent memory keeps of the queries that teach its gate."""
    if not calibrates(settings):
        return 0
    rows = Rows.of(transcript, 0, len(transcript))
    geometry = backbone.geometry
    layers = geometry.layers * geometry.query_heads * geometry.head_dim
    return len(ASKED.chosen(rows)) * (_INDEX_BYTES + _HALF_BYTES * layers)


def _peak(
    settings: Settings,
    backbone: Backbone,
    transcript: Transcript,
    budget: Targets,
    edges: Sequence[tuple[int, int]],
) -> int:
    """Bytes above the weights at the worst moment.

    Live at once: keys and values, one layer's work on them, a chunk's activations, image tensors
    and a block of attention. On a CPU a process holds more than is live: the libraries' own, and
    the gaps that the C library's heap leaves between tensors of many sizes (factors as measured).
    """
    spans, geometry = transcript.spans, backbone.geometry
    chunk = max(spans[stop - 1][1] - spans[first][0] for first, stop in edges)
    token_bytes = budget.full_bytes / max(1, len(transcript))
    bounded = min(len(transcript), chunk + budget.core)
    held = len(transcript) if settings.mode == "joint" else bounded
    text = backbone.hf.config.get_text_config()
    inner = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    layers = geometry.layers
    work = 4 * held * token_bytes / layers
    kept = (budget.bank_bytes + budget.core_bytes) / layers
    pixels = sum(packed.values.nbytes for packed in transcript.images.tensors.values())
    activations = chunk * (4 * text.hidden_size + 2 * inner) * backbone.dtype.itemsize
    block = _FLOAT_BYTES * min(_BLOCK, geometry.query_heads * chunk * held)
    live = held * token_bytes + work + kept + activations + pixels + block
    if backbone.device.type != "cpu":
        return int(live)
    gaps = _GAPS if _compares(settings.recipe) else _FEW_GAPS
    return int(_LIBRARIES + gaps * live)


def _compares(recipe: Recipe) -> bool:
    """Whether tokens are compared with each other, or their attention is looked at: more work than
    a rule of places such as that of `recent`."""
    by_place = recipe.scorer is not None and recipe.scorer.name in ("equal", "random", "recent")
    return not (by_place and recipe.reducer is not None and recipe.reducer.name == "drop")


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
