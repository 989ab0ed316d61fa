"""What the recorder gathers, against stock eager attention over the whole prompt."""

import math
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from tasm.backbone.attention.attention_call import AttentionCall
from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.attention.hooks import attach, detach
from tasm.backbone.attention.segment import Segment
from tasm.backbone.prompt.transcript import Role, Transcript
from tasm.compress.records.centroids import TaskCentroids
from tasm.compress.records.queries import Queries, QueryMoments
from tasm.compress.records.received import AttentionReceived
from tasm.compress.records.record import Reading, Record
from tasm.compress.records.recorder import Recorder
from tasm.compress.records.row_rules import Rows, parse_rule
from tasm.errors import RecipeError
from tests.compress.tiny_backbone import TinyBackbone, tiny_backbone


def record(
    backbone: TinyBackbone, transcript: Transcript, records: tuple[Record, ...], step: int
) -> Recorder:
    """Read the transcript in chunks of `step` demonstrations."""
    cache, first = MemoryCache.empty(backbone.hf.config), 0
    with Recorder(backbone, records) as recorder:
        for begin in range(0, len(transcript.spans), step):
            chunk = transcript.chunk(begin, begin + step)
            rows = Rows(
                chunk.roles, chunk.demonstration, chunk.answer_numbers, first, len(transcript)
            )
            recorder.start(rows, cache)
            backbone.encode(chunk, cache)
            recorder.stop()
            cache.commit()
            first += len(chunk)
    return recorder


def eager(backbone: TinyBackbone, transcript: Transcript) -> tuple[Tensor, ...]:
    """Attention matrices (query_heads, tokens, tokens) of the stock model, by layer."""
    detach(backbone.hf, "eager")
    inputs = backbone.inputs(transcript.input_ids, transcript.images)
    with torch.no_grad():
        output = backbone.hf(**inputs, use_cache=False, output_attentions=True)
    attach(backbone.hf)
    return tuple(one[0] for one in output.attentions)


def chosen_rows(transcript: Transcript, rule: str) -> list[int]:
    roles = transcript.roles.tolist()
    name, count = parse_rule(rule)
    total = len(roles)
    picks: dict[str, Any] = {
        "all": lambda i: True,
        "answers": lambda i: roles[i] == Role.ANSWER,
        "questions": lambda i: roles[i] == Role.QUESTION,
        "images": lambda i: roles[i] == Role.IMAGE,
        "text": lambda i: roles[i] != Role.IMAGE,
        "predictions": lambda i: i + 1 < total and roles[i + 1] == Role.ANSWER,
        "answer-turns": lambda i: Role.ANSWER in roles[i : i + 2],
        "answer-starts": lambda i: (
            i + 1 < total and roles[i + 1] == Role.ANSWER and roles[i] != Role.ANSWER
        ),
        "last": lambda i: i >= total - count,
        "every": lambda i: (i + 1) % count == 0,
        "spread": lambda i: (i + 1) % math.ceil(total / count) == 0,
    }
    return [i for i in range(total) if picks[name](i)]


RULES = [
    "all",
    "answers",
    "predictions",
    "answer-turns",
    "answer-starts",
    "questions",
    "images",
    "text",
]


