# ruff: noqa: E501  (lines of the page are longer than lines of code)
"""What a memory costs at the size of Qwen2-VL-7B, predicted: formulas, held against counts.

$ python benchmarks/scaling.py > docs/scaling.md

Counts floating-point operations, bytes read by attention, bytes held and bytes on disk on a small
random model on a CPU, prints each beside its formula, and then the formulas at the large geometry.
Nothing is timed; seconds are operations and bytes divided by rates that the page names.
"""

import argparse
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from tasm.backbone.checkpoint.random_models import RANDOM_MODELS, RandomModel
from tasm.backbone.loading import load_backbone
from tasm.bench.speed.counting import count_build, growth
from tasm.bench.speed.subjects import (
    decode_steps,
    memory_cache,
    noise_demonstrations,
    stock_cache,
    stock_prefill,
    stock_twin,
)
from tasm.compress.api import build
from tasm.demonstrations import Demonstration, read_demonstrations

SMALL, LARGE = "qwen2_vl-deep", "qwen2_vl-7b"
CORE, BANK, BATCH = 0.2, 0.4, 8
LENGTHS = (2_000, 8_000, 16_000, 32_000)
INDEX = 4  # bytes of a kept token's place in the transcript, by layer and head
ASKED = 9 * 8  # rows that `tasm` reads again: three short answers, over everything and two memories

COMMAND = "python benchmarks/scaling.py"


@dataclass(frozen=True)
class Costs:
    """Formulas of one geometry; `each` is the bytes of a number."""

    geometry: RandomModel
    each: int

    @property
    def head_dim(self) -> int:
        return self.geometry.hidden_size // self.geometry.query_heads

    @property
    def decoder_weights(self) -> int:
        """Numbers in the matrices of the decoder's layers."""
        g, d = self.geometry, self.head_dim
        attention = g.hidden_size * d * (2 * g.query_heads + 2 * g.kv_heads)
        return g.layers * (attention + 3 * g.hidden_size * g.intermediate_size)

    @property
    def head_weights(self) -> int:
        """Numbers in the matrix that gives the logits."""
        return self.geometry.hidden_size * self.geometry.vocabulary

    @property
    def token_bytes(self) -> int:
        """Keys and values of one token, all layers."""
        g = self.geometry
        return 2 * g.layers * g.kv_heads * self.head_dim * self.each

    def prefill_flops(self, tokens: int) -> float:
        """Matrices once a token; queries with all keys, twice, a multiplication and an addition;
        the logits of the last token."""
        g = self.geometry
        attention = 4 * g.layers * g.query_heads * self.head_dim * tokens**2
        return 2 * self.decoder_weights * tokens + attention + 2 * self.head_weights

    def build_flops(self, tokens: int) -> float:
        """A build by `tasm`: a prefill; what leaves is compared with what stays; some rows are read
        again over everything."""
        g = self.geometry
        merging = 2 * g.layers * g.kv_heads * self.head_dim * CORE * (1 - CORE) * tokens**2
        reading = 2 * self.decoder_weights * ASKED
        reading += 4 * g.layers * g.query_heads * self.head_dim * ASKED * tokens
        return self.prefill_flops(tokens) + merging + reading

    def decode_flops(self, tokens: int) -> float:
        g = self.geometry
        return 2 * (self.decoder_weights + self.head_weights) + (
            4 * g.layers * g.query_heads * self.head_dim * (tokens + 1)
        )

    def decode_reads(self, tokens: int, copies: int = 1) -> float:
        """Bytes of keys and values that attention reads in a step, live token included."""
        return copies * tokens * self.token_bytes

    def step_bytes(self, tokens: int, copies: int = 1) -> float:
        weights = (self.decoder_weights + self.head_weights) * self.each
        return weights + self.decode_reads(tokens, copies)

    def kept_bytes(self, tokens: float) -> float:
        """Held, and on disk, for so many tokens a layer and head."""
        g = self.geometry
        return tokens * (self.token_bytes + g.layers * g.kv_heads * INDEX)

    def peak_bytes(self, tokens: int) -> float:
        """What grows with the transcript in a build: the full cache, in one buffer a layer."""
        return tokens * self.token_bytes


class Reads(TorchDispatchMode):
    """Bytes of keys and values that attention kernels are given."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "dot_product" in func.name():
            self.bytes += sum(one.nbytes for one in args[1:3] if isinstance(one, Tensor))
        return func(*args, **(kwargs or {}))


def _attention_flops(query: Any, key: Any, *args: Any, **kwargs: Any) -> int:
    """Of the CPU's kernel, which torch does not count: all keys, also those that a mask hides."""
    return 4 * math.prod(query) * key[-2]


