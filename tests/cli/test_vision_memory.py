"""A vision memory from the command line: trained, found again, refused where it is missing."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run, colour_rows, write_rows


@pytest.fixture(autouse=True)
def own_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def train(run: Run, data: Path, model: Path, out: Path, *more: Any) -> Any:
    settings = ("--steps", 2, "--batch", 1, "--shots", 2, "--asked", 2, "--rate", "0.01")
    return run("vision-memory", "train", data, "--model", model, "--out", out, *settings, *more)


@pytest.fixture
def adapted(run: Run, tmp_path: Path, model: Path) -> Path:
    """A folder with demonstrations, an adapter, and a memory that was built with it."""
    write_rows(tmp_path / "demos.jsonl", colour_rows(tmp_path))
    assert train(run, tmp_path / "demos.jsonl", model, tmp_path / "mema").code == 0
    ran = run(
        "build", tmp_path / "demos.jsonl", "--model", model, "--out", tmp_path / "m.tasm",
        "--vision-memory", tmp_path / "mema",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    return tmp_path


ASKED = ("--question", "What colour?")


def test_trained_built_and_asked(run: Run, adapted: Path, model: Path) -> None:
    image = ("--image", adapted / "1.png")
    ran = run("ask", adapted / "m.tasm", *ASKED, *image, "--json")
    assert ran.code == 0, ran.err  # the adapter is found by itself
    manifest = json.loads((adapted / "m.tasm" / "memory.json").read_text())
    assert manifest["model"]["vision_memory"] == "../mema"
    assert len(manifest["model"]["identity"]["vision memory"]) == 64
    assert "Vision memory" in run("show", adapted / "m.tasm").out
    verified = run("verify", adapted / "m.tasm", "--json")
    assert verified.code == 0 and verified.json["model_matches"] is True
    assert verified.json["max_logit_error"] is not None
    # In Python, the model loaded with it; the whole prompt gives the same answer as a full memory.
    import tasm
    from tasm.answer import full_context, ordinary_answers
    from tasm.demonstrations import make_query

    loaded = tasm.load_model(model, vision_memory=adapted / "mema")
    rows = tasm.read_demonstrations(adapted / "demos.jsonl")
    query = make_query("What colour?", [adapted / "1.png"])
    context = full_context(loaded.backbone, rows)
    (ordinary,) = ordinary_answers(
        loaded.backbone, rows, [query], layout=context.layout, max_new_tokens=6
    )
    (found,) = loaded.ask_all(context, [query], max_new_tokens=6)
    assert found.token_ids == ordinary.token_ids


def test_refused_without_it_or_with_another(run: Run, adapted: Path, model: Path) -> None:
    other = train(run, adapted / "demos.jsonl", model, adapted / "other", "--seed", 1)
    assert other.code == 0
    ran = run("ask", adapted / "m.tasm", *ASKED, "--vision-memory", adapted / "other")
    assert ran.code == 2 and "another vision memory" in ran.err
    shutil.move(adapted / "mema", adapted / "moved")
    ran = run("ask", adapted / "m.tasm", *ASKED)
    assert ran.code == 2
    assert "is no vision memory" in ran.err and "--vision-memory" in ran.err
    ran = run("ask", adapted / "m.tasm", *ASKED, "--vision-memory", adapted / "moved")
    assert ran.code == 0, ran.err
    import tasm
    from tasm.errors import MismatchError

    plain, memory = tasm.load_model(model), tasm.load(adapted / "m.tasm")
    with pytest.raises(MismatchError, match="none is on here"):
        plain.ask(memory, question="What colour?")
    inputs = plain.inputs(tasm.build(plain, adapted / "demos.jsonl"), question="What colour?")
    with pytest.raises(MismatchError, match="none is on here"):
        plain.hf.generate(**inputs, past_key_values=memory.cache(), max_new_tokens=1)
    vision = plain.attach_vision_memory(adapted / "moved")
    assert plain.ask(memory, question="What colour?").text
    without = tasm.build(tasm.load_model(model), adapted / "demos.jsonl")
    with pytest.raises(MismatchError, match="built without a vision memory"):
        plain.ask(without, question="What colour?")
    vision.remove()
    assert plain.ask(without, question="What colour?").text


def test_rebuilt_and_measured(run: Run, adapted: Path, model: Path) -> None:
    to = ("--model", model, "--out", adapted / "again.tasm")
    ran = run("rebuild", adapted / "m.tasm", *to)
    assert ran.code == 0 and "rebuilt without one" in ran.err
    with_it = ("--overwrite", "--vision-memory", adapted / "mema")
    ran = run("rebuild", adapted / "m.tasm", *to, *with_it)
    assert ran.code == 0 and "rebuilt without one" not in ran.err
    assert run("ask", adapted / "again.tasm", *ASKED).code == 0
    queries = [{**row, "image": str(adapted / row["image"])} for row in colour_rows(adapted)[:2]]
    write_rows(adapted / "queries.jsonl", queries)
    ran = run(
        "bench", "accuracy", "--model", model, "--demonstrations", adapted / "demos.jsonl",
        "--queries", adapted / "queries.jsonl", "--recipes", "full", "--out", adapted / "bench",
        "--workers", 1, "--vision-memory", adapted / "mema", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    folder = adapted / "task"
    folder.mkdir()
    shutil.copy(adapted / "demos.jsonl", folder / "demonstrations.jsonl")
    for file in (*adapted.glob("*.png"), *adapted.glob("*.jpg")):
        shutil.copy(file, folder / file.name)
    write_rows(folder / "queries.jsonl", queries)
    judging = ("--model", model, "--vision-memory", adapted / "mema", "--recipes", "full")
    ran = run("vision-memory", "evaluate", folder, *judging, "--json")
    assert ran.code == 0, ran.err
    (row,) = ran.json["rows"]
    assert row["queries"] == 2 and row["tasks"] == 1
    assert row["difference"][0] == pytest.approx(row["adapted"][0] - row["frozen"][0])
    ran = run("vision-memory", "evaluate", adapted / "demos.jsonl", *judging)
    assert ran.code == 2 and "no queries beside its demonstrations" in ran.err


def test_bad_input_in_a_sentence(run: Run, adapted: Path, model: Path, other_model: Path) -> None:
    again = train(run, adapted / "demos.jsonl", model, adapted / "mema")
    assert again.code == 2 and "--overwrite" in again.err
    assert train(run, adapted / "demos.jsonl", model, adapted / "mema", "--resume").code == 2
    build = ("build", adapted / "demos.jsonl", "--out", adapted / "n.tasm")
    ran = run(*build, "--model", other_model, "--vision-memory", adapted / "mema")
    assert ran.code == 2 and "trained on another model" in ran.err
    (adapted / "empty").mkdir()
    ran = run(*build, "--model", model, "--vision-memory", adapted / "empty")
    assert ran.code == 2 and "is no vision memory" in ran.err
    inside = ("build", adapted / "demos.jsonl", "--out", adapted / "mema" / "n.tasm")
    ran = run(*inside, "--model", model, "--vision-memory", adapted / "mema")
    assert ran.code == 2 and "the vision memory's folder" in ran.err
    assert not (adapted / "n.tasm").exists()
