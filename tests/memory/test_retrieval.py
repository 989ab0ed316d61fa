"""Retrieval's state per row and layer, against a plain loop over rows."""

import pytest
import torch

from tasm.backbone.attention.segment import Segment
from tasm.errors import InputError
from tasm.memory import Bank, GateReference, GateSettings, LayerTokens
from tasm.memory.retrieval.gates import gate_divergence
from tasm.memory.retrieval.in_attention import Retrieval
from tasm.memory.retrieval.looking import core_distribution
from tests.memory.memories import HEAD_DIM, KV_HEADS, layer_tokens

SCALING = 0.4
LAYERS = 2


class Scene:
    """A core, a bank and a reference of random tensors, and queries step by step."""

    def __init__(self, batch: int = 3, steps: int = 4) -> None:
        generator = torch.Generator().manual_seed(7)
        self.core = [layer_tokens(generator, (6, 6), total=40) for _ in range(LAYERS)]
        self.bank = [layer_tokens(generator, (15, 11), total=40) for _ in range(LAYERS)]
        shares = torch.rand(LAYERS, KV_HEADS, 6, generator=generator).softmax(-1)
        self.reference = tuple(shares)
        shape = (steps, LAYERS, batch, KV_HEADS, 2, HEAD_DIM)
        # Every row stays near where it was at some steps and jumps at others.
        jumps = torch.tensor([1.0, 0.02, 1.5, 0.02])[:steps].view(-1, 1, 1, 1, 1, 1)
        self.queries = (torch.randn(shape, generator=generator) * jumps).cumsum(0)

    def retrieval(self, **settings) -> Retrieval:
        reference = GateReference(self.reference, (0.02,) * LAYERS)
        return Retrieval(
            [tokens.segment() for tokens in self.core],
            Bank(self.bank),
            GateSettings(**settings),
            reference,
            top_k=4,
        )

    def expected(
        self, layer: int, row: int, epsilon: float, kind: str = "js"
    ) -> list[tuple[bool, list[list[int]] | None]]:
        """Per step: whether the row retrieves, and the transcript indices attached after it."""
        steps, attached = [], None
        before = self.reference[layer][None]
        for query in self.queries[:, layer, row]:
            now = core_distribution(query[None], self.core[layer].keys, SCALING)
            fired = kind == "always" or bool(gate_divergence(now, before)[0] > epsilon)
            before = now
            if fired:
                attached = []
                for head in range(KV_HEADS):
                    count = self.bank[layer].counts[head]
                    products = self.bank[layer].keys[head, :count] @ query[head].mean(0)
                    best = products.argsort(descending=True)[:4]
                    attached.append(self.bank[layer].index[head, best].tolist())
            steps.append((fired, attached))
        return steps


def attached_keys(segment: Segment | None, row: int) -> list[torch.Tensor] | None:
    """Keys of each head that the row sees, or None where it sees none."""
    if segment is None or segment.bias is None or bool((segment.bias[row] < -1e20).all()):
        return None
    return [segment.keys[row, head][segment.bias[row, head] > -1e20] for head in range(KV_HEADS)]


def keys_at(tokens: LayerTokens, wanted: list[list[int]]) -> list[torch.Tensor]:
    found = []
    for head, indices in enumerate(wanted):
        places = [tokens.index[head, : tokens.counts[head]].tolist().index(i) for i in indices]
        found.append(tokens.keys[head, places])
    return found


@pytest.mark.parametrize("path", ["branching", "masked"])
@pytest.mark.parametrize("kind", ["js", "always"])
def test_rows_and_layers_against_a_plain_loop(path, kind, monkeypatch):
    scene = Scene()
    if path == "masked":
        monkeypatch.setattr(Retrieval, "_may_branch", lambda self, layer: False)
    retrieval = scene.retrieval(kind=kind, epsilon=0.03)
    fired_by_row = [[], [], []]
    for step, layers in enumerate(scene.queries):
        for layer, query in enumerate(layers):
            segment = retrieval(layer, query, SCALING)
            for row in range(3):
                fired, wanted = scene.expected(layer, row, 0.03, kind)[step]
                fired_by_row[row].append(fired)
                seen = attached_keys(segment, row)
                assert (seen is None) == (wanted is None)
                for got, right in zip(
                    seen or [], keys_at(scene.bank[layer], wanted or []), strict=True
                ):
                    assert torch.equal(got, right)
    shares = [sum(fired) / len(fired) for fired in fired_by_row]
    assert retrieval.statistics.triggered() == pytest.approx(shares)
    if kind == "js":
        assert any(0 < share < 1 for share in shares), "the scene should open and shut the gate"


