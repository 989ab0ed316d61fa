"""Suspicion against what asking each demonstration's question without it says."""

import pytest
import torch

import tasm
from tasm.answer.ask import ask_batches
from tasm.check.suspects import suspects
from tasm.demonstrations import Query
from tasm.errors import InputError
from tests.answer.conftest import demonstrations, folder, full, memory, model  # noqa: F401


@pytest.mark.parametrize("kind", ["memory", "full"])
def test_the_margin_is_that_of_labels_with_itself_masked(
    model: tasm.Model,  # noqa: F811
    kind: str,
    request: pytest.FixtureRequest,
) -> None:
    """Six demonstrations, five answers: labels."""
    given: tasm.TaskMemory = request.getfixturevalue(kind)
    rows = demonstrations()
    found = {one.id: one for one in suspects(model, given, rows, batch_size=4)}
    labels = list(dict.fromkeys(one.answer for one in rows))
    for number, one in enumerate(rows):
        query = Query(one.id, one.messages[:-1], ())
        (batch,) = ask_batches(model.backbone, given, [query], left_out=[number], labels=labels)
        by_label = {label.text: label.log_probability for label in batch.answers[0].labels}
        own = by_label.pop(one.answer)
        best = max(by_label, key=lambda label: by_label[label])
        judged = found[one.id]
        if judged.probability is None:  # every answer stands alone here
            assert judged.log_probability == pytest.approx(own, abs=1e-3)
            continue
        assert judged.log_probability == pytest.approx(own, abs=1e-3)
        assert judged.suspicion == pytest.approx(by_label[best] - own, abs=2e-3)
        assert judged.instead == (best if by_label[best] > own else None)


def test_labels_are_compared_where_several_have_one(model: tasm.Model) -> None:  # noqa: F811
    rows = [
        tasm.read_demonstrations([{"question": f"Is {number} even?", "answer": answer}])[0]
        for number, answer in enumerate(["yes", "no", "yes", "no", "yes"])
    ]
    built = tasm.build(model, rows, recipe="full")
    found = suspects(model, built, rows)
    assert {one.id for one in found} == {one.id for one in rows}
    assert [one.suspicion for one in found] == sorted(
        (one.suspicion for one in found), reverse=True
    )
    for one in found:
        assert one.probability is not None
        assert one.is_suspect == (one.suspicion > 0) == (one.probability < 0.5)
        log_odds = torch.logit(torch.tensor(one.probability))
        assert one.suspicion == pytest.approx(-float(log_odds), abs=1e-3)


def test_many_different_answers_are_ranked_without_labels(
    model: tasm.Model,  # noqa: F811
    memory: tasm.TaskMemory,  # noqa: F811
) -> None:
    found = suspects(model, memory, demonstrations())
    assert all(one.probability is None and not one.is_suspect for one in found)
    assert len(found) == 6


def test_one_demonstration_has_nobody_to_judge_it(model: tasm.Model) -> None:  # noqa: F811
    rows = demonstrations()[:1]
    with pytest.raises(InputError, match="two or more"):
        suspects(model, tasm.build(model, rows, recipe="full"), rows)


def test_another_set_of_demonstrations_is_refused(
    model: tasm.Model,  # noqa: F811
    memory: tasm.TaskMemory,  # noqa: F811
) -> None:
    with pytest.raises(InputError, match="missing"):
        suspects(model, memory, demonstrations()[:3])
    with pytest.raises(InputError, match="--demonstrations"):
        suspects(model, memory)
