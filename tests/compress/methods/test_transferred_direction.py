"""τ of demonstrations with other answers: by hand, joint and streaming, and where none are."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tasm.compress.evidence import Stage
from tasm.compress.parts.scorers.tasm import TaskScorer
from tasm.compress.recipes.recipe import Part, Recipe
from tasm.compress.recipes.table import find_recipe
from tasm.compress.records.received import AnswerNumbers
from tasm.compress.records.record import Reading
from tasm.compress.records.row_rules import Rows
from tests.compress.examples import ScaledRotary, evidence, table
from tests.compress.methods.capture import SEEN
from tests.compress.tiny_backbone import build_tiny, tiny_backbone

SYSTEM, TEMPLATE, QUESTION, IMAGE, ANSWER = range(5)

# One system token, then four demonstrations that say wren, robin, wren and owl: numbers 0, 1, 0, 2.
ROLES = [SYSTEM, QUESTION, ANSWER, QUESTION, IMAGE, ANSWER, QUESTION, ANSWER, QUESTION, ANSWER]
DEMONSTRATION = [-1, 0, 0, 1, 1, 1, 2, 2, 3, 3]
NUMBERS = [0, 1, 0, 2]
KEYS = [
    [[9, 9], [1, 0], [2, 5], [0, 3], [4, 1], [1, 2], [3, 1], [2, 2], [-1, 4], [3, 3]],
    [[-9, 1], [0, 1], [3, 1], [2, 2], [0, -3], [5, 1], [1, 1], [4, 0], [2, -1], [1, 3]],
]
EDGES = [(0, 3), (3, 6), (6, 8), (8, 10)]  # tokens of the demonstrations, the head with the first


def mean(rows: list[list[int]]) -> list[float]:
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def cosine(first: Any, second: Any) -> float:
    product = sum(a * b for a, b in zip(first, second, strict=True))
    return float(product / (math.hypot(*first) * math.hypot(*second)))


def expected(head: int) -> list[float]:
    keys = KEYS[head]
    # Even numbers: demonstrations 0, 2 and 3. Odd: demonstration 1, its question with an image.
    asked, answered = mean([keys[1], keys[6], keys[8]]), mean([keys[2], keys[7], keys[9]])
    from_even = [a - q for a, q in zip(answered, asked, strict=True)]
    from_odd = [a - q for a, q in zip(keys[5], mean([keys[3], keys[4]]), strict=True)]
    own = [from_even if token in (3, 4, 5) else from_odd for token in range(1, 10)]
    return [max(cosine(keys[1 + i], direction), 0) for i, direction in enumerate(own)]


class Layer(nn.Module):
    """A decoder layer whose keys are its hidden states: the heads' keys after each other."""

    def __init__(self) -> None:
        super().__init__()
        self.input_layernorm = nn.Identity()
        self.self_attn = nn.Module()
        self.self_attn.head_dim = 2  # type: ignore[assignment]
        self.self_attn.k_proj = nn.Linear(4, 4, bias=False)
        self.self_attn.k_proj.weight.data = torch.eye(4)


def recorded(scorer: TaskScorer, edges: list[tuple[int, int]]) -> dict[Any, Any]:
    """What the scorer's records hold after the tokens were read from edge to edge."""
    keys, held = torch.tensor(KEYS).float(), {}
    for first, stop in edges:
        positions = torch.arange(first, stop)[None]
        rows = Rows(
            torch.tensor(ROLES[first:stop]),
            torch.tensor(DEMONSTRATION[first:stop]),
            torch.tensor(NUMBERS),
            first,
            10,
        )
        rotated = ScaledRotary().rotate(0, keys[:, first:stop], positions)
        call: Any = SimpleNamespace(key=rotated[None], layer=0)
        rotary: Any = ScaledRotary()
        hidden = torch.cat([keys[0], keys[1]], -1)[first:stop]
        reading = Reading(call, rows, positions, rotary, hidden)
        for record in scorer.records[1:]:  # all but the attention
            held[record] = record.observe(held.get(record), reading)
    return held


def case(scorer: TaskScorer, edges: list[tuple[int, int]]) -> Any:
    return evidence(
        KEYS,
        [[[1.0, 0.0]] * 10] * 2,
        table(ROLES, DEMONSTRATION),
        records=recorded(scorer, edges),
        module=Layer(),
    )