def test_a_gate_that_opens_at_every_nth_step():
    scene = Scene()
    retrieval, always = scene.retrieval(kind="always", interval=2), scene.retrieval(kind="always")
    attached, fresh = [], []
    for step in range(5):
        query = 3 * torch.randn(
            scene.queries[0, 0].shape, generator=torch.Generator().manual_seed(step)
        )
        for one, held in ((retrieval, attached), (always, fresh)):
            held.append(one(0, query, SCALING).keys)
    for step, source in enumerate([0, 0, 2, 2, 4]):
        assert torch.equal(attached[step], fresh[source])
    assert not torch.equal(fresh[1], fresh[0])
    assert retrieval.statistics.triggered() == pytest.approx([3 / 5] * 3)
    with pytest.raises(InputError, match="opens every 0 steps"):
        scene.retrieval(kind="always", interval=0)


def test_statistics_of_the_first_step():
    scene = Scene()
    retrieval = scene.retrieval(epsilon=0.03)
    divergence, brought = torch.zeros(3), torch.zeros(3)
    for layer, query in enumerate(scene.queries[0]):
        retrieval(layer, query, SCALING)
        now = core_distribution(query, scene.core[layer].keys, SCALING)
        here = gate_divergence(now, scene.reference[layer][None])
        divergence += here / LAYERS
        brought += (here > 0.03) * 4 / LAYERS
    for layer, query in enumerate(scene.queries[1]):
        retrieval(layer, query, SCALING)
    assert retrieval.statistics.divergence() == pytest.approx(divergence.tolist(), abs=1e-6)
    assert retrieval.statistics.retrieved_tokens() == pytest.approx(brought.tolist())


def test_triggered_can_leave_out_what_a_finished_row_went_on_with():
    scene = Scene()
    retrieval = scene.retrieval(epsilon=0.03)
    for layers in scene.queries:
        for layer, query in enumerate(layers):
            retrieval(layer, query, SCALING)
    first_two = [
        sum(scene.expected(layer, 1, 0.03)[step][0] for layer in range(2) for step in range(2)) / 4
    ]
    assert retrieval.statistics.triggered(steps=[4, 2, 4])[1:2] == pytest.approx(first_two)


def test_calibrated_thresholds_and_later_ones_of_their_own():
    scene = Scene()
    wanted_of = {(-1.0, 9.0): [1, 0], (9.0, -1.0): [0, 1], (9.0, None): [0, 0], (None, 9.0): [1, 0]}
    for (first, later), wanted in wanted_of.items():
        steps = (later,) * LAYERS
        retrieval = scene.retrieval()
        retrieval.reference = GateReference(scene.reference, (first,) * LAYERS, steps)
        for layers in scene.queries[:2]:
            retrieval(0, layers[0], SCALING)
        assert retrieval.statistics.triggered() == [sum(wanted) / 2] * 3


def test_without_a_reference_the_first_step_retrieves():
    scene = Scene()
    retrieval = scene.retrieval(epsilon=100.0)
    retrieval.reference = None
    assert attached_keys(retrieval(0, scene.queries[0, 0], SCALING), 0) is not None
    assert retrieval.statistics.divergence() == []
    retrieval(0, scene.queries[1, 0], SCALING)
    assert retrieval.statistics.triggered() == [0.5] * 3


