"""Every public name, called with wrong types and values: one sentence that names the argument.

Two kinds of cases: what no call takes, and the natural ways of saying something, which are taken.
"""

import pickle
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tasm
from tests.answer.conftest import COLOURS, demonstrations, queries

NAN = float("nan")
THING = object()
ROW = {"question": "Which?", "answer": "red"}


def _not_whole(least: int = 1) -> list[Any]:
    return [least - 1, -5, 2.5, True, "8", NAN, THING, [1]]


BUILD: dict[str, list[Any]] = {
    "model": [None, 5, "", THING, b"reference", ["reference"]],
    "demonstrations": [None, 5, "", THING, b"rows", 2.5],
    "recipe": [5, None, "tsam", "", THING],
    "core": ["abc", True, NAN, -3, -0.2, 1.0, 2.5, "", "0.2x", "120%", THING, [20], 0, "0%"],
    "bank": ["abc", True, NAN, -3, -0.2, 1.0, 2.5, "", "120%", THING],
    "mode": ["jiont", "", 5, True, None, THING],
    "chunk_tokens": _not_whole(),
    "question": [5, b"x", THING],
    "system": [5, b"x", THING, ["x"]],
    "max_pixels": _not_whole(),
    "store": ["float23", "", 5, torch.int64, torch.float64, THING, True],
    "skip_bad_rows": [5, "yes", None, THING],
    "seed": [-1, 2.5, True, "8", NAN, THING, 2**32, None],
    "progress": [5, "x", THING, True],
    "notice": [5, "x", THING, True],
}
ASK: dict[str, list[Any]] = {
    "memory": [None, 5, "", THING, b"x", "nowhere.tasm"],
    "question": [None, 5, "", "   ", b"x", THING, ["x"], "half \ud800", "a\0b"],
    "images": [5, "nowhere.png", "", THING, [None], {}, [[]], b"no picture", {"a": 1}, True],
    "explain": [5, "yes", None],
    "gate": ["jss", "", 5, True, THING],
    "epsilon": ["0.1", NAN, -1.0, True, float("inf"), THING, "calibrate"],
    "max_new_tokens": _not_whole(),
    "on_text": [5, "x", THING],
}
ASK_ALL: dict[str, list[Any]] = {
    **{name: ASK[name] for name in ("memory", "explain", "gate", "epsilon", "max_new_tokens")},
    "queries": [None, 5, "", "nowhere.jsonl", THING, b"x", [5], [None], {}, [{"answer": "x"}]],
    "batch_size": _not_whole(),
    "on_text": [5, "x", THING, print],  # two queries cannot be streamed
    "progress": [5, "x", THING],
}
VERIFY: dict[str, list[Any]] = {
    "memory": ASK["memory"],
    "model": [5, "", THING, b"x", "nowhere/at-all-there"],
    "queries": [5, "", "nowhere.jsonl", THING, [5]],
    "demonstrations": [5, "", "nowhere.jsonl", THING, [ROW]],
    "min_agreement": [2, -0.1, "x", NAN, True, THING],
    "batch_size": _not_whole(),
    "progress": [5, THING],
    "notice": [5, THING],
}
REBUILD: dict[str, list[Any]] = {
    "memory": ASK["memory"],
    "model": BUILD["model"],
    "demonstrations": VERIFY["demonstrations"],
    "progress": [5, THING],
    "notice": [5, THING],
}
CASES: dict[str, dict[str, list[Any]]] = {
    "build": BUILD,
    "plan": {name: values for name, values in BUILD.items() if name != "progress"},
    "ask": ASK,
    "ask_all": ASK_ALL,
    "inputs": {name: ASK[name] for name in ("memory", "question", "images")},
    "verify": VERIFY,
    "rebuild": REBUILD,
    "load": {"path": [None, 5, "", "  ", THING, b"x", "nowhere.tasm", "a\0b", ["x"]]},
    "save": {"path": [None, 5, "", THING, b"x", "a\0b"]},
    "load_model": {
        "name": [None, 5, "", THING, b"x", "nowhere at all"],
        "dtype": [None, 5, "", "float23", THING, torch.int64, True],
        "device": [None, 5, "", "cuda:x", "banana", THING, True],
    },
    "wrap": {
        "hf": [None, 5, "reference", THING, torch.nn.Linear(1, 1)],
        "processor": [None, 5, "reference", THING],
    },
    "make_query": {"question": [5, "", THING], "images": ["nowhere.png", [THING], [5]]},
}
# What a message may call an argument: itself or the word that a person would use for it.
WORDS = {
    "memory": ("memory", "nowhere.tasm"),
    "path": ("path", "nowhere.tasm"),
    "model": ("model",),
    "name": ("name", "model"),
    "images": ("image", "picture"),
    "queries": ("quer", "nowhere.jsonl", "[0]"),
    "demonstrations": ("demonstrations", "nowhere.jsonl"),
    "gate": ("gate",),
    "system": ("system",),
}


