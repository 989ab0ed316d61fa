"""What the user brings: demonstrations and queries, read, checked and identified.

Knows pictures and text; knows nothing of models, tokens or memories, and does not import torch.
"""

from tasm.demonstrations.arriving import stream_demonstrations
from tasm.demonstrations.conversation import (
    Conversation,
    Demonstration,
    Message,
    Query,
    content_hash,
    shared_system,
)
from tasm.demonstrations.marks import IMAGE_MARK
from tasm.demonstrations.metrics import is_correct, normalise_answer
from tasm.demonstrations.oddities import warn_of_unlike_pictures
from tasm.demonstrations.picture import Picture
from tasm.demonstrations.reading import make_query, read_demonstrations, read_queries

__all__ = [
    "IMAGE_MARK",
    "Conversation",
    "Demonstration",
    "Message",
    "Picture",
    "Query",
    "content_hash",
    "is_correct",
    "make_query",
    "normalise_answer",
    "read_demonstrations",
    "read_queries",
    "shared_system",
    "stream_demonstrations",
    "warn_of_unlike_pictures",
]
