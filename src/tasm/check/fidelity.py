"""How near a memory stays to the full context: same answers, same distributions.

Distributions are compared along one given answer (teacher forcing), so that a first different
token does not make everything after it incomparable. Knows nothing of recipes or suites.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tasm.answer.generation import greedy_settings
from tasm.backbone.attention.cache import MemoryCache
from tasm.backbone.ends import answer_ends
from tasm.backbone.model import Backbone
from tasm.backbone.running.one_at_a_time import alone
from tasm.demonstrations import Query
from tasm.memory import TaskMemory
from tasm.memory.retrieval.gates import js_divergence

BATCH_SIZE = 40


def agreement(answers: Sequence[str], full_answers: Sequence[str]) -> list[float]:
    """Return 1 for each answer that equals the full context's word for word, 0 otherwise.

    ```python
    >>> agreement(["a wren", "a robin"], ["a wren", "robin"])
    [1.0, 0.0]
    ```
    """
    return [float(a.strip() == b.strip()) for a, b in zip(answers, full_answers, strict=True)]


def mean_js(log_probabilities: Tensor, reference: Tensor) -> float:
    """Return the Jensen–Shannon divergence of two runs of distributions, in nats.

    Both are `(answer tokens, vocabulary)` log-probabilities; the mean goes over answer tokens.
    Zero where they agree, log 2 where they share no token (TASM, equation 15).

    ```python
    >>> mean_js(torch.zeros(1, 1), torch.zeros(1, 1))
    0.0
    ```
    """
    return float(js_divergence(log_probabilities.exp(), reference.exp()).mean())


def answer_distributions(
    backbone: Backbone,
    memory: TaskMemory,
    queries: Sequence[Query],
    answers: Sequence[Sequence[int]],
    *,
    batch_size: int = BATCH_SIZE,
) -> list[Tensor]:
    """Return what the model would say at every token of the given answers, reading `memory`.

    `answers` are token ids without the end token. The result holds, a query, log-probabilities
    `(answer tokens + 1, vocabulary)` in float32 on the CPU; the last row is the distribution
    after the answer, where an end token belongs. The model runs exactly as when it answers: the
    query in one call, then a token a step, with the gate and the bank that the memory has.

    ```python
    distributions = answer_distributions(backbone, memory, queries, [a.token_ids for a in full])
    ```
    """
    found: list[Tensor] = []
    for start in range(0, len(queries), batch_size):
        rows = slice(start, start + batch_size)
        inputs = backbone.query_inputs(queries[rows], layout=memory.layout)
        cache = memory.cache(device=backbone.device, dtype=backbone.dtype)
        found += _forced(backbone, inputs, cache, answers[rows])
    return found


def prompt_distributions(
    backbone: Backbone, inputs: dict[str, Tensor], answer: Sequence[int]
) -> Tensor:
    """Return the same for one ordinary prompt without a memory: (answer tokens + 1, vocabulary)."""
    return _forced(backbone, inputs, None, [answer])[0]


def _forced(
    backbone: Backbone,
    inputs: dict[str, Tensor],
    cache: MemoryCache | None,
    answers: Sequence[Sequence[int]],
) -> list[Tensor]:
    steps = max(map(len, answers)) + 1
    prompt = inputs["input_ids"].shape[1]
    # Some checkpoints name end tokens that their vocabulary does not hold.
    vocabulary = backbone.hf.config.get_text_config().vocab_size
    end = next((token for token in answer_ends(backbone) if token < vocabulary), 0)

    def next_token(row: int, so_far: Tensor) -> list[int]:
        return [*answers[row], end][min(len(so_far) - prompt, len(answers[row])) :][:1]

    settings = greedy_settings(backbone, steps) | {
        "output_logits": True,
        "return_dict_in_generate": True,
    }
    cached = {} if cache is None else {"past_key_values": cache}
    with torch.inference_mode(), alone(backbone.core, cache):
        output = backbone.hf.generate(
            **inputs, **cached, **settings, prefix_allowed_tokens_fn=next_token
        )
    said = torch.stack([logits.float().log_softmax(-1).cpu() for logits in output.logits], 1)
    return [said[row, : len(answer) + 1] for row, answer in enumerate(answers)]
