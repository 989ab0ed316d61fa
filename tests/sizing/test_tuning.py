"""Tuning: what is chosen reached the target, nothing smaller that was tried did, figures hold."""

from xml.etree import ElementTree

import pytest
from PIL import Image

import tasm
from tasm.answer import full_context
from tasm.answer.ask import ask_batches
from tasm.demonstrations import Query
from tasm.errors import BudgetError, InputError
from tasm.view.tuning_curve import tuning_curve
from tests.answer.conftest import demonstrations, folder, model, queries  # noqa: F401

CORE = {"core": "40%"}


@pytest.fixture(scope="module")
def tuned(model: tasm.Model) -> tasm.Tuned:  # noqa: F811
    return tasm.tune(model, demonstrations(), recipes="h2o", target_agreement=0.8)


def test_the_smallest_that_was_found_to_reach_the_target(
    model: tasm.Model,  # noqa: F811
    tuned: tasm.Tuned,
) -> None:
    chosen = tuned.chosen
    assert chosen is not None and tuned.memory is not None
    assert chosen.agreement >= 0.8
    assert len(tuned.evaluations) <= 6
    for one in tuned.evaluations:
        assert one.agreement < 0.8 or one.stored_bytes >= chosen.stored_bytes
    built = tasm.build(model, demonstrations(), recipe="h2o", core=chosen.core)
    assert tuned.memory.core_bytes == built.core_bytes == chosen.core_bytes
    same = model.ask_all(built, queries(), max_new_tokens=4)
    assert [one.text for one in model.ask_all(tuned.memory, queries(), max_new_tokens=4)] == [
        one.text for one in same
    ]


def test_agreement_is_that_of_answers_with_the_own_demonstration_hidden(
    model: tasm.Model,  # noqa: F811
    tuned: tasm.Tuned,
) -> None:
    own = [Query(one.id, one.messages[:-1], (one.answer,)) for one in demonstrations()]

    def texts(memory: tasm.TaskMemory) -> list[str]:
        return [
            next(ask_batches(model.backbone, memory, [query], left_out=[number])).answers[0].text
            for number, query in enumerate(own)
        ]

    full = texts(full_context(model.backbone, demonstrations()))
    one = tuned.evaluations[0]
    small = texts(tasm.build(model, demonstrations(), recipe="h2o", core=one.core))
    assert one.agreement == pytest.approx(
        sum(a == b for a, b in zip(full, small, strict=True)) / len(own)
    )


def test_what_was_found_is_written_down(
    model: tasm.Model,  # noqa: F811
    tuned: tasm.Tuned,
    tmp_path: object,
) -> None:
    assert tuned.memory is not None and tuned.chosen is not None
    place = f"{tmp_path}/m.tasm"
    tuned.memory.save(place)
    facts = tasm.load(place).recipe["tuned"]
    assert facts["agreement"] == tuned.chosen.agreement
    assert facts["temperature"] == pytest.approx(tuned.temperature)
    labels = {"labels": "demonstrations"}
    plain = model.ask(place, question="Which?", **labels)
    right = model.ask(place, question="Which?", calibration="demonstrations", **labels)
    ratio = plain.labels[0].probability / plain.labels[1].probability
    expected = ratio ** (1 / facts["temperature"])
    assert right.labels[0].probability / right.labels[1].probability == pytest.approx(
        expected, rel=1e-3
    )


def test_doubt_is_a_place_among_the_demonstrations(
    model: tasm.Model,  # noqa: F811
    tuned: tasm.Tuned,
) -> None:
    assert tuned.memory is not None
    known = [sum(one.log_probabilities) / len(one.log_probabilities) for one in tuned.answers]
    for answer in model.ask_all(tuned.memory, queries()):
        own = sum(answer.log_probabilities) / len(answer.log_probabilities)
        assert answer.doubt == sum(one > own for one in known) / len(known)
    bare = tasm.build(model, demonstrations(), recipe="h2o")
    assert model.ask(bare, question="Which?").doubt is None