@pytest.fixture(scope="session")
def calls(model: tasm.Model, memory: tasm.TaskMemory) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Every public call with arguments that work."""
    small = {"recipe": "recent", "core": "60%"}
    base = {"model": model, "demonstrations": demonstrations()[:2], **small}
    return {
        "build": (tasm.build, base),
        "plan": (tasm.plan, base),
        "ask": (model.ask, {"memory": memory, "question": "Which?"}),
        "ask_all": (model.ask_all, {"memory": memory, "queries": queries()[:2]}),
        "inputs": (model.inputs, {"memory": memory, "question": "Which?"}),
        "verify": (
            tasm.verify,
            {"memory": memory, "model": model, "demonstrations": demonstrations()},
        ),
        "rebuild": (
            tasm.rebuild,
            {"memory": memory, "model": model, "demonstrations": demonstrations()},
        ),
        "load": (tasm.load, {}),
        "save": (memory.save, {}),
        "load_model": (tasm.load_model, {"name": "reference"}),
        "wrap": (tasm.wrap, {"hf": model.hf, "processor": model.processor}),
        "make_query": (tasm.make_query, {"question": "Which?"}),
    }


@pytest.mark.parametrize(
    ("call", "argument"), [(call, argument) for call, given in CASES.items() for argument in given]
)
def test_a_wrong_argument_is_named(
    call: str, argument: str, calls: dict[str, Any], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    function, base = calls[call]
    for value in CASES[call][argument]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(tasm.TasmError) as caught:
                function(**(base | {argument: value}))
        sentence = str(caught.value)
        words = WORDS.get(argument, (argument,))
        assert any(word in sentence.lower() for word in words), (value, sentence)
        assert caught.value.exit_code == 2, (value, sentence)
        assert "object at 0x" not in sentence, sentence
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["build", "plan", "ask", "ask_all", "inputs", "rebuild", "wrap"])
def test_without_a_wrong_argument_nothing_is_refused(call: str, calls: dict[str, Any]) -> None:
    function, base = calls[call]
    function(**base)


@pytest.mark.parametrize("call", sorted(CASES))
def test_an_unknown_argument_is_pythons_own_error(call: str, calls: dict[str, Any]) -> None:
    function, base = calls[call]
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        function(**base, colour="red")


@pytest.mark.parametrize("nothing", [[], ()])
@pytest.mark.parametrize("mode", ["joint", "independent", "streaming"])
def test_no_demonstrations_are_refused_in_every_mode(
    mode: str, nothing: Any, model: tasm.Model
) -> None:
    for call in (tasm.build, tasm.plan):
        with pytest.raises(tasm.errors.DemonstrationError, match="found no rows to use"):
            call(model, nothing, recipe="recent", core=8, mode=mode)


@pytest.mark.parametrize("nothing", [[], ()])
def test_nothing_cannot_be_added(nothing: Any, model: tasm.Model) -> None:
    rows = demonstrations()[:2]
    memory = tasm.build(model, rows, recipe="recent", mode="independent", core="60%")
    with pytest.raises(tasm.errors.DemonstrationError, match="found no rows to use"):
        tasm.add(memory, model, nothing)


@pytest.mark.parametrize(
    ("call", "name"), [("ask", "left_out"), ("ask", "batch_size"), ("ask_all", "left_out")]
)
def test_what_an_inner_function_takes_is_no_argument_of_the_public_one(
    call: str, name: str, calls: dict[str, Any]
) -> None:
    function, base = calls[call]
    with pytest.raises(TypeError, match=rf"{call}\(\) got an unexpected keyword argument '{name}'"):
        function(**base, **{name: None})


@pytest.mark.parametrize(
    ("argument", "value", "near"),
    [("recipe", "tsam", "tasm"), ("mode", "jiont", "joint"), ("store", "float23", "float32")],
)
def test_a_slip_of_the_pen_is_recognised(
    argument: str, value: str, near: str, model: tasm.Model
) -> None:
    with pytest.raises(tasm.TasmError, match=f"Did you mean '{near}'"):
        tasm.build(model, demonstrations()[:2], **{argument: value})


def test_a_bare_model_of_transformers_is_told_how_to_be_wrapped(model: tasm.Model) -> None:
    with pytest.raises(tasm.TasmError, match=r"tasm\.wrap\(hf_model, processor\)"):
        tasm.build(model.hf, demonstrations())
    with pytest.raises(tasm.TasmError, match="which is wrapped already"):
        tasm.wrap(model, model.processor)


# ---------------------------------------------------------------------- natural ways are taken


def rows() -> list[dict[str, Any]]:
    return [
        {"image": Image.new("RGB", (56, 56), colour), "question": "Which?", "answer": colour}
        for colour in COLOURS[:3]
    ]


def generator() -> Iterator[dict[str, Any]]:
    yield from rows()


def one_by_one() -> Iterator[tasm.Demonstration]:
    yield from tasm.read_demonstrations(rows())


@pytest.mark.parametrize(
    "given", [rows, generator, one_by_one, lambda: tuple(rows()), lambda: iter(rows())]
)
def test_demonstrations_in_any_shape(given: Callable[[], Any], model: tasm.Model) -> None:
    memory = tasm.build(model, given(), recipe="recent")
    assert [entry.answer for entry in memory.demonstrations] == list(COLOURS[:3])
    planned = tasm.plan(model, given(), recipe="recent")
    assert (planned["demonstrations"], planned["tokens"]) == (3, memory.logical_length)


def test_a_folder_of_classes_gets_its_question(model: tasm.Model, tmp_path: Path) -> None:
    for colour in COLOURS[:2]:
        (tmp_path / "photos" / colour).mkdir(parents=True)
        Image.new("RGB", (56, 56), colour).save(tmp_path / "photos" / colour / "one.png")
    memory = tasm.build(model, tmp_path / "photos", question="Which?", core="60%")
    assert {entry.answer for entry in memory.demonstrations} == set(COLOURS[:2])
    assert all("Which?" in str(entry.question) for entry in memory.demonstrations)


def test_bad_rows_are_skipped_when_that_is_wanted(model: tasm.Model) -> None:
    bad = [*rows(), {"image": "nowhere.png", "question": "Which?", "answer": "red"}]
    said: list[str] = []
    with pytest.raises(tasm.TasmError, match=r"nowhere\.png"):
        tasm.build(model, bad, recipe="recent")
    memory = tasm.build(model, bad, recipe="recent", skip_bad_rows=True, notice=said.append)
    assert len(memory.demonstrations) == 3
    assert "nowhere.png" in "".join(said)


@pytest.mark.parametrize(
    ("given", "recorded"),
    [(0.25, "25%"), ("0.25", "25%"), (30, "30"), (30.0, "30.0"), ("auto", "20%"), (None, "20%")],
)
def test_a_share_as_a_number(given: Any, recorded: str, model: tasm.Model) -> None:
    memory = tasm.build(model, demonstrations()[:3], core=given, recipe="recent")
    assert memory.recipe["settings"]["core"] == recorded
    if recorded == "25%":
        tokens = memory.logical_length
        assert memory.report["core_tokens"] == pytest.approx(0.25 * tokens, abs=1)


def test_one_point_nothing_is_neither_all_nor_one_token(model: tasm.Model) -> None:
    with pytest.raises(tasm.TasmError, match="'100%' or 1"):
        tasm.build(model, demonstrations()[:2], core=1.0)


def test_torchs_own_dtypes(model: tasm.Model, folder: Path) -> None:
    memory = tasm.build(model, demonstrations()[:2], core="60%", store=torch.bfloat16)
    assert memory.dtype == "bfloat16"
    assert memory.recipe["settings"]["store"] == "bfloat16"
    loaded = tasm.load_model(folder, dtype=torch.bfloat16, device=torch.device("cpu"))
    assert loaded.backbone.dtype == torch.bfloat16


def test_a_name_where_a_model_is_expected(folder: Path) -> None:
    memory = tasm.build(folder, demonstrations()[:2], core="60%", recipe="recent")
    assert memory.model_name == str(folder)
    planned = tasm.plan(str(folder), demonstrations()[:2], core="60%", recipe="recent")
    assert planned["core_bytes"] == memory.core_bytes


@pytest.fixture(scope="session")
def saved(memory: tasm.TaskMemory, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("saved") / "colours.tasm"
    memory.save(place)
    return place


@pytest.mark.parametrize("as_given", [str, Path])
def test_a_path_where_a_memory_is_expected(
    as_given: Callable[[Path], Any], saved: Path, model: tasm.Model, memory: tasm.TaskMemory
) -> None:
    given = as_given(saved)
    expected = model.ask(memory, question="Which?", max_new_tokens=4)
    assert model.ask(given, question="Which?", max_new_tokens=4) == _timed(expected, model, given)
    assert model.inputs(given, question="Which?").keys()
    asked = model.ask_all(given, queries()[:2], max_new_tokens=4)
    assert [one.token_ids for one in asked] == [
        one.token_ids for one in model.ask_all(memory, queries()[:2], max_new_tokens=4)
    ]


def _timed(expected: tasm.Answer, model: tasm.Model, given: Any) -> Any:
    """Equal to an answer but for the time it took."""

    class Same:
        def __eq__(self, other: object) -> bool:
            return isinstance(other, tasm.Answer) and (other.text, other.tokens) == (
                expected.text,
                expected.tokens,
            )

    return Same()


@pytest.mark.parametrize("shape", ["dicts", "generator", "file", "demonstrations", "one"])
def test_queries_in_any_shape(
    shape: str, model: tasm.Model, memory: tasm.TaskMemory, tmp_path: Path
) -> None:
    if shape == "file":
        given: Any = tmp_path / "queries.csv"
        given.write_text("question,answer\nWhich?,red\nAnd now?,blue\n")
        expected = [("red",), ("blue",)]
    else:
        texts = [{"question": "Which?", "answer": ["red", "rot"]}, {"question": "And now?"}]
        expected = [("red", "rot"), ()]
        given = iter(texts) if shape == "generator" else texts
        if shape == "demonstrations":
            given, expected = demonstrations()[:1], [("red",)]
        if shape == "one":
            given, expected = tasm.make_query("Which?"), [()]
    answers = model.ask_all(memory, given, max_new_tokens=2)
    assert [answer.expected for answer in answers] == expected
    assert [answer.correct is None for answer in answers] == [not one for one in expected]
    assert all(answer.query is not None and answer.query.question for answer in answers)


def test_one_picture_needs_no_list(
    model: tasm.Model, memory: tasm.TaskMemory, tmp_path: Path
) -> None:
    picture = Image.new("RGB", (56, 56), "blue")
    picture.save(tmp_path / "x.png")
    expected = model.inputs(memory, question="Which?", images=[picture])["pixel_values"]
    for given in (
        picture,
        tmp_path / "x.png",
        str(tmp_path / "x.png"),
        (tmp_path / "x.png").read_bytes(),
        iter([picture]),
    ):
        found = model.inputs(memory, question="Which?", images=given)["pixel_values"]
        assert torch.equal(found, expected)
    assert "pixel_values" not in model.inputs(memory, question="Which?", images=None)


def test_numbers_of_numpy_are_numbers(model: tasm.Model, memory: tasm.TaskMemory) -> None:
    answer = model.ask(
        memory, question="Which?", max_new_tokens=np.int64(3), epsilon=np.float32(0.1)
    )
    assert answer.tokens["answer"] <= 3


def test_no_queries_have_no_answers(model: tasm.Model, memory: tasm.TaskMemory) -> None:
    assert model.ask_all(memory, []) == []


def test_what_passes_between_processes(model: tasm.Model, memory: tasm.TaskMemory) -> None:
    answer = model.ask_all(memory, queries()[:1], max_new_tokens=2, explain=True)[0]
    again = pickle.loads(pickle.dumps(answer))
    assert again == answer
    assert again.query == answer.query
    for one in (demonstrations()[0], queries()[0], demonstrations()[0].pictures[0]):
        assert pickle.loads(pickle.dumps(one)) == one
    error = pickle.loads(pickle.dumps(tasm.TasmError("A sentence.")))
    assert str(error) == error.message == "A sentence."
