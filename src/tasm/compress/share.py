"""Which part of a demonstration's tokens an independent build keeps. Knows arithmetic only."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasm.backbone.prompt.transcript import Transcript
from tasm.compress.settings import Settings, Targets
from tasm.compress.sizes import parse_size


@dataclass(frozen=True)
class Share:
    """Which part of every demonstration's tokens is kept, and banked; fixed at the first build."""

    core: float
    bank: float

    @classmethod
    def of(cls, settings: Settings, targets: Targets, transcript: Transcript) -> "Share":
        """What a build's budget comes to for each demonstration.

        A share is meant of each demonstration; the head comes on top. Of tokens or bytes it is the
        largest share with which all of them together stay within it.
        """
        head = int((transcript.demonstration < 0).sum())
        lengths = [stop - start for start, stop in transcript.spans]
        core, bank = (
            size.amount
            if (size := parse_size(written, name)).unit == "share"
            else _largest(lengths, tokens)
            for written, name, tokens in (
                (settings.core, "core", targets.core - head),
                (settings.bank, "bank", targets.bank),
            )
        )
        return cls(core, bank)

    def targets(self, tokens: int, head: int) -> Targets:
        """The budget of one demonstration of so many tokens, the head beside it kept."""
        core = max(1, _rounded(self.core * tokens))
        bank = min(tokens - core, _rounded(self.bank * tokens))
        return Targets(core + head, bank, 0, 0, 0)


def _largest(lengths: Sequence[int], tokens: int) -> float:
    """The largest share, in thousandths, of demonstrations of such lengths that fits."""
    fits = (
        share
        for share in range(1000, 0, -1)
        if sum(_rounded(share * length / 1000) for length in lengths) <= tokens
    )
    return next(fits, 0) / 1000


def _rounded(tokens: float) -> int:
    return int(tokens + 0.5)
