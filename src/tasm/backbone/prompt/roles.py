"""What a token of the transcript is. Imports no torch."""

from enum import IntEnum


class Role(IntEnum):
    """What a token of the transcript is.

    `SYSTEM` is the head of the conversation: the beginning-of-sequence token and the system
    prompt with its template. `TEMPLATE` is every other token that the chat template or the image
    layout adds.
    """

    SYSTEM = 0
    TEMPLATE = 1
    QUESTION = 2
    IMAGE = 3
    ANSWER = 4
