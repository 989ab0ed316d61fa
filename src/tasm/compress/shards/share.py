"""Which part of a demonstration's tokens an independent build keeps. Knows arithmetic only."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasm.backbone.prompt.transcript import Transcript
from tasm.compress.settings import Settings, Targets
from tasm.compress.sizes import Costs, parse_size
from tasm.errors import BudgetError


@dataclass(frozen=True)
class Share:
    """Which part of a demonstration's tokens is kept, and banked; fixed at the first build. The
    first demonstration of a build is kept whole."""

    core: float
    bank: float

    @classmethod
    def of(cls, settings: Settings, targets: Targets, transcript: Transcript) -> "Share":
        """What a build's budget comes to for each demonstration.

        A share is meant of each demonstration; the head and the first demonstration, which is kept
        whole, come on top. Of tokens or bytes it is the largest share with which all of them
        together stay within it. Raises BudgetError where not even one token of each does.
        """
        lengths = [stop - start for start, stop in transcript.spans[1:]]
        whole = len(transcript) - sum(lengths)
        core, bank = (
            size.amount
            if (size := parse_size(written, name)).unit == "share"
            else _largest(lengths, tokens)
            for written, name, tokens in (
                (settings.core, "core", targets.core - whole),
                (settings.bank, "bank", targets.bank),
            )
        )
        smallest = whole + len(lengths)
        if parse_size(settings.core, "core").unit != "share" and targets.core < smallest:
            raise BudgetError(
                f"The core budget {settings.core} comes to {targets.core} tokens per layer and KV "
                "head. In mode independent the system prompt and the first demonstration are kept "
                f"whole, and a token of every other: {smallest} is the smallest possible."
            )
        return cls(core, bank)

    def targets(self, tokens: int, head: int) -> Targets:
        """The budget of one demonstration of so many tokens, the head beside it kept."""
        core = max(1, _rounded(self.core * tokens))
        bank = min(tokens - core, _rounded(self.bank * tokens))
        return Targets(core + head, bank, 0, 0, 0)

    def whole(self, transcript: Transcript, costs: Costs) -> Targets:
        """The budget of all demonstrations together, the head and the first of them kept whole."""
        lengths = [stop - start for start, stop in transcript.spans[1:]]
        found = [self.targets(length, 0) for length in lengths]
        core = len(transcript) - sum(lengths) + sum(one.core for one in found)
        return Targets.of(core, sum(one.bank for one in found), costs)


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