_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
}


def flops(work: Callable[[], object]) -> int:
    """Return the floating-point operations of `work`, as torch counts them."""
    with (
        FlopCounterMode(display=False, custom_mapping=_ATTENTION) as counter,
        torch.inference_mode(),
    ):
        work()
    return counter.get_total_flops()


def reads(work: Callable[[], object]) -> int:
    """Return the bytes of keys and values that attention reads in `work`."""
    with torch.inference_mode(), Reads() as counted:
        work()
    return counted.bytes


def counted_rows(tokens: int = 4_000) -> list[tuple[str, float, float]]:
    """Return (what, counted, by formula) on the small model in float32."""
    costs = Costs(RANDOM_MODELS[SMALL], 4)
    backbone = load_backbone(f"random:{SMALL}", dtype="float32", device="cpu")
    stock = stock_twin(backbone)
    rows: list[tuple[str, float, float]] = []
    demonstrations = noise_demonstrations(4, 85)
    read = len(backbone.transcript(demonstrations))
    for count in (30, 60):
        texts = without_pictures(count)
        transcript = backbone.transcript(texts)
        words = len(transcript)
        prefill = flops(lambda: stock_prefill(stock, transcript))  # noqa: B023
        rows.append(
            (f"operations of a prefill, {words} tokens", prefill, costs.prefill_flops(words))
        )
        whole = flops(lambda: build(backbone, texts, recipe="tasm", notice=None))  # noqa: B023
        rows.append((f"operations of a build by `tasm`, {words} tokens", whole,
                     costs.build_flops(words)))  # fmt: skip
    full, kept = stock_cache(backbone, tokens), memory_cache(backbone, int(CORE * tokens))
    rows.append(
        (
            f"operations of a step on {tokens} tokens",
            flops(lambda: decode_steps(stock.hf, full, 1)),
            costs.decode_flops(tokens),
        )
    )
    rows.append(
        (
            f"operations of a step beside {int(CORE * tokens)} tokens",
            flops(lambda: decode_steps(backbone.hf, kept, 1)),
            costs.decode_flops(int(CORE * tokens)),
        )
    )
    full, shared = stock_cache(backbone, tokens, BATCH), memory_cache(backbone, tokens)
    live = costs.decode_reads(1, BATCH)
    rows.append(
        (
            f"bytes of keys and values read in a step of {BATCH} rows, stock",
            reads(lambda: decode_steps(stock.hf, full, 1, BATCH)),
            costs.decode_reads(tokens, BATCH) + live,
        )
    )
    rows.append(
        (
            f"the same beside a memory of {tokens} tokens",
            reads(lambda: decode_steps(backbone.hf, shared, 1, BATCH)),
            costs.decode_reads(tokens) + live,
        )
    )
    memory = build(backbone, demonstrations, recipe="tasm", core=CORE, bank=BANK)
    with tempfile.TemporaryDirectory() as folder:
        memory.save(Path(folder) / "m.tasm")
        disk = sum(one.stat().st_size for one in (Path(folder) / "m.tasm").rglob("*.safetensors"))
    rows.append(("bytes held of core and bank", memory.core_bytes + memory.bank_bytes,
                 costs.kept_bytes((CORE + BANK) * read)))  # fmt: skip
    rows.append(("bytes on disk of core and bank", disk, costs.kept_bytes((CORE + BANK) * read)))
    ends = [count_build(backbone, "full", count) for count in (2, 4)]
    rows.append(("bytes by which a build's peak grows with a token, full context",
                 growth(*ends), costs.peak_bytes(1)))  # fmt: skip
    return rows


def without_pictures(count: int) -> list[Demonstration]:
    """Return demonstrations of text alone: what reads pictures is not the decoder's."""
    question = "Which of the words belongs to this picture?"
    return read_demonstrations(
        [{"question": f"{number} {question}", "answer": str(number)} for number in range(count)]
    )


