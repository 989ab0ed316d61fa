"""The printed figures of TASM (arXiv 2606.11853v1), tables 1, 2, 3 and 5, for Qwen2-VL-7B.

Each line says which recipe of this package reprints it, at which budget and with how many
demonstrations; lines without a recipe are printed only. Data; imports no torch.
"""

from dataclasses import dataclass

from tasm.errors import InputError


@dataclass(frozen=True)
class Line:
    """One line of a printed table.

    `values` are per cent by benchmark; `core` is a share of the context, by benchmark where it
    differs; `demonstrations` is "none", "few", "many" (the benchmark's own numbers) or a number.
    """

    label: str
    values: dict[str, float | None]
    recipe: str | None = None
    core: str | dict[str, str] | None = None
    demonstrations: str = "many"

    def core_of(self, benchmark: str) -> str | None:
        """Return the core budget on one benchmark."""
        return self.core.get(benchmark) if isinstance(self.core, dict) else self.core


@dataclass(frozen=True)
class Table:
    """One printed table."""

    number: int
    title: str
    benchmarks: tuple[str, ...]
    lines: tuple[Line, ...]


_FIVE = ("imagenet-100", "screenspot", "mme-realworld-lite", "illusionvqa", "ok-vqa")


def _on(benchmarks: tuple[str, ...], *values: float | None) -> dict[str, float | None]:
    return dict(zip(benchmarks, values, strict=True))


_TASM_SHARES = dict(zip(_FIVE, ("21.4%", "16.0%", "19.4%", "24.2%", "14.7%"), strict=True))
_EMLOC_SHARES = dict(zip(_FIVE, ("22.4%", "17.9%", "20.4%", "25.8%", "16.3%"), strict=True))
_THREE = ("imagenet-100", "screenspot", "refcocog")
_TWO = ("imagenet-100", "screenspot")

TABLES: dict[int, Table] = {
    table.number: table
    for table in (
        Table(
            1,
            "Accuracy of many-shot contexts (YouCook2, a video benchmark, left out)",
            _FIVE,
            (
                Line(
                    "zero-shot",
                    _on(_FIVE, 28.0, 14.2, 36.6, 35.3, 52.1),
                    "zero-shot",
                    demonstrations="none",
                ),
                Line(
                    "full context, few",
                    _on(_FIVE, 43.2, 14.7, 39.4, 38.8, 58.4),
                    "full",
                    demonstrations="few",
                ),
                Line("full context, many", _on(_FIVE, 62.6, 18.2, 41.1, 40.9, 58.6), "full"),
                Line("EMLoC", _on(_FIVE, 63.6, 18.3, 42.2, 40.9, 58.7), "emloc", _EMLOC_SHARES),
                Line("TASM", _on(_FIVE, 65.0, 19.5, 43.5, 42.0, 60.1), "tasm-paper", _TASM_SHARES),
                Line("TASM, as here", _on(_FIVE, *[None] * 5), "tasm", _TASM_SHARES),
            ),
        ),
        Table(
            2,
            "V-NIAH: a needle among 10, 50, 100 or 200 images",
            ("v-niah",),
            tuple(
                Line(f"{label}, {count} images", {"v-niah": value}, recipe, core, str(count))
                for label, recipe, core, values in (
                    ("full context", "full", None, (96.5, 94.2, None, None)),
                    ("SparseVLM", "sparsevlm", "20%", (85.2, 42.1, 15.6, 8.4)),
                    ("FastV", "fastv", "20%", (82.4, 38.5, 12.3, 7.1)),
                    ("EMLoC", "emloc", "20%", (91.0, 68.3, 35.2, 18.9)),
                    ("TASM", "tasm-paper", "20%", (95.8, 80.4, 49.1, 45.5)),
                    ("TASM, as here", "tasm", "20%", (None, None, None, None)),
                )
                for count, value in zip((10, 50, 100, 200), values, strict=True)
            ),
        ),
        Table(
            3,
            "Ablation at 20 % (YouCook2 left out)",
            _TWO,
            (
                Line("hard pruning", _on(_TWO, 45.3, 10.5), "tasm-hard-pruning", "20%"),
                Line("+ task vector", _on(_TWO, 55.2, 12.1), "tasm-task-vector", "20%"),
                Line("+ merging", _on(_TWO, 61.8, 18.8), "tasm-merging", "20%"),
                Line("+ retrieval", _on(_TWO, 65.0, 19.5), "tasm-even-layers", "20%"),
            ),
        ),
        Table(
            5,
            "Budgets",
            _THREE,
            (
                Line("full context", _on(_THREE, 62.6, 19.8, 78.5), "full"),
                Line("SnapKV, 20 %", _on(_THREE, 47.6, 8.5, 42.1), "snapkv", "20%"),
                Line("FastV, 20 %", _on(_THREE, 52.3, 12.4, 55.6), "fastv", "20%"),
                Line("EMLoC, 20 %", _on(_THREE, 63.6, 18.3, 75.2), "emloc", "20%"),
                Line("TASM, 20 %", _on(_THREE, 65.0, 19.5, 77.1), "tasm-paper", "20%"),
                Line("TASM, as here, 20 %", _on(_THREE, *[None] * 3), "tasm", "20%"),
                Line("SnapKV, 10 %", _on(_THREE, 42.1, 4.2, 28.3), "snapkv", "10%"),
                Line("FastV, 10 %", _on(_THREE, 45.8, 8.1, 41.5), "fastv", "10%"),
                Line("EMLoC, 10 %", _on(_THREE, 57.7, 12.5, 62.8), "emloc", "10%"),
                Line("TASM, 10 %", _on(_THREE, 60.8, 15.9, 67.4), "tasm-paper", "10%"),
                Line("TASM, as here, 10 %", _on(_THREE, *[None] * 3), "tasm", "10%"),
            ),
        ),
    )
}
"""The tables by number."""


def find_table(number: int) -> Table:
    """Return a printed table; raises InputError for one that is not kept here."""
    if number not in TABLES:
        raise InputError(f"There is no table {number} here; there are tables 1, 2, 3 and 5.")
    return TABLES[number]
