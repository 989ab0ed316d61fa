"""The three kinds of parts that a recipe composes, as protocols.

A part is a small frozen dataclass in a file of its own with one method. It says in `records` what
must be gathered while the demonstrations are read. A scorer with a further attribute `replayed` (a
tuple of records) has the demonstrations read once more before it scores, against everything, and
finds those records in `evidence.replayed`; one with a method `source_layer(layer, layers)` gives
layers the scores of another (`tasm.compress.sharing`); budgets and reducers may name `records`,
too, and `replayed` ones; a budget with `resumes = True` finds that reading in `stage.read`, ready
to be resumed at any layer (`tasm.compress.replay`).
"""

from typing import Protocol, runtime_checkable

from torch import Tensor

from tasm.compress.evidence import Evidence, Reduced, Selection, Stage
from tasm.compress.records.received import Record


@runtime_checkable
class Scorer(Protocol):
    """Gives every token an importance, per layer and KV head.

    ```python
    @dataclass(frozen=True)
    class KeyNorm:
        records: ClassVar[tuple[Record, ...]] = ()

        def score(self, evidence: Evidence) -> Tensor:
            return -evidence.keys.float().norm(dim=-1)
    ```
    """

    @property
    def records(self) -> tuple[Record, ...]:
        """What it reads from `evidence.records`."""
        ...

    def score(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries) float32, larger is more important, finite.

        System prompt and BOS are kept whatever they get; padding is ignored.
        """
        ...


@runtime_checkable
class Budget(Protocol):
    """Says how many tokens every layer and KV head keep."""

    def allocate(self, stage: Stage) -> list[Tensor | None]:
        """Return by layer (kv_heads,) int64 counts, the always kept ones included; None as in the
        stage.

        Their mean over competing layers and heads should be at most `stage.tokens`.
        """
        ...


@runtime_checkable
class Reducer(Protocol):
    """Says how the others leave: dropped, or merged into what is kept."""

    def reduce(self, evidence: Evidence, selection: Selection, scores: Tensor) -> Reduced:
        """Return the kept entries in the order of `selection.order`."""
        ...
