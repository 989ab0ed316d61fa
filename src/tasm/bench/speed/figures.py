"""The rows of the speed table: what each is called, what it means, what is asked of it.

Names, numbers and words only.
"""

from dataclasses import dataclass, replace
from typing import Any

from tasm.compress.recipes.table import PACKED, RECIPES, TUNED, VARIANTS


@dataclass(frozen=True)
class SpeedRow:
    """One row to be measured.

    `at_most` and `at_least` are the limits of `value` (None: reported only); `meaning` says what
    is divided by what.
    """

    name: str
    meaning: str
    unit: str = "ratio"
    at_most: float | None = None
    at_least: float | None = None

    @property
    def limit(self) -> str:
        """The limit in words."""
        if self.at_most is not None:
            return f"at most {self.at_most:g}"
        return "reported" if self.at_least is None else f"at least {self.at_least:g}"

    @property
    def against(self) -> str:
        """The limit and what it is a limit of, in words."""
        return f"{self.limit}: {self.meaning}"

    def without_limits(self) -> "SpeedRow":
        """Return the row as one that is only reported."""
        return replace(self, at_most=None, at_least=None)

    def holds(self, value: float) -> bool:
        """Whether a measured value keeps the limit."""
        if self.at_most is not None and value > self.at_most:
            return False
        return self.at_least is None or value >= self.at_least


COUNTED_RECIPES = tuple(
    name
    for name, recipe in RECIPES.items()
    if recipe.kind == "memory" and recipe not in (*TUNED, *PACKED, *VARIANTS)
)
"""Recipes whose builds are counted: the others are made of the same parts."""

LARGEST_GROWTH = 1.2
"""Of `peak_growth_over_full`: a core of a fifth that is tried while everything is still there."""

PEAK_LENGTHS = (8, 16)
"""Demonstrations of the builds that are counted."""

SPEED_ROWS = (
    SpeedRow(
        "build_over_prefill",
        "whole TASM build / plain prefill with the stock cache",
        at_most=1.3,
    ),
    SpeedRow(
        "compact_build_over_prefill",
        "the same for the recipe compact, where its own parts lose next to nothing",
        at_most=4.0,
    ),
    SpeedRow(
        "emloc_build_over_prefill",
        "the same for EMLoC's published algorithm (emloc-paper), on a quarter of them",
    ),
    SpeedRow(
        "build_peak_over_prefill",
        "peak memory above the weights, joint build / stock prefill",
        at_most=1.1,
    ),
    SpeedRow(
        "streaming_peak_growth",
        "peak of a streaming build at core 512 and bank 1024, 10x demonstrations / 1x",
        at_most=1.2,
    ),
    SpeedRow(
        "decode_over_stock",
        "decode step with a memory, gate never / stock cache of the same length, 4k tokens",
        at_most=1.1,
    ),
    SpeedRow(
        "decode_growth",
        "decode step at core 512 and bank 1024, 10x demonstrations / 1x",
        at_most=1.1,
    ),
    SpeedRow("decode_full_over_memory@1k", "decode step, full context / memory of 20 %, 1k tokens"),
    SpeedRow("decode_full_over_memory@4k", "decode step, full context / memory of 20 %, 4k tokens"),
    SpeedRow(
        "decode_full_over_memory@16k", "decode step, full context / memory of 20 %, 16k tokens"
    ),
    SpeedRow(
        "batch8_expanded_over_shared",
        "decode step of 8 rows on 4k tokens, stock expanded cache / shared memory",
        at_least=2.0,
    ),
    SpeedRow("gate_over_decode", "cost of the shut gate / decode step, gate never", at_most=0.1),
    SpeedRow(
        "decode_ops_over_stock@never",
        "operations of a decode step, gate never / stock cache",
        at_most=1.6,
    ),
    SpeedRow(
        "decode_ops_over_stock@js",
        "operations of a decode step, gate js that stays shut / stock cache",
        at_most=1.6,
    ),
    *(
        SpeedRow(
            f"peak_bytes_per_token@{recipe}:{count}",
            f"most bytes of tensors alive in a build, a token; {count} demonstrations",
            unit="B / token",
        )
        for recipe in COUNTED_RECIPES
        for count in PEAK_LENGTHS
    ),
    SpeedRow(
        "peak_growth_over_full",
        "by how much that peak grows with every token, the recipe that grows most / a stock cache "
        "that reads the same chunks",
        at_most=LARGEST_GROWTH,
    ),
    *(
        SpeedRow(
            f"build_ops_over_prefill@{recipe}",
            "operations of a build / of one that reads in the same chunks and keeps everything",
        )
        for recipe in COUNTED_RECIPES
        if recipe != "full"
    ),
    SpeedRow("core_bytes_over_full", "bytes held by a core of 20 % / full cache", at_most=0.22),
    SpeedRow(
        "open_seconds_per_100mb",
        "tasm.load alone: manifest checked, files mapped, no block read",
        unit="s / 100 MB",
        at_most=0.05,
    ),
    SpeedRow("checked_load_seconds_per_100mb", "load with every block checked", unit="s / 100 MB"),
    SpeedRow(
        "ask_start_over_import",
        "`tasm ask` with the reference model, one token / importing torch and transformers with "
        "the model's classes",
        at_most=1.5,
    ),
)


COLUMNS = ("row", "value", "unit", "limit", "holds", "took", "meaning")


@dataclass(frozen=True)
class Measured:
    """A row with its value, and how long that took to measure."""

    row: SpeedRow
    value: float
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """The row's name."""
        return self.row.name

    @property
    def unit(self) -> str:
        """The value's unit."""
        return self.row.unit

    @property
    def against(self) -> str:
        """The limit in words."""
        return self.row.against

    @property
    def is_missed(self) -> bool:
        """Whether the value misses the row's limit."""
        return not self.row.holds(self.value)

    @property
    def cells(self) -> tuple[str, ...]:
        """The row for people, under `COLUMNS`."""
        held = "" if self.row.limit == "reported" else "MISSED" if self.is_missed else "yes"
        value = f"{self.value:.3f}"
        took = f"{self.seconds:.0f} s"
        return self.name, value, self.unit, self.row.limit, held, took, self.row.meaning

    def to_json(self) -> dict[str, Any]:
        """Return the row as `tasm bench speed --json` prints it."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "against": self.against,
        }
