"""The demonstrations repeated as one context, as KVzip has a model repeat it.

Kim et al., "KVzip", arXiv 2505.23416, section 3. Knows transcripts; not who reads them.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tasm.backbone.model import Backbone
from tasm.backbone.prompt.roles import Role
from tasm.backbone.prompt.transcript import Transcript, empty_places
from tasm.compress.chunks import chunk_edges
from tasm.compress.replay import without_head

INSTRUCTION = "Repeat the previous context exactly."
CHUNK_TOKENS = 2000
"""The authors' own length of what is repeated at a time."""


def repeated(
    backbone: Backbone,
    transcript: Transcript,
    demonstrations: Sequence[int],
    chunk_tokens: int = CHUNK_TOKENS,
) -> tuple[Transcript, ...]:
    """Return consecutive `demonstrations` in chunks of about `chunk_tokens`, 2,000 at most, each
    behind the instruction to repeat.

    ```python
    (once,) = repeated(backbone, transcript, range(20))     # up to 2,000 tokens
    ```
    """
    begin = demonstrations[0]
    asked = backbone.question_tokens(INSTRUCTION, layout=transcript.layout)
    start = transcript.spans[begin][0]
    spans = [transcript.spans[number] for number in demonstrations]
    most = min(CHUNK_TOKENS, chunk_tokens)
    edges = chunk_edges([(first - start, end - start) for first, end in spans], most)
    chunks = [transcript.chunk(begin + first, begin + stop) for first, stop in edges]
    return tuple(_behind(asked, without_head(chunk)) for chunk in chunks)


def _behind(asked: Tensor, chunk: Transcript) -> Transcript:
    """The chunk behind tokens that are nobody's."""
    count = len(asked)
    template = torch.full((count,), int(Role.TEMPLATE), dtype=chunk.roles.dtype)
    nobody = torch.full((count,), -1, dtype=chunk.demonstration.dtype)
    return replace(
        chunk,
        input_ids=torch.cat([asked, chunk.input_ids]),
        roles=torch.cat([template, chunk.roles]),
        demonstration=torch.cat([nobody, chunk.demonstration]),
        place=torch.cat([empty_places(count), chunk.place]),
        spans=tuple((first + count, end + count) for first, end in chunk.spans),
    )