def test_a_layer_without_a_core_retrieves_once():
    scene = Scene()
    retrieval = scene.retrieval(epsilon=0.0)
    retrieval.core = (None, retrieval.core[1])
    for layers in scene.queries:
        retrieval(0, layers[0], SCALING)
    assert retrieval.statistics.triggered() == [1 / len(scene.queries)] * 3


def test_only_chosen_layers_with_a_bank_retrieve():
    scene = Scene()
    scene.bank[0] = None
    assert scene.retrieval(kind="always").gated_layers == (1,)
    assert scene.retrieval(kind="always", layers=(0,)).gated_layers == ()
    retrieval = scene.retrieval(kind="always")
    assert retrieval(0, scene.queries[0, 0], SCALING) is None
    assert retrieval(1, scene.queries[0, 1], SCALING) is not None


def run(retrieval: Retrieval, queries: torch.Tensor) -> list[torch.Tensor]:
    return [
        (segment.keys * (segment.bias > -1e20)[..., None])
        if (segment := retrieval(layer, query, SCALING)) is not None
        else torch.zeros(())
        for step in queries
        for layer, query in enumerate(step)
    ]


@pytest.mark.parametrize(
    ("move", "rows"),
    [
        (lambda state: state.index_select(0, torch.tensor([2, 0, 0])), [2, 0, 0]),
        (lambda state: state[torch.tensor([1])], [1]),
        (lambda state: state.repeat_interleave(2, 0), [0, 0, 1, 1, 2, 2]),
    ],
    ids=["reorder", "select", "repeat"],
)
def test_rows_move_with_the_batch(move, rows):
    """A row that moved goes on as if it had been asked alone from the start."""
    scene = Scene()
    together = scene.retrieval(epsilon=0.03)
    run(together, scene.queries[:2])
    together.map_rows(move)
    got = run(together, scene.queries[2:, :, rows])
    alone = []
    for row in rows:
        one = scene.retrieval(epsilon=0.03)
        run(one, scene.queries[:2, :, row : row + 1])
        alone.append((one, run(one, scene.queries[2:, :, row : row + 1])))
    for step, segment in enumerate(got):
        for place, (_, segments) in enumerate(alone):
            if segments[step].ndim:
                torch.testing.assert_close(segment[place], segments[step][0])
            elif segment.ndim:
                assert not segment[place].any()
    shares = together.statistics.triggered()
    assert shares == pytest.approx([one.statistics.triggered()[0] for one, _ in alone])


def test_reset_and_fork_begin_anew():
    scene = Scene()
    retrieval = scene.retrieval(epsilon=0.03)
    first = run(retrieval, scene.queries)
    fork = retrieval.fork()
    retrieval.reset()
    for begun_anew in (retrieval, fork):
        assert begun_anew.statistics.triggered() == []
        for before, after in zip(first, run(begun_anew, scene.queries), strict=True):
            assert torch.equal(before, after)


def test_queries_in_half_precision_get_what_was_banked():
    scene = Scene()
    segment = scene.retrieval(kind="always")(0, scene.queries[0, 0].bfloat16(), SCALING)
    assert segment.keys.dtype == segment.values.dtype == torch.bfloat16
    assert segment.bias.dtype == torch.float32


def test_compiled_whole_and_the_same():
    """No graph break with the bank on the device, and the numbers of the eager path."""
    scene = Scene()
    compiled_retrieval = scene.retrieval(epsilon=0.03)
    plain = scene.retrieval(epsilon=0.03)

    def one(retrieval: Retrieval, layer: int, query: torch.Tensor) -> torch.Tensor:
        segment = retrieval(layer, query, SCALING)
        return segment.keys * (segment.bias > -1e20)[..., None]

    compiled = torch.compile(one, backend="eager", fullgraph=True)
    for layers in scene.queries:
        for layer, query in enumerate(layers):
            got = compiled(compiled_retrieval, layer, query)
            segment = plain(layer, query, SCALING)
            expected = (
                torch.zeros(())
                if segment is None
                else segment.keys * (segment.bias > -1e20)[..., None]
            )
            torch.testing.assert_close(got, expected.expand_as(got))
