"""How a peer is fitted to demonstrations: what is learned of each, in what steps, at what rate."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from tasm.answer import full_context
from tasm.backbone.attention.hooks import set_attention
from tasm.backbone.ends import answer_ends
from tasm.backbone.prompt.transcript import Layout, Role
from tasm.demonstrations import Demonstration, Query

LOSSES = ("answer", "text", "distil")
LENGTHWISE = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")


@dataclass(frozen=True)
class Fit:
    """How a peer is trained; AdamW at a constant rate, no weight decay.

    `loss` is "answer" (cross-entropy of each demonstration's answer and its end), "text" (of all
    its tokens but the pictures') or "distil" (of all its tokens but the pictures', divergence from
    the model that has all demonstrations before it, as Cartridges do).
    """

    rate: float
    epochs: int
    batch: int = 8
    loss: str = "answer"


@dataclass
class Sample:
    """A demonstration as inputs of one row, which of its tokens are learned, what they should be.

    `targets` are the log-probabilities of the learned tokens, None where the tokens themselves are.
    """

    inputs: dict[str, Tensor]
    is_learned: Tensor
    targets: Tensor | None = None


def train(
    backbone: Any,
    demonstrations: Sequence[Demonstration],
    trained: Sequence[Tensor],
    fit: Fit,
    prefix: Sequence[tuple[Tensor, Tensor]] = (),
    next_position: int = 0,
) -> Iterator[int]:
    """Fit `trained` to the demonstrations; yields the number of epochs done after each."""
    hf = backbone.hf
    optimiser = torch.optim.AdamW(trained, lr=fit.rate, weight_decay=0.0)
    order = torch.Generator().manual_seed(0)
    samples = [sample(backbone, item, fit.loss, bool(prefix)) for item in demonstrations]
    if fit.loss == "distil":
        _teach(backbone, demonstrations, samples)
    for epoch in range(1, fit.epochs + 1):
        drawn = torch.randperm(len(samples), generator=order).tolist()
        with stock_attention(hf), only(hf, trained), torch.enable_grad():
            for start in range(0, len(drawn), fit.batch):
                chosen = [samples[number] for number in drawn[start : start + fit.batch]]
                loss = loss_of(hf, chosen, prefix, next_position)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        yield epoch


def loss_of(
    hf: Any,
    samples: Sequence[Sample],
    prefix: Sequence[tuple[Tensor, Tensor]] = (),
    next_position: int = 0,
) -> Tensor:
    """Mean loss over the learned tokens of some samples, read after the prefix if there is one."""
    inputs = joined([item.inputs for item in samples], left=False)
    length = inputs["input_ids"].shape[1]
    is_learned = torch.stack([_padded(s.is_learned, length, left=False) for s in samples])
    arguments = {name: value for name, value in inputs.items() if name != "attention_mask"}
    if prefix:
        arguments["past_key_values"] = prefix_cache(prefix, len(samples), hf.dtype)
        arguments["position_ids"] = positions_from(hf, inputs, next_position)
    logits = hf(**arguments).logits[:, :-1][is_learned[:, 1:]].float()
    targets = [item.targets for item in samples if item.targets is not None]
    if targets:
        given = torch.cat(targets)
        return torch.nn.functional.kl_div(
            logits.log_softmax(-1), given, log_target=True, reduction="batchmean"
        )
    return torch.nn.functional.cross_entropy(logits, inputs["input_ids"][:, 1:][is_learned[:, 1:]])


def sample(
    backbone: Any, demonstration: Demonstration, loss: str = "answer", after_prefix: bool = False
) -> Sample:
    """Lay one demonstration out as it would be asked, its answer and the end of it behind."""
    question = Query(demonstration.id, demonstration.messages[:-1])
    layout = Layout(multi_image=bool(question.pictures))
    if after_prefix:
        inputs = backbone.query_inputs([question], layout=layout)
    else:
        inputs = backbone.full_inputs([], question, layout=layout)
    transcript = backbone.transcript([demonstration])
    answer = transcript.input_ids[transcript.roles == int(Role.ANSWER)]
    vocabulary = backbone.hf.get_input_embeddings().num_embeddings
    end = [token for token in answer_ends(backbone) if token < vocabulary][:1]
    answer = torch.cat([answer, torch.tensor(end, dtype=torch.long)]).to(backbone.device)[None]
    asked = inputs["input_ids"]
    is_learned = torch.zeros_like(asked[0], dtype=torch.bool)
    if loss != "answer":
        pictures = transcript.input_ids[transcript.roles == int(Role.IMAGE)].to(asked.device)
        is_learned = ~torch.isin(asked[0], pictures)
        is_learned[0] = False  # nothing stands before it to tell it from
    inputs["input_ids"] = torch.cat([asked, answer], dim=1)
    for name, value in (("attention_mask", 1), ("mm_token_type_ids", 0), ("token_type_ids", 0)):
        if name in inputs:
            inputs[name] = torch.cat([inputs[name], torch.full_like(answer, value)], dim=1)
    return Sample(inputs, torch.cat([is_learned, torch.ones_like(answer[0], dtype=torch.bool)]))


def joined(rows: Sequence[dict[str, Tensor]], left: bool) -> dict[str, Tensor]:
    """Join inputs of one row each into a batch, padded with zeros at one side."""
    length = max(row["input_ids"].shape[1] for row in rows)
    return {
        name: torch.cat(
            [_padded(row[name], length, left) if name in LENGTHWISE else row[name] for row in rows]
        )
        for name in rows[0]
    }


def prefix_cache(
    prefix: Sequence[tuple[Tensor, Tensor]], rows: int = 1, dtype: torch.dtype | None = None
) -> DynamicCache:
    """Return a stock cache that begins with the prefix, for so many rows."""
    cache = DynamicCache()
    for layer, pair in enumerate(prefix):
        keys, values = (tensor.to(dtype).expand(rows, -1, -1, -1) for tensor in pair)
        cache.update(keys, values, layer)
    return cache


def positions_from(hf: Any, inputs: dict[str, Tensor], offset: int) -> Tensor:
    """Return the position ids of prompts that begin at `offset`."""
    body = getattr(hf, "model", hf)
    if not hasattr(body, "get_rope_index"):
        return torch.arange(inputs["input_ids"].shape[1])[None] + offset
    names = ("input_ids", "image_grid_thw", "attention_mask", "mm_token_type_ids")
    given = {name: inputs[name] for name in names if name in inputs}
    return body.get_rope_index(**given)[0] + offset


@contextmanager
def stock_attention(hf: Any) -> Iterator[None]:
    """Run transformers' own attention, which has gradients for a cache."""
    set_attention(hf, "sdpa")
    try:
        yield
    finally:
        set_attention(hf, "tasm")


@contextmanager
def only(hf: Any, trained: Sequence[Tensor]) -> Iterator[None]:
    """Ask for the gradients of `trained` alone: those of a frozen model cost as much again."""
    chosen = {id(tensor) for tensor in trained}
    before = [(parameter, parameter.requires_grad) for parameter in hf.parameters()]
    for parameter, _ in before:
        parameter.requires_grad_(id(parameter) in chosen)
    try:
        yield
    finally:
        for parameter, needed in before:
            parameter.requires_grad_(needed)


def _teach(
    backbone: Any, demonstrations: Sequence[Demonstration], samples: Sequence[Sample]
) -> None:
    """Give each sample what the model says of it after all demonstrations, itself among them."""
    context = full_context(backbone, demonstrations)
    for item in samples:
        arguments = {name: v for name, v in item.inputs.items() if name != "attention_mask"}
        with torch.no_grad():
            logits = backbone.hf(**arguments, past_key_values=context.cache()).logits[0, :-1]
        item.targets = logits[item.is_learned[1:]].float().log_softmax(-1)


def _padded(tensor: Tensor, length: int, left: bool) -> Tensor:
    missing = length - tensor.shape[-1]
    return torch.nn.functional.pad(tensor, (missing, 0) if left else (0, missing))
