"""Asking an adapted model: the queries of its own task, and those of another one."""

from collections.abc import Sequence
from typing import Any

from adapters import Peer
from fitting import joined

from tasm.answer import ask_all, full_context
from tasm.answer.generation import decode, generate
from tasm.backbone.prompt.transcript import Layout
from tasm.bench.sources import Episode
from tasm.demonstrations import Query, is_correct

BATCH = 40
CHUNK = 8
LAYOUT = Layout(multi_image=True)


def answered(backbone: Any, peer: Peer, queries: Sequence[Query], new_tokens: int) -> list[float]:
    """Whether each query of the peer's own task is answered rightly."""
    if peer.memory is not None:
        return asked(backbone, peer.memory, queries)
    found: list[float] = []
    for start in range(0, len(queries), BATCH):
        rows = queries[start : start + BATCH]
        if peer.prefix:
            inputs = backbone.query_inputs(rows, layout=LAYOUT)
        else:
            prompts = [backbone.full_inputs([], query, layout=LAYOUT) for query in rows]
            inputs = joined(prompts, left=True)
        found += _right(backbone, rows, inputs, peer.cache(backbone.hf), new_tokens)
    return found


def answered_elsewhere(backbone: Any, peer: Peer, episode: Episode, new_tokens: int) -> list[float]:
    """Another task's queries after its own demonstrations, what was adapted still attached."""
    if not peer.stands_before_prompts:
        return asked(backbone, full_context(backbone, episode.demonstrations), episode.queries)
    cache = peer.cache(backbone.hf)
    if cache.extra is not None:  # a memory that retrieves reads a prompt in one call
        found: list[float] = []
        for query in episode.queries:
            inputs = backbone.full_inputs(episode.demonstrations, query, layout=LAYOUT)
            cache = peer.cache(backbone.hf)
            found += _right(backbone, [query], inputs, cache, new_tokens)
        return found
    transcript = backbone.transcript(episode.demonstrations)
    for first in range(0, len(transcript.spans), CHUNK):
        backbone.encode(transcript.chunk(first, first + CHUNK), cache)
        cache.commit()
    found = []
    for start in range(0, len(episode.queries), BATCH):
        rows = episode.queries[start : start + BATCH]
        inputs = backbone.query_inputs(rows, layout=LAYOUT)
        found += _right(backbone, rows, inputs, cache.fork(), new_tokens)
    return found


def asked(backbone: Any, memory: Any, queries: Sequence[Query]) -> list[float]:
    """Whether each query is answered rightly from a memory."""
    answers = ask_all(backbone, memory, queries, batch_size=BATCH)
    return [
        float(is_correct(answer.text, query.answers))
        for answer, query in zip(answers, queries, strict=True)
    ]


def _right(
    backbone: Any, queries: Sequence[Query], inputs: Any, cache: Any, new_tokens: int
) -> list[float]:
    generated = generate(backbone, inputs, cache, max_new_tokens=new_tokens)
    return [
        float(is_correct(decode(backbone, token_ids), query.answers))
        for token_ids, query in zip(generated.token_ids, queries, strict=True)
    ]