@pytest.mark.parametrize("family", ["qwen2_vl", "gemma2"])
@pytest.mark.parametrize("step", [1, 3])
def test_attention_received(family: str, step: int) -> None:
    backbone = tiny_backbone(family)
    transcript = backbone.transcript([1, 2, 3])
    rules = [*RULES, "last:7", "every:5", "spread:4"]
    records = tuple(
        AttentionReceived(rule, statistic)  # type: ignore[arg-type]
        for rule in rules
        for statistic in ("sum", "max")
    )
    recorder = record(backbone, transcript, records, step)
    attentions = eager(backbone, transcript)
    for layer, kind in enumerate(backbone.geometry.layer_kinds):
        if kind != "full":
            assert layer not in recorder.held
            continue
        grouped = attentions[layer].unflatten(0, (backbone.geometry.kv_heads, -1))
        for rule in rules:
            rows = chosen_rows(transcript, rule)
            weights = grouped[:, :, rows]
            received = recorder.layer(layer)[AttentionReceived(rule)]
            torch.testing.assert_close(received.mass, weights.sum(2).mean(1), atol=1e-5, rtol=1e-4)
            largest = recorder.layer(layer)[AttentionReceived(rule, "max")]
            expected = weights.amax((1, 2)) if rows else torch.zeros_like(received.mass)
            torch.testing.assert_close(largest.mass, expected, atol=1e-5, rtol=1e-4)
            seen = [sum(row >= column for row in rows) for column in range(len(transcript))]
            assert received.seen_by[0].tolist() == seen


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3"])
@pytest.mark.parametrize("step", [1, 3])
def test_queries_moments_and_centroids(family: str, step: int) -> None:
    backbone = tiny_backbone(family)
    transcript = backbone.transcript([1, 2, 3])
    records = (
        Queries("predictions"),
        Queries("predictions", every=2),
        QueryMoments("answers"),
        TaskCentroids("keys", "text"),
        TaskCentroids("keys", "text+image"),
        TaskCentroids("hidden", "text"),
        Queries("questions", run=3),
        TaskCentroids("keys", "text+image", "odd"),
        TaskCentroids("hidden", "text", "even"),
    )
    layer = 1
    plain: dict[str, Tensor] = {}
    attention = backbone.decoder.layers[layer].self_attn

    def keep(name: str) -> Any:
        return lambda module, args, output: plain.__setitem__(name, output)

    names = [("k", "k_norm", "k_proj"), ("q", "q_norm", "q_proj")]
    handles = [
        getattr(
            attention, normed if hasattr(attention, normed) else projected
        ).register_forward_hook(keep(name))
        for name, normed, projected in names
    ]
    handles.append(
        backbone.decoder.layers[layer].register_forward_pre_hook(
            lambda module, args: plain.__setitem__("hidden", args[0])
        )
    )
    inputs = backbone.inputs(transcript.input_ids, transcript.images)
    with torch.no_grad():
        backbone.hf(**inputs, use_cache=False)
    for handle in handles:
        handle.remove()
    tokens, dim = len(transcript), backbone.geometry.head_dim
    keys = plain["k"].reshape(tokens, -1, dim).transpose(0, 1)
    queries = plain["q"].reshape(tokens, -1, dim).transpose(0, 1)
    hidden = plain["hidden"].reshape(tokens, -1)

    held = record(backbone, transcript, records, step).layer(layer)
    rows = chosen_rows(transcript, "predictions")
    assert held[records[0]].index.tolist() == rows
    torch.testing.assert_close(held[records[0]].queries, queries[:, rows], atol=1e-5, rtol=1e-4)
    in_a_row, first_three = 0, []
    asked_rows = chosen_rows(transcript, "questions")
    for row in asked_rows:
        in_a_row = in_a_row + 1 if row - 1 in asked_rows else 1
        first_three += [row] if in_a_row <= 3 else []
    assert len(first_three) < len(asked_rows)
    assert held[Queries("questions", run=3)].index.tolist() == first_three
    even = [row for row in rows if transcript.demonstration[row] % 2 == 0]
    assert held[records[1]].index.tolist() == even
    answers = queries[:, chosen_rows(transcript, "answers")]
    moments = held[records[2]]
    torch.testing.assert_close(moments.mean, answers.mean(1), atol=1e-5, rtol=1e-4)
    centred = answers - answers.mean(1, keepdim=True)
    covariance = centred.transpose(1, 2) @ centred / answers.shape[1]
    torch.testing.assert_close(moments.covariance, covariance, atol=1e-4, rtol=1e-3)
    answer = chosen_rows(transcript, "answers")
    question = chosen_rows(transcript, "questions")
    both = sorted(question + chosen_rows(transcript, "images"))
    everything, first_and_third, second = (0, 1, 2), (0, 2), (1,)  # three answers: 0, 1 and 2
    for one, vectors, asked, demonstrations in (
        (records[3], keys, question, everything),
        (records[4], keys, both, everything),
        (records[5], hidden, question, everything),
        (records[7], keys, both, second),
        (records[8], hidden, question, first_and_third),
    ):
        means = held[one].means
        for mean, rows_of_all in zip(means, (asked, answer), strict=True):
            chosen = [row for row in rows_of_all if transcript.demonstration[row] in demonstrations]
            expected = vectors[..., chosen, :].mean(-2)
            torch.testing.assert_close(mean, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("rule", ["answer", "last", "last:x", "last:0", "every:", "all:3"])
def test_unknown_rows(rule: str) -> None:
    with pytest.raises(RecipeError, match="There are no rows"):
        parse_rule(rule)


@pytest.mark.parametrize("among", ["everything", "chunk", "memory"])
@pytest.mark.parametrize("statistic", ["sum", "max"])
@pytest.mark.parametrize("at_once", [1, 8])
def test_attention_is_a_part_of_what_goes_to_the_tokens_in_question(
    among: Literal["everything", "chunk", "memory"],
    statistic: Literal["sum", "max"],
    at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A softmax over them alone, of the given rows, however many at once; all others get
    nothing."""
    monkeypatch.setattr(AttentionCall, "rows_at_once", at_once)
    torch.manual_seed(1)
    kept, live, chunk, size = (7, 6), 5, 9, 4
    keys = [torch.randn(1, 2, tokens, size) for tokens in (*kept, live)]
    query, rows = torch.randn(1, 4, live, size), torch.tensor([1, 4])
    logits = torch.einsum("hgnd,htd->hgnt", query[0].unflatten(0, (2, 2)), torch.cat(keys, 2)[0])
    later = torch.arange(live) > torch.arange(live)[:, None]
    logits[..., sum(kept) :] = logits[..., sum(kept) :].masked_fill(later, -torch.inf)
    call = AttentionCall(
        layer=0,
        module=torch.nn.Identity(),
        query=query,
        key=keys[-1],
        value=keys[-1],
        segments=tuple(Segment(one, one) for one in keys[:-1]),
        mask=None,
        log_sum_exp=logits.logsumexp(-1).flatten(0, 1)[None],
        scaling=1.0,
        softcap=None,
        index=None,
        sliding_window=None,
    )
    numbers = torch.zeros(live, dtype=torch.int64)
    read = Rows(numbers, numbers, numbers[:1], sum(kept), sum(kept) + live, chunk)
    reading = Reading(call, read, numbers[None], tiny_backbone().rotary)
    found = AttentionReceived(statistic=statistic, among=among).add(None, reading, rows).mass
    first = sum(kept) - chunk if among == "chunk" else 0
    last = sum(kept) if among == "memory" else sum(kept) + live
    weights = torch.zeros_like(logits)
    weights[..., first:last] = logits[..., first:last].softmax(-1)
    weights = weights[:, :, rows]
    expected = weights.amax((1, 2)) if statistic == "max" else weights.sum(2).mean(1)
    torch.testing.assert_close(found, expected)
