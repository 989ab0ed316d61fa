"""What a set of demonstrations says about itself that its author should know.

Answers that contradict each other, one answer nearly everywhere, and pictures that the bundled
model does not know: those of its own suites have a thin frame of one colour, so a look at the
outermost pixels is enough. Warns and never refuses: what is odd may be meant.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from tasm.demonstrations.conversation import Conversation, Demonstration, content_hash
from tasm.demonstrations.metrics import normalise_answer
from tasm.demonstrations.picture import Picture
from tasm.demonstrations.problems import listed, shorten
from tasm.errors import TasmError

_FEWEST = 10
"""Demonstrations from which the share of one answer says anything."""
_LARGEST_SHARE = 0.8

BUNDLED_MODEL = "reference"
FRAME = (96, 112, 160)
"""The colour of the frame; that of `tasm.suites.pictures`, which is a room above."""

_TOLERANCE = 32
"""How far a channel may be off: pictures are saved as JPEG and scaled."""


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
        warn(
            f"{len(found)} of {len(demonstrations)} demonstrations contradict another: the same "
            "pictures and question have different answers. All stay; correct what is wrong:"
            + listed(found)
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


def warn_of_unlike_pictures(
    model_name: str, conversations: Sequence[Conversation], warn: Callable[[str], None]
) -> None:
    """Warn where the bundled model is given pictures that are unlike those it was trained on.

    Other models are not judged, and neither are conversations without pictures.

    ```python
    warn_of_unlike_pictures(backbone.name, demonstrations, print)
    ```
    """
    if model_name != BUNDLED_MODEL:
        return
    pictures = {one.sha256: one for conversation in conversations for one in conversation.pictures}
    unlike = sum(not is_like_a_suite(picture) for picture in pictures.values())
    if unlike:
        warn(
            f"{unlike} of {len(pictures)} different pictures are unlike those of the bundled "
            "model's own suites (`tasm suite`), the only ones that it knows: expect answers "
            "without sense. Use a model for pictures of your kind with --model."
        )


def is_like_a_suite(picture: Picture) -> bool:
    """Whether a picture has the frame that all pictures of the suites have."""
    try:
        pixels = np.asarray(picture.load(), dtype=np.int16)
    except TasmError:  # whoever reads the picture next says what became of it
        return True
    edges = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return bool((np.abs(edges - FRAME) <= _TOLERANCE).all(axis=1).mean() > 0.9)
