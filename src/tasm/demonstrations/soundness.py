"""What a set of demonstrations says about itself that its author should know.

Knows demonstrations only; it warns and never refuses: what is odd may be meant.
"""

from collections import Counter
from collections.abc import Callable, Sequence

from tasm.demonstrations.accuracy import normalise_answer
from tasm.demonstrations.conversation import Demonstration, content_hash
from tasm.demonstrations.problems import shorten

_SHOWN = 10
_FEWEST = 10
"""Demonstrations from which the share of one answer says anything."""
_LARGEST_SHARE = 0.8


def warn_of_contradictions(
    demonstrations: Sequence[Demonstration], warn: Callable[[str], None]
) -> None:
    """Warn, once, of demonstrations that ask the same and answer differently."""
    first: dict[str, Demonstration] = {}
    found: list[str] = []
    for one in demonstrations:
        earlier = first.setdefault(content_hash(one.messages[:-1]), one)
        if normalise_answer(earlier.answer) != normalise_answer(one.answer):
            found.append(
                f"{one.origin or one.id} answers {shorten(one.answer)!r}, "
                f"{earlier.origin or earlier.id} answers {shorten(earlier.answer)!r}"
            )
    if found:
        more = [f"… and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
        warn(
            f"{len(found)} of {len(demonstrations)} demonstrations contradict another: the same "
            "pictures and question have different answers. All stay; correct what is wrong:"
            + "".join(f"\n  {line}" for line in found[:_SHOWN] + more)
        )


def warn_of_one_answer(
    demonstrations: Sequence[Demonstration], warn: Callable[[str], None]
) -> None:
    """Warn where one answer, of several, holds most of ten demonstrations or more."""
    times = Counter(normalise_answer(one.answer) for one in demonstrations)
    ((answer, most),) = times.most_common(1)
    if len(demonstrations) < _FEWEST or len(times) < 2 or most < _LARGEST_SHARE * times.total():
        return
    shown = next(one.answer for one in demonstrations if normalise_answer(one.answer) == answer)
    warn(
        f"{most} of {len(demonstrations)} demonstrations have the answer {shorten(shown)!r}. The "
        "model may give it too often: show about as many examples of each answer."
    )
