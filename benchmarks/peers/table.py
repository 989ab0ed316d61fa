"""The rows of a comparison as one Markdown table."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from tasm.bench.intervals import Interval, interval, paired_interval

HEAD = (
    "| suite | peer | accuracy | beside tasm | seconds to adapt | bytes | forgotten elsewhere |",
    "|---|---|---|---|---|---|---|",
)


def table(rows: Sequence[dict[str, Any]], peers: Sequence[str]) -> str:
    """One line a suite and peer, over all seeds; accuracies with 95 % intervals.

    "beside tasm" is the peer's accuracy less the memory's on the same queries, "forgotten
    elsewhere" what the other suite's full-context accuracy lost.
    """
    lines = list(HEAD)
    for suite in dict.fromkeys(row["suite"] for row in rows):
        of_suite = {(row["peer"], row["seed"]): row for row in rows if row["suite"] == suite}
        for peer in peers:
            own = [row for (name, _), row in of_suite.items() if name == peer]
            if not own:
                continue
            pairs = [(row, of_suite.get(("tasm", row["seed"]))) for row in own]
            beside = "–"
            if peer != "tasm" and all(other for _, other in pairs):
                beside = _signed(
                    paired_interval(
                        [row["correct"] for row, _ in pairs],
                        [other["correct"] for _, other in pairs if other],
                    )
                )
            found = interval([row["correct"] for row in own])
            forgotten = paired_interval(
                [row["elsewhere_untouched"] for row in own], [row["elsewhere"] for row in own]
            )
            lines.append(
                f"| {suite} | {peer} | {found.mean:.3f} [{found.low:.3f}, {found.high:.3f}] "
                f"| {beside} | {fmean(row['seconds'] for row in own):.1f} "
                f"| {fmean(row['stored_bytes'] for row in own):,.0f} | {_signed(forgotten)} |"
            )
    seeds = sorted({row["seed"] for row in rows})
    return "\n".join(lines) + f"\n\nSeeds: {', '.join(map(str, seeds))}.\n"


def _signed(found: Interval) -> str:
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
