"""What a memory must reach and may take, and the sentence that says why one was chosen."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasm.arguments import share
from tasm.compress.sizes import parse_size
from tasm.errors import InputError
from tasm.sizing.judge import Evaluation

TARGET_AGREEMENT = 0.95


@dataclass(frozen=True)
class Target:
    """What a memory must reach; `searches` is False where the recipe's own core is judged."""

    agreement: float | None
    accuracy: float | None
    max_bytes: str | None
    searches: bool

    @classmethod
    def of(
        cls,
        agreement: float | None,
        accuracy: float | None,
        max_bytes: str | None,
        folds: int | None,
    ) -> "Target":
        """Check what was given; agreement 0.95 where nothing was."""
        if agreement is not None and accuracy is not None:
            raise InputError(
                "target_agreement and target_accuracy are both given; expected one of them."
            )
        for value, name in ((agreement, "target_agreement"), (accuracy, "target_accuracy")):
            if value is not None:
                share(value, name)
        if max_bytes is not None and parse_size(max_bytes, "max_bytes").unit == "tokens":
            raise InputError(
                f"max_bytes is {max_bytes!r}; expected bytes, such as 64MB, or a share of the "
                "full context's, such as 10%."
            )
        nothing = agreement is None and accuracy is None and max_bytes is None
        if nothing and folds is None:
            agreement = TARGET_AGREEMENT
        return cls(agreement, accuracy, max_bytes, not (nothing and folds is not None))

    @property
    def is_aimed(self) -> bool:
        """Whether answers must reach something, beside the bytes."""
        return self.agreement is not None or self.accuracy is not None

    def hold(self, one: Evaluation) -> bool:
        """Whether an evaluation reaches the target."""
        if self.agreement is not None and one.agreement < self.agreement:
            return False
        return self.accuracy is None or (one.accuracy is not None and one.accuracy >= self.accuracy)

    def bytes_of(self, full_bytes: int) -> int:
        """The most bytes of core and bank; a share is of the full context's."""
        assert self.max_bytes is not None
        size = parse_size(self.max_bytes, "max_bytes")
        return int(size.amount * full_bytes if size.unit == "share" else size.amount)

    def why(
        self,
        chosen: Evaluation | None,
        evaluations: Sequence[Evaluation],
        full_accuracy: float | None,
    ) -> str:
        """A sentence: what was chosen, and what it is better than."""
        wanted = []
        if self.agreement is not None:
            wanted.append(f"agreement {self.agreement:g}")
        if self.accuracy is not None:
            wanted.append(f"accuracy {self.accuracy:g}")
        if self.max_bytes is not None:
            wanted.append(f"at most {self.max_bytes}")
        target = " and ".join(wanted)
        if chosen is None:
            best = max(
                evaluations, key=lambda one: (one.accuracy or 0, one.agreement), default=None
            )
            seen = "no core fits" if best is None else f"the best was {_figures(best)}"
            full = (
                "" if full_accuracy is None else f"; all demonstrations reach {full_accuracy:.3f}"
            )
            return f"Nothing reaches {target}: {seen}{full}."
        if not wanted:
            return f"{_figures(chosen)}, judged without a target."
        smaller = [one for one in evaluations if one.stored_bytes < chosen.stored_bytes]
        below = max(smaller, key=lambda one: one.stored_bytes, default=None)
        rest = "" if below is None else f" The next smaller that was tried: {_figures(below)}."
        return f"{_figures(chosen)}: the smallest found with {target}.{rest}"


def _figures(one: Evaluation) -> str:
    core = "" if one.core is None else f" with a core of {one.core}"
    accuracy = "" if one.accuracy is None else f", accuracy {one.accuracy:.3f}"
    size = one.stored_bytes / 1e6
    return f"{one.recipe}{core} ({size:.2f} MB, agreement {one.agreement:.3f}{accuracy})"
