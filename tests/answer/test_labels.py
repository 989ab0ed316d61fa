"""Labels: scored as an ordinary prompt of all demonstrations would score them, then ranked."""

from pathlib import Path

import pytest
import torch

import tasm
from tasm.answer.confidence import calibration_error
from tasm.answer.labelling import without_content
from tasm.answer.labels import LabelTokens, as_labels, score_labels
from tasm.backbone.ends import answer_ends
from tasm.backbone.prompt.transcript import Role
from tasm.check.fidelity import answer_distributions
from tasm.errors import InputError
from tests.answer.conftest import COLOURS, demonstrations, queries
from tests.tiny_folders import tiny_folder

FAMILIES = ("qwen2_vl", "llava", "llava_next", "idefics3", "gemma3", "mistral3", "llama", "gemma2")
"""Templates and tokenizers of every kind; `tests/answer/test_families.py` has them all."""
LABELS = ("red", "red red", "blue", "a yellow square", "white")


def by_ordinary_prompts(
    model: tasm.Model, rows: list[tasm.Demonstration], query: tasm.Query, layout: object
) -> list[float]:
    """Log-probabilities of each label and an end after it, each from one prompt read whole."""
    backbone = model.backbone
    ends = [
        end
        for end in answer_ends(backbone)
        if end < model.hf.get_input_embeddings().weight.shape[0]
    ]
    totals = []
    for label in LABELS:
        ids = backbone.answer_tokens(label, layout=layout)
        inputs = backbone.full_inputs(rows, query, layout=layout)
        prompt = inputs["input_ids"].shape[1]
        added = torch.tensor([ids])
        for name, value in (("input_ids", added), ("attention_mask", torch.ones_like(added))):
            inputs[name] = torch.cat([inputs[name], value], 1)
        for name in ("token_type_ids", "mm_token_type_ids"):
            if name in inputs:
                inputs[name] = torch.cat([inputs[name], torch.zeros_like(added)], 1)
        with torch.no_grad():
            said = model.hf(**inputs, use_cache=False).logits[0, prompt - 1 :].float()
        said = said.log_softmax(-1)
        own = said[torch.arange(len(ids)), torch.tensor(ids)].sum()
        totals.append(float(own + said[len(ids), ends].logsumexp(-1)))
    return totals


def check_tokens(model: tasm.Model) -> None:
    """A label's tokens are those that a demonstration with this answer has."""
    rows = tasm.read_demonstrations([{"question": "Which?", "answer": one} for one in LABELS])
    transcript = model.backbone.transcript(rows)
    for number, label in enumerate(LABELS):
        own = (transcript.roles == int(Role.ANSWER)) & (transcript.demonstration == number)
        written = transcript.input_ids[own].tolist()
        said = list(model.backbone.answer_tokens(label, layout=transcript.layout))
        assert said[-len(written) :] == written
        assert len(said) <= len(written) + 2  # what the template writes between


@pytest.mark.filterwarnings("ignore")
@pytest.mark.matrix
@pytest.mark.parametrize("family", FAMILIES)
def test_labels_score_as_in_ordinary_prompts(family: str, tmp_path: Path) -> None:
    model = tasm.load_model(tiny_folder(family, tmp_path / family))
    if hasattr(model.processor, "image_processor"):
        rows, asked = demonstrations()[:2], queries()[:2]
    else:
        texts = [{"question": f"Number {n}?", "answer": "x " * n} for n in (1, 2)]
        rows, asked = tasm.read_demonstrations(texts), queries()[2:3]
    memory = tasm.build(model, rows, recipe="full")
    check_tokens(model)
    answers = model.ask_all(memory, asked, labels=LABELS)
    for query, answer in zip(asked, answers, strict=True):
        expected = by_ordinary_prompts(model, rows, query, memory.layout)
        found = {one.text: one.log_probability for one in answer.labels}
        assert [found[label] for label in LABELS] == pytest.approx(expected, abs=2e-3)
        shares = torch.tensor(expected).softmax(0)
        assert answer.confidence == pytest.approx(float(shares.max()), abs=2e-3)
        assert answer.text == LABELS[int(shares.argmax())]


def test_a_bank_and_its_gate_do_what_they_do_while_generating(
    model: tasm.Model, memory: tasm.TaskMemory
) -> None:
    backbone = model.backbone
    tokens = LabelTokens.of(backbone, LABELS, memory.layout)
    ends = [end for end in answer_ends(backbone) if end < 400]  # of the tiny vocabulary
    scored = {
        rows: score_labels(
            backbone,
            backbone.query_inputs(queries(), layout=memory.layout),
            memory.cache(),
            tokens,
            most_rows=rows,
        )
        for rows in (1, 9, 128)
    }
    for number, ids in enumerate(tokens.ids):
        told = answer_distributions(backbone, memory, queries(), [ids] * len(queries()))
        expected = [
            float(row[torch.arange(len(ids)), list(ids)].sum() + row[-1, ends].logsumexp(-1))
            for row in told
        ]
        for found in scored.values():
            assert found.log_probabilities[:, number].tolist() == pytest.approx(expected, abs=1e-4)