def page(tflops: float, gigabytes: float) -> str:
    """Return the page as Markdown."""
    small, large = RANDOM_MODELS[SMALL], RANDOM_MODELS[LARGE]
    costs = Costs(large, 2)
    lines = [
        "# At the size of a 7B model",
        "",
        "Predicted from counts; what one GPU then took is on [its page](gpu.md). Operations and bytes are counted on a small random",
        f"model (`random:{SMALL}`: {small.layers} layers, {small.kv_heads} KV heads of "
        f"{small.hidden_size // small.query_heads}) on a CPU and held",
        "against formulas of the geometry; then the formulas say what the geometry of Qwen2-VL-7B",
        f"({large.layers} layers, {large.kv_heads} KV heads of {costs.head_dim}, bfloat16) comes to. "
        "This prints the page anew:",
        "",
        "```text",
        f"$ {COMMAND} > docs/scaling.md",
        "```",
        "",
        "## Counted, and by formula",
        "",
        "| on the small model, float32 | counted | formula | counted / formula |",
        "|---|---|---|---|",
    ]
    for what, counted, formula in counted_rows():
        lines.append(f"| {what} | {counted:,.0f} | {formula:,.0f} | {counted / formula:.3f} |")
    lines += [
        "",
        "The formulas, for T tokens, L layers, H query heads and K KV heads of d numbers, W numbers in",
        "the layers' matrices, V in the one that gives logits, b bytes a number:",
        "",
        "| | |",
        "|---|---|",
        "| prefill | 2·W·T + 4·L·H·d·T² + 2·V operations (the causal half is counted whole, as torch counts it) |",
        "| step on T tokens | 2·(W + V) + 4·L·H·d·(T + 1) operations; (W + V)·b + 2·L·K·d·b·T bytes read |",
        "| step of 8 rows | the same weights; stock reads 8 times the keys and values, a memory once |",
        "| core and bank, held and on disk | n·(2·L·K·d·b + 4·L·K) bytes for n tokens a layer and head |",
        "| peak of a build that keeps everything | T·2·L·K·d·b bytes, and what does not grow: a chunk's activations |",
        "",
        "What a build computes beside the prefill depends on the recipe; `tasm bench speed` times it",
        "(`build_over_prefill` and the like). By how much each recipe's peak grows: `peak_bytes_per_token`.",
        "",
        f"## Predicted: {LARGE}, bfloat16",
        "",
        f"Seconds and milliseconds are operations at {tflops:g} TFLOP/s or bytes at {gigabytes:g} GB/s, whichever",
        "takes longer: rates assumed of one large GPU, not measured. Core 20 %, bank 40 %.",
        "",
        "| tokens | " + " | ".join(f"{length:,}" for length in LENGTHS) + " |",
        "|---|" + "---|" * len(LENGTHS),
    ]

    def seconds(operations: float, bytes_read: float) -> float:
        return max(operations / (tflops * 1e12), bytes_read / (gigabytes * 1e9))

    def step(tokens: int, rows: int, copies: int) -> float:
        read = costs.step_bytes(tokens, copies)
        return 1e3 * seconds(rows * costs.decode_flops(tokens), read)

    def row(name: str, value: Callable[[int], str]) -> None:
        lines.append(f"| {name} | " + " | ".join(value(length) for length in LENGTHS) + " |")

    row("prefill, s", lambda n: f"{seconds(costs.prefill_flops(n), 0):.2f}")
    row(
        "build by `tasm`, s",
        lambda n: f"{seconds(costs.build_flops(n), 0):.2f}",
    )
    row("step on the full context, ms", lambda n: f"{step(n, 1, 1):.2f}")
    row("step beside a core of 20 %, ms", lambda n: f"{step(int(CORE * n), 1, 1):.2f}")
    row("full / memory", lambda n: f"{step(n, 1, 1) / step(int(CORE * n), 1, 1):.2f}")
    row("8 rows, stock cache, ms", lambda n: f"{step(n, BATCH, BATCH):.2f}")
    row("8 rows, one memory of 20 %, ms", lambda n: f"{step(int(CORE * n), BATCH, 1):.2f}")
    row(
        "stock / memory, 8 rows",
        lambda n: f"{step(n, BATCH, BATCH) / step(int(CORE * n), BATCH, 1):.2f}",
    )
    row("full cache, MB", lambda n: f"{n * costs.token_bytes / 1e6:,.0f}")
    row("8 stock caches, MB", lambda n: f"{BATCH * n * costs.token_bytes / 1e6:,.0f}")
    row("core, MB", lambda n: f"{costs.kept_bytes(CORE * n) / 1e6:,.0f}")
    row("core and bank, on disk, MB", lambda n: f"{costs.kept_bytes((CORE + BANK) * n) / 1e6:,.0f}")
    row(
        "peak of a build that keeps everything, above the weights, what grows, MB",
        lambda n: f"{costs.peak_bytes(n) / 1e6:,.0f}",
    )
    lines += [
        "",
        f"The weights are read in every step ({(costs.decoder_weights + costs.head_weights) * 2 / 1e9:.1f} GB), so that one row gains little from a",
        "memory until contexts are long; many rows gain much, because all of them read it once.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tflops", type=float, default=400.0)
    parser.add_argument("--gigabytes", type=float, default=2_000.0, help="a second")
    given = parser.parse_args()
    print(page(given.tflops, given.gigabytes))


if __name__ == "__main__":
    main()