def literal(direction: Any, extracted_from: Any) -> TaskScorer:
    """A scorer whose task score is the cosine and nothing else."""
    return TaskScorer(direction, extracted_from, scaling="literal", value_weight=0.0)


@pytest.mark.parametrize("edges", [[(0, 10)], EDGES])
@pytest.mark.parametrize("direction", ["keys", "hidden"])
def test_every_token_is_scored_by_the_other_half(
    direction: str, edges: list[tuple[int, int]]
) -> None:
    scorer = literal(direction, "other answers")
    found = scorer._task_score(case(scorer, edges))
    torch.testing.assert_close(found[:, 1:], torch.tensor([expected(0), expected(1)]))
    ordinary = literal(direction, "all")
    assert not torch.allclose(found[:, 1:], ordinary._task_score(case(ordinary, edges))[:, 1:])


@pytest.mark.parametrize("direction", ["keys", "hidden"])
def test_the_ordinary_direction_while_there_is_one_answer(direction: str) -> None:
    transferred, ordinary = literal(direction, "other answers"), literal(direction, "all")
    first = [(0, 3)]
    found = transferred._task_score(case(transferred, first))
    assert torch.equal(found, ordinary._task_score(case(ordinary, first)))


def test_a_build_with_one_answer_is_that_of_tasm() -> None:
    backbone = tiny_backbone()
    transcript = backbone.transcript([3, 3, 3])
    given = {"core": "20", "bank": "10"}
    found = build_tiny(backbone, transcript, recipe="tasm-transferred-direction", **given)
    ordinary = build_tiny(backbone, transcript, recipe="tasm", **given)
    for one, other in zip(found.core, ordinary.core, strict=True):
        assert one is not None and other is not None
        assert torch.equal(one.index, other.index) and torch.equal(one.keys, other.keys)


def transferring(direction: str) -> Recipe:
    """The recipe's scorer, what it sees captured, nothing but tokens dropped."""
    scorer = {"direction": direction, "extracted_from": "other answers"}
    return Recipe(
        "transferring",
        "A test",
        2026,
        "",
        scorer=Part("task-scorer", scorer),
        budget=Part("tests.compress.methods.capture:Capture"),
    )


def stages(seeds: list[int], direction: str, core: str, mode: str, chunk: int) -> list[Stage]:
    backbone = tiny_backbone()
    SEEN.clear()
    build_tiny(
        backbone,
        backbone.transcript(seeds),
        recipe=transferring(direction),
        core=core,
        mode=mode,
        chunk_tokens=chunk,
    )
    return list(SEEN)


def halves(stage: Stage, direction: str, layer: int) -> list[Tensor]:
    one = stage.evidence[layer]
    assert one is not None
    scorer = TaskScorer(direction, "other answers")  # type: ignore[arg-type]
    _, even, odd, numbers = scorer.records
    assert numbers == AnswerNumbers()
    assert one.records[numbers].tolist() == [0, 1, 0, 2, 1]
    return [*one.records[even].means, *one.records[odd].means]


@pytest.mark.parametrize("direction", ["keys", "hidden"])
@pytest.mark.parametrize(("core", "layers"), [("100%", (0, 1, 2)), ("25", (0,))])
def test_halves_of_a_streaming_build_are_those_of_a_joint_one(
    direction: str, core: str, layers: tuple[int, ...]
) -> None:
    """In all layers while nothing is dropped; in the first one, which has not attended yet, even
    where most is dropped."""
    seeds = [1, 2, 1, 3, 2]  # the third and the fifth repeat an answer
    (joint,) = stages(seeds, direction, core, "joint", 2048)
    for chunk in (1, 40):
        streamed = stages(seeds, direction, core, "streaming", chunk)
        assert len(streamed) == {1: 5, 40: 3}[chunk]
        for layer in layers:
            found, same = halves(streamed[-1], direction, layer), halves(joint, direction, layer)
            for one, other in zip(found, same, strict=True):
                torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_the_recipe_transfers() -> None:
    scorer = find_recipe("tasm-transferred-direction").scorer
    assert scorer is not None
    assert scorer.make() == TaskScorer(attending="predictions", extracted_from="other answers")