def test_what_was_found_goes_when_demonstrations_come(
    model: tasm.Model,  # noqa: F811
    tuned: tasm.Tuned,
) -> None:
    assert tuned.memory is not None and "tuned" in tuned.memory.recipe
    grey = Image.new("RGB", (56, 56), "grey")
    more = [{"image": grey, "question": "What colour is it?", "answer": "grey"}]
    grown = tasm.add(tuned.memory, model, more, notice=None)
    assert "tuned" not in grown.recipe
    assert model.ask(grown, question="Which?").doubt is None


def test_a_memory_that_was_not_tuned_has_no_temperature(
    model: tasm.Model,  # noqa: F811
) -> None:
    memory = tasm.build(model, demonstrations(), recipe="h2o")
    with pytest.raises(InputError, match="tasm tune"):
        model.ask(memory, question="Which?", labels=["a", "b"], calibration="demonstrations")


def test_folds_alone_judge_the_recipes_own_core(model: tasm.Model) -> None:  # noqa: F811
    tuned = tasm.tune(model, demonstrations(), recipes="h2o", folds=3)
    assert len(tuned.evaluations) == 1
    assert tuned.judged_by == "folds" and tuned.queries == 6
    assert tuned.interval is not None and tuned.interval[0] <= tuned.accuracy <= tuned.interval[1]  # type: ignore[operator]
    assert sum(one.times for one in tuned.confusions) == 6
    # By hand: every third demonstration asked of a memory of the others.
    rows = demonstrations()
    said = {}
    for fold in range(3):
        rest = [one for n, one in enumerate(rows) if n % 3 != fold]
        memory = tasm.build(model, rest, recipe="h2o")
        own = [Query(one.id, one.messages[:-1], (one.answer,)) for one in rows[fold::3]]
        for answer in model.ask_all(memory, own):
            assert answer.query is not None
            said[answer.query.id] = answer.text
    assert {one.query.id: one.text for one in tuned.answers if one.query} == said


def test_bytes_bound_what_is_taken(model: tasm.Model) -> None:  # noqa: F811
    tuned = tasm.tune(model, demonstrations(), recipes="h2o", max_bytes="50%")
    assert tuned.chosen is not None and tuned.memory is not None
    assert tuned.chosen.stored_bytes <= 0.5 * tuned.memory.full_bytes
    assert len(tuned.evaluations) == 1


def test_nothing_reaches_what_cannot_be(model: tasm.Model) -> None:  # noqa: F811
    asked = [Query("q", queries()[0].messages, ("no such answer",))]
    tuned = tasm.tune(model, demonstrations(), recipes="h2o", queries=asked, target_accuracy=1.0)
    assert tuned.chosen is None and tuned.memory is None
    assert (
        "Nothing reaches accuracy 1" in tuned.why and "all demonstrations reach 0.000" in tuned.why
    )
    assert tuned.to_json()["core"] is None


def test_the_curve_is_a_picture(tuned: tasm.Tuned) -> None:
    picture = ElementTree.fromstring(tuning_curve(tuned.to_json()))
    circles = picture.findall(".//{http://www.w3.org/2000/svg}circle")
    assert len(circles) == 2 + 2 * len(tuned.evaluations)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"target_agreement": 0.9, "target_accuracy": 0.9}, "both given"),
        ({"folds": 3, "queries": [{"question": "Which?"}]}, "queries and folds"),
        ({"folds": 7}, "6 demonstrations; expected at least 7"),
        ({"recipes": []}, "recipes is empty"),
        ({"recipes": "zero-shot"}, "nothing to tune"),
        ({"target_accuracy": 0.5, "queries": [{"question": "Which?"}]}, "none has one"),
        ({"max_bytes": "512"}, "expected bytes"),
        ({"metric": "exakt"}, "expected one of exact"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], said: str, model: tasm.Model) -> None:  # noqa: F811
    with pytest.raises((InputError, BudgetError), match=said):
        tasm.tune(model, demonstrations(), **settings)  # type: ignore[arg-type]
