"""Tells pictures of the bundled model's own suites from all others.

Every picture of those suites has a thin frame of one colour, so a look at its outermost pixels is
enough. Knows that frame and the model's name; knows nothing of models or suites.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tasm.demonstrations.conversation import Conversation
from tasm.demonstrations.picture import Picture
from tasm.errors import TasmError

BUNDLED_MODEL = "reference"
FRAME = (96, 112, 160)
"""The colour of the frame; that of `tasm.suites.pictures`, which is a room above."""

_TOLERANCE = 32
"""How far a channel may be off: pictures are saved as JPEG and scaled."""


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