def test_a_batch_of_labels_answers_as_single_queries_do(
    model: tasm.Model, memory: tasm.TaskMemory
) -> None:
    together = model.ask_all(memory, queries(), labels=LABELS, explain=True)
    for query, answer in zip(queries(), together, strict=True):
        alone = model.ask_all(memory, [query], labels=LABELS, explain=True)[0]
        assert [one.text for one in alone.labels] == [one.text for one in answer.labels]
        assert answer.confidence == pytest.approx(alone.confidence, abs=1e-4)
        assert sum(one.probability for one in answer.labels) == pytest.approx(1)
        assert answer.text == answer.labels[0].text in LABELS
        assert answer.divergence == pytest.approx(alone.divergence, abs=1e-6)
        assert sum(one.weight for one in answer.demonstrations) == pytest.approx(1)
        ids = model.backbone.answer_tokens(answer.text, layout=memory.layout)
        assert answer.token_ids == ids
        assert len(answer.log_probabilities) == len(ids) + 1


def test_free_answers_know_how_probable_they_are(
    model: tasm.Model, memory: tasm.TaskMemory
) -> None:
    answers = model.ask_all(memory, queries(), max_new_tokens=4)
    told = answer_distributions(
        model.backbone, memory, queries(), [one.token_ids for one in answers]
    )
    for answer, rows in zip(answers, told, strict=True):
        count = len(answer.log_probabilities)
        assert count in (len(answer.token_ids), len(answer.token_ids) + 1)
        expected = rows.max(-1).values[:count].tolist()
        assert list(answer.log_probabilities) == pytest.approx(expected, abs=1e-4)
        assert answer.confidence == pytest.approx(
            float(torch.tensor(expected).sum().exp()), abs=1e-4
        )


def test_contextual_calibration_divides_by_what_is_said_about_nothing(
    model: tasm.Model, memory: tasm.TaskMemory
) -> None:
    plain = model.ask_all(memory, queries(), labels=LABELS)
    nothing = model.ask_all(memory, [without_content(one) for one in queries()], labels=LABELS)
    right = model.ask_all(memory, queries(), labels=LABELS, calibration="contextual")
    for answer, before, after in zip(plain, nothing, right, strict=True):
        prior = {one.text: one.probability for one in before.labels}
        ratios = {one.text: one.probability / prior[one.text] for one in answer.labels}
        total = sum(ratios.values())
        found = {one.text: one.probability for one in after.labels}
        assert found == pytest.approx({text: one / total for text, one in ratios.items()}, rel=1e-3)
        assert after.text == max(ratios, key=ratios.__getitem__)


def test_a_query_without_content() -> None:
    with_picture, _, without, _ = queries()
    bare = without_content(with_picture)
    assert bare.question == with_picture.question
    image = bare.pictures[0].load()
    assert image.size == with_picture.pictures[0].load().size
    assert image.getcolors() == [(image.width * image.height, (127, 127, 127))]
    assert without_content(without).question == "N/A"


def test_the_demonstrations_own_answers_are_labels(
    model: tasm.Model, memory: tasm.TaskMemory
) -> None:
    own = as_labels("demonstrations", memory)
    assert own == tuple(one.answer for one in demonstrations())
    assert len(own) == len(COLOURS)
    assert model.ask(memory, question="Which?", labels="demonstrations").text in own


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([], "labels is empty"),
        (["red", " "], "labels holds ' '"),
        (["red", "blue", "red "], "labels holds 'red' twice"),
        ("red", "labels is 'red'; expected a list of strings, or 'demonstrations'"),
        ([1], "labels holds 1"),
    ],
)
def test_labels_that_cannot_be(
    labels: object, said: str, model: tasm.Model, memory: tasm.TaskMemory
) -> None:
    with pytest.raises(InputError, match=said.replace(".", r"\.")):
        model.ask(memory, question="Which?", labels=labels)  # type: ignore[arg-type]


def test_settings_without_effect_are_refused(model: tasm.Model, memory: tasm.TaskMemory) -> None:
    for settings, said in (
        ({"labels": LABELS, "max_new_tokens": 4}, "max_new_tokens=4 has no effect"),
        ({"labels": LABELS, "on_text": print}, "on_text has no effect"),
        ({"calibration": "contextual"}, "has no effect without labels"),
        ({"calibration": "some", "labels": LABELS}, "expected one of none, contextual"),
    ):
        with pytest.raises(InputError, match=said):
            model.ask(memory, question="Which?", **settings)


def test_answers_that_were_not_recorded_or_are_many(
    model: tasm.Model, memory: tasm.TaskMemory
) -> None:
    bare = memory.replaced(demonstrations=())
    with pytest.raises(InputError, match="did not record its demonstrations' answers"):
        as_labels("demonstrations", bare)
    rows = [{"question": f"Number {n}?", "answer": f"a {n}"} for n in range(65)]
    many = tasm.build(model, rows, recipe="recent", core="50%")
    with pytest.raises(InputError, match="65 different answers"):
        as_labels("demonstrations", many)


def test_calibration_error() -> None:
    assert calibration_error([], []) is None
    assert calibration_error([0.9] * 10, [True] * 9 + [False]) == pytest.approx(0)
    # Two bins: 0.2 sure and never right, 1.0 sure and always right.
    assert calibration_error([0.2, 0.2, 1.0, 1.0], [False, False, True, True]) == pytest.approx(0.1)
