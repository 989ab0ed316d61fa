"""`tasm build` and `tasm rebuild`: the document, and every refusal."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tasm.cli.building import built_for_people, check_settings
from tasm.compress.recipes.table import RECIPES
from tasm.demonstrations import picture
from tasm.errors import RecipeError
from tests.cli.conftest import Run, colour_rows, draw, write_rows
from tests.compress.tiny_backbone import build_tiny, tiny_backbone

BUILD = {
    "memory", "model", "recipe", "mode", "demonstrations", "tokens", "core_tokens", "bank_tokens",
    "full_bytes", "core_bytes", "bank_bytes", "file_bytes", "peak_memory_bytes", "seconds", "tried",
    "taken",
}  # fmt: skip
SECONDS = {"load", "encode", "score", "reduce", "trial", "save", "total"}


@pytest.fixture
def demos(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "demos.jsonl", colour_rows(tmp_path))


def test_the_document_has_every_field(run: Run, demos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "memory.tasm"
    ran = run("build", demos, "--model", model, "--out", out, "--json")
    assert ran.code == 0, ran.err
    document = ran.json
    assert set(document) == BUILD
    assert set(document["seconds"]) == SECONDS
    assert document["memory"] == str(out)
    assert document["demonstrations"] == 8
    assert (document["recipe"], document["mode"]) == ("compact", "joint")
    assert 0 == document["bank_tokens"] < document["core_tokens"] < document["tokens"]
    files = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert document["file_bytes"] == files
    seconds = document["seconds"]
    assert seconds["total"] >= max(seconds["load"], seconds["save"])


def test_a_picture_is_decoded_and_hashed_once(
    run: Run, demos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading the rows, laying them out and making thumbnails share what was decoded."""
    calls = {"open": 0, "hash": 0}

    def counted(name: str, function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            calls[name] += 1
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(Image, "open", counted("open", Image.open))
    monkeypatch.setattr(picture, "_digest", counted("hash", picture._digest))
    assert run("build", demos, "--model", model, "--out", tmp_path / "m.tasm").code == 0
    assert calls == {"open": 8, "hash": 8}


@pytest.mark.parametrize("recipe", [name for name, one in RECIPES.items() if one.kind == "memory"])
def test_a_seed_is_taken_where_something_is_drawn(recipe: str) -> None:
    backbone = tiny_backbone()
    bank = None if RECIPES[recipe].keeps_everything else "0"
    one, other = (build_tiny(backbone, 4, recipe=recipe, bank=bank, seed=seed) for seed in (0, 1))
    draws = any(
        a is not None and b is not None and not torch.equal(a.values, b.values)
        for a, b in zip(one.core, other.core, strict=True)
    )
    try:
        check_settings(recipe, None, bank, seed=1)
    except RecipeError as error:
        assert "draws nothing at random" in str(error)
        assert not draws
    else:
        assert (
            draws or recipe == "cam"
        )  # attention is nearly flat here: whatever is drawn, it merges


def test_people_get_a_sentence(run: Run, demos: Path, model: Path, tmp_path: Path) -> None:
    ran = run("build", demos, "--model", model, "--out", tmp_path / "m.tasm", "--core", "30")
    assert ran.code == 0, ran.err
    assert "8 demonstrations" in ran.out
    said = " ".join(ran.out.split())
    assert "nothing else needed trying" in said or ("its own" in said and "; took " in said)
    assert "nothing of it is TASM's" in said and "this project's" in said
    assert "of the full context" in ran.out


def test_people_are_told_what_was_tried() -> None:
    document: dict[str, Any] = {
        "memory": "m.tasm", "recipe": "compact", "demonstrations": 8, "tokens": 176,
        "core_bytes": 200, "bank_bytes": 0, "full_bytes": 1000, "tried": {"its own": 0.25},
        "taken": "its own", "seconds": {"trial": 1.0, "total": 2.0, "polish": 3.0},
    }  # fmt: skip
    said = built_for_people(document)
    assert "Answers change by 0.25 nats (tried in 1.0 s): nothing else needed trying.\n" in said
    assert "Polished" not in said
    document |= {"tried": {"its own": 0.25, "by effect": 0.5}}
    document["polish"] = {"step": 40, "before": 0.25, "after": 0.125}
    said = built_for_people(document)
    assert "change): its own 0.25, by effect 0.5; took its own.\n" in said
    assert "are 0.12 nats from all demonstrations, before 0.25 (step 40).\n" in said
    document["polish"] = {"step": 0, "before": 0.25, "after": 0.25}
    assert "are 0.25 nats from all demonstrations, and it stayed as it was.\n" in (
        built_for_people(document)
    )


def test_a_memory_of_next_to_nothing_is_larger_than_the_full_context(
    run: Run, model: Path, tmp_path: Path
) -> None:
    """Its tables weigh more than what was left out: nobody is told of a share above 100 %."""
    demos = write_rows(tmp_path / "demos.jsonl", [{"question": "One?", "answer": "two"}])
    out = tmp_path / "m.tasm"
    ran = run("build", demos, "--model", model, "--out", out, "--core", "100%")
    assert ran.code == 0, ran.err
    for text in (ran.out, run("show", out).out):
        said = " ".join(text.split())
        assert "more than the full context's" in said
        assert "tables" in said
        assert "%" not in said.partition("Core ")[2]
    assert run("show", out, "--html", tmp_path / "m.html").code == 0
    assert "core with its own tables, of the full context" in (tmp_path / "m.html").read_text()
    found = run("verify", out, "--json").json
    assert found["core_bytes"] > found["full_bytes"]


@pytest.mark.parametrize("seed", ["-1", "99999999999999999999"])
def test_a_seed_out_of_range(run: Run, demos: Path, model: Path, tmp_path: Path, seed: str) -> None:
    out = tmp_path / "memory.tasm"
    ran = run("build", demos, "--model", model, "--out", out, "--recipe", "random", "--seed", seed)
    assert (ran.code, ran.out) == (2, "")
    assert "--seed" in ran.err
    assert not out.exists()


def test_a_plan_builds_nothing(run: Run, demos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "memory.tasm"
    ran = run("build", demos, "--model", model, "--out", out, "--plan", "--json")
    assert ran.code == 0, ran.err
    planned = ran.json
    assert not out.exists()
    built = run("build", demos, "--model", model, "--out", out, "--json").json
    for field in ("tokens", "core_tokens", "bank_tokens", "full_bytes"):
        assert planned[field] == built[field], field
    assert 0.8 < planned["core_bytes"] / built["core_bytes"] < 1.25
    assert "core bytes" in run("build", demos, "--model", model, "--out", out, "--plan").out


def test_no_demonstrations_leaves_texts_and_pictures_out(
    run: Run, demos: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "memory.tasm"
    ran = run("build", demos, "--model", model, "--out", out, "--no-demonstrations")
    assert ran.code == 0, ran.err
    manifest = (out / "memory.json").read_text()
    assert not (out / "pictures").exists()
    for word in ("What colour?", "yellow", "demos.jsonl", "0.jpg"):
        assert word not in manifest


def test_a_folder_of_classes_takes_its_question(run: Run, model: Path, tmp_path: Path) -> None:
    for colour in ("red", "blue"):
        (tmp_path / "discs" / colour).mkdir(parents=True)
        draw(tmp_path / "discs" / colour / "a.png", colour)
    out = tmp_path / "m.tasm"
    ran = run(
        "build", tmp_path / "discs", "--question", "Which?", "--model", model, "--out", out,
        "--mode", "streaming", "--core", "50%", "--store", "bfloat16", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.json["mode"] == "streaming"
    ran = run("build", tmp_path / "discs", "--model", model, "--out", tmp_path / "n.tasm")
    assert ran.code == 2
    assert "--question" in ran.err


def bad_rows(case: str, folder: Path) -> list[dict[str, Any]]:
    good = {"image": "good.png", "question": "What colour?", "answer": "red"}
    draw(folder / "good.png", "red")
    (folder / "text.png").write_text("no picture at all")
    (folder / "empty.png").write_bytes(b"")
    return {
        "missing image": [good, {**good, "image": "gone.png"}],
        "text named png": [good, {**good, "image": "text.png"}],
        "empty picture": [good, {**good, "image": "empty.png"}],
        "no answer": [good, {"image": "good.png", "question": "What colour?"}],
        "wrong type": [good, {**good, "answer": {"7": 7}}],
        "no rows": [],
    }[case]


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("missing image", ("line 2", "gone.png")),
        ("text named png", ("line 2", "text.png", "picture")),
        ("empty picture", ("line 2", "empty.png")),
        ("no answer", ("line 2", "answer")),
        ("wrong type", ("line 2", "answer", "7")),
        ("no rows", ("demos.jsonl", "at least one")),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_built(
    case: str, said: tuple[str, ...], run: Run, tmp_path: Path
) -> None:
    demos = write_rows(tmp_path / "demos.jsonl", bad_rows(case, tmp_path))
    before = set(tmp_path.iterdir())
    ran = run("build", demos, "--model", "reference", "--out", tmp_path / "m.tasm", "--json")
    assert ran.code == 2
    assert ran.out == ""
    for words in said:
        assert words in ran.err
    assert set(tmp_path.iterdir()) == before


def test_bad_rows_can_be_skipped_and_are_listed(run: Run, model: Path, tmp_path: Path) -> None:
    demos = write_rows(tmp_path / "demos.jsonl", bad_rows("missing image", tmp_path))
    ran = run(
        "build", demos, "--model", model, "--out", tmp_path / "m.tasm", "--skip-bad-rows", "--json",
        "--core", "90%",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.json["demonstrations"] == 1
    assert "line 2" in ran.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--recipe", "tsam"], "Did you mean 'tasm'?"),
        (["--recipe", "zero-shot"], "no memory to build"),
        (["--core", "0"], "core budget"),
        (["--core", "0%"], "core budget"),
        (["--core", "300%"], "300%"),
        (["--core", "much"], "'much'"),
        (["--bank", "-1"], "'-1'"),
        (["--mode", "jiont"], "jiont"),
        (["--store", "int3"], "int8"),
        (["--device", "abacus"], "abacus"),
        (["--dtype", "float33"], "Did you mean 'float32'?"),
        (["--chunk-tokens", "0"], "chunk-tokens"),
    ],
)
def test_an_impossible_setting_is_refused(
    options: list[str], said: str, run: Run, demos: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "m.tasm"
    ran = run("build", demos, "--model", model, "--out", out, *options, "--json")
    assert ran.code == 2, ran.err
    assert ran.out == ""
    assert said in ran.err
    assert not out.exists()


def test_the_model_must_be_one(run: Run, demos: Path, model: Path, tmp_path: Path) -> None:
    gone = run("build", demos, "--model", tmp_path / "nowhere", "--out", tmp_path / "m.tasm")
    assert gone.code == 2
    assert "nowhere" in gone.err
    bare = tmp_path / "bare"
    shutil.copytree(model, bare)
    for path in bare.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            path.unlink()
    ran = run("build", demos, "--model", bare, "--out", tmp_path / "m.tasm")
    assert ran.code == 2
    assert str(bare) in ran.err
    assert not (tmp_path / "m.tasm").exists()


def test_more_positions_than_the_model_was_trained_for(
    run: Run, demos: Path, model: Path, tmp_path: Path
) -> None:
    short = tmp_path / "short"
    shutil.copytree(model, short)
    config = json.loads((short / "config.json").read_text())
    for part in (config, config.get("text_config", {})):
        if "max_position_embeddings" in part:
            part["max_position_embeddings"] = 64
    (short / "config.json").write_text(json.dumps(config))
    ran = run("build", demos, "--model", short, "--out", tmp_path / "m.tasm")
    assert ran.code == 2, ran.err
    assert "64" in ran.err
    assert not (tmp_path / "m.tasm").exists()


def test_what_exists_is_not_overwritten_by_accident(run: Run, fresh: Path, model: Path) -> None:
    memory = fresh / "memory.tasm"
    manifest = (memory / "memory.json").read_bytes()
    build = ("build", fresh / "demos.jsonl", "--model", model)
    ran = run(*build, "--out", memory)
    assert ran.code == 2
    assert "--overwrite" in ran.err
    assert (memory / "memory.json").read_bytes() == manifest
    ran = run(*build, "--out", memory, "--core", "40", "--overwrite", "--json")
    assert ran.code == 0, ran.err
    assert (memory / "memory.json").read_bytes() != manifest
    (fresh / "notes").mkdir()
    (fresh / "notes" / "mine.txt").write_text("keep me")
    ran = run(*build, "--out", fresh / "notes", "--overwrite")
    assert ran.code == 2
    assert (fresh / "notes" / "mine.txt").read_text() == "keep me"
    ran = run(*build, "--out", fresh / "demos.jsonl", "--overwrite")
    assert (ran.code, ran.out) == (2, "")
    assert "demos.jsonl is not a folder" in ran.err


def test_what_came_to_be_there_meanwhile_is_not_overwritten(
    run: Run, demos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process writes there while the memory is being built."""
    from tasm.compress import api

    out, build = tmp_path / "m.tasm", api.build

    def slowly(*given: Any, **settings: Any) -> Any:
        out.mkdir()
        (out / "mine.txt").write_text("keep me")
        return build(*given, **settings)

    monkeypatch.setattr(api, "build", slowly)
    ran = run("build", demos, "--model", model, "--out", out)
    assert ran.code == 2, ran.err
    assert "--overwrite" in ran.err
    assert "overwrite=True" not in ran.err
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("damaged", [False, True])
def test_nothing_is_written_inside_a_memory(
    run: Run, fresh: Path, model: Path, tmp_path: Path, damaged: bool
) -> None:
    memory = fresh / "memory.tasm"
    link = tmp_path / "elsewhere"
    link.symlink_to(memory)
    if damaged:
        (memory / "memory.json").unlink()
    before = sorted(memory.rglob("*"))
    build = ("build", fresh / "demos.jsonl", "--model", model, "--out")
    for words in (
        (*build, memory / "other.tasm"),
        (*build, memory / "pictures" / "a" / "other.tasm", "--overwrite"),
        (*build, link / "other.tasm"),
        ("show", fresh / "memory.tasm", "--html", memory / "page.html"),
        ("show", fresh / "memory.tasm", "--html", memory / "memory.json", "--overwrite"),
        ("ask", memory, "--queries", fresh / "queries.jsonl", "--out", memory / "answers.jsonl"),
        ("suite", "bind", "--out", memory / "bind"),
        ("demo", "--out", memory / "demo"),
        ("bench", "accuracy", "--model", "reference", "--suites", "bind", "--out", memory),
        ("bench", "speed", "--out", memory / "speed"),
        ("bench", "paper", "--model", "reference", "--out", memory),
    ):
        ran = run(*words)
        assert (ran.code, ran.out) == (2, ""), words
        assert f"lies inside the task memory {memory}" in ran.err
        assert ("--html" if words[0] == "show" else "--out") in ran.err
        assert sorted(memory.rglob("*")) == before


def test_where_nothing_can_be_made(run: Run, demos: Path, tmp_path: Path) -> None:
    ran = run("build", demos, "--model", "reference", "--out", demos / "m.tasm")
    assert ran.code == 2
    assert f"{demos} is no folder" in ran.err


def test_folders_above_are_made(run: Run, demos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "m.tasm"
    assert run("build", demos, "--model", model, "--out", out).code == 0
    assert (out / "memory.json").is_file()
    assert run("show", out, "--html", tmp_path / "pages" / "m.html").code == 0
    assert (tmp_path / "pages" / "m.html").is_file()


def test_a_full_disk_leaves_nothing_behind(
    run: Run, demos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(tmp_path.iterdir())

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    ran = run("build", demos, "--model", model, "--out", tmp_path / "m.tasm", "--json")
    assert ran.code == 1
    assert ran.out == ""
    assert "disk is full" in ran.err.lower() or "no space" in ran.err.lower()
    assert set(tmp_path.iterdir()) == before


def test_an_interruption_is_130(
    run: Run, demos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tasm.memory.task_memory.TaskMemory.save", interrupted)
    ran = run("build", demos, "--model", model, "--out", tmp_path / "m.tasm")
    assert ran.code == 130
    assert not (tmp_path / "m.tasm").exists()


def test_rebuild_repeats_the_build_on_another_model(
    run: Run, built: Path, other_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "again.tasm"
    ran = run("rebuild", built / "memory.tasm", "--model", other_model, "--out", out, "--json")
    assert ran.code == 0, ran.err
    assert set(ran.json) == BUILD
    assert ran.json["demonstrations"] == 8
    first = json.loads((built / "memory.tasm" / "memory.json").read_text())
    second = json.loads((out / "memory.json").read_text())
    notes = [one["recipe"].pop("notes") for one in (first, second)]
    assert first["recipe"] == second["recipe"]
    for one in notes:  # what was measured may differ
        assert {"tried", "taken"} < set(one) and len(one) == 3
    assert first["model"] != second["model"]


def test_rebuild_takes_the_place_of_the_demonstrations(
    run: Run, fresh: Path, other_model: Path, tmp_path: Path
) -> None:
    moved = fresh / "moved"
    moved.mkdir()
    for path in [path for path in fresh.iterdir() if path.is_file()]:
        path.rename(moved / path.name)
    command = ("rebuild", fresh / "memory.tasm", "--model", other_model, "--out")
    gone = run(*command, tmp_path / "a.tasm")
    assert gone.code == 2
    assert "Say where they are with --demonstrations" in gone.err
    found = run(*command, tmp_path / "a.tasm", "--demonstrations", moved / "demos.jsonl", "--json")
    assert found.code == 0, found.err
    assert found.json["demonstrations"] == 8
    (moved / "demos.jsonl").write_text((moved / "demos.jsonl").read_text().splitlines()[0])
    few = run(*command, tmp_path / "b.tasm", "--demonstrations", moved / "demos.jsonl")
    assert few.code == 2
    assert "7 of 8 are missing" in few.err


def test_rebuild_needs_the_original_files(
    run: Run, fresh: Path, other_model: Path, tmp_path: Path
) -> None:
    draw(fresh / "3.png", "black")
    out = tmp_path / "again.tasm"
    ran = run("rebuild", fresh / "memory.tasm", "--model", other_model, "--out", out)
    assert ran.code == 2
    assert "gone" in ran.err
    assert not out.exists()


def test_the_bundled_model_says_which_pictures_it_does_not_know(run: Run, tmp_path: Path) -> None:
    draw(tmp_path / "1.png", "red")
    draw(tmp_path / "2.png", "blue")
    rows = [{"image": f"{n}.png", "question": "What colour?", "answer": f"{n}"} for n in (1, 2)]
    demos = write_rows(tmp_path / "demos.jsonl", rows)
    out = tmp_path / "m.tasm"
    built = run("build", demos, "--model", "reference", "--out", out)
    assert built.code == 0
    assert built.err.count("2 of 2 different pictures are unlike") == 1
    asked = run("ask", out, "--question", "What colour?", "--image", tmp_path / "1.png")
    assert asked.code == 0
    assert asked.err.count("1 of 1 different pictures are unlike") == 1
    assert "1 of 1" not in run("ask", out, "--question", "What colour?").err


def test_pack_makes_the_same_memory_smaller(
    run: Run, built: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "small.tasm"
    ran = run("pack", built / "memory.tasm", "--store", "int4", "--out", out, "--json")
    assert ran.code == 0, ran.err
    before = json.loads(run("show", built / "memory.tasm", "--json").out)
    shown = json.loads(run("show", out, "--json").out)
    assert shown["packing"] == ran.json["packing"] == "int4"
    assert shown["core_bytes"] == ran.json["core_bytes"] < ran.json["core_bytes_before"]
    assert before["core_bytes"] == ran.json["core_bytes_before"]
    for name in ("id", "spans", "question", "answer", "content_hash"):
        assert [one[name] for one in shown["demonstrations"]] == [
            one[name] for one in before["demonstrations"]
        ]
    assert "int4" not in run("show", built / "memory.tasm").out
    assert run("show", out).code == 0
    assert run("verify", out).code == 0
    again = run("pack", out, "--out", tmp_path / "again.tasm")
    assert again.code == 0 and "kB in int4.\n" in again.out
    assert run("show", out, "--html", tmp_path / "small.html").code == 0


def test_a_build_may_store_few_bits(run: Run, demos: Path, model: Path, tmp_path: Path) -> None:
    options = ("--model", model, "--store", "int8", "--no-demonstrations")
    ran = run("build", demos, *options, "--out", tmp_path / "m.tasm", "--json")
    assert ran.code == 0, ran.err
    planned = run("build", demos, *options[:-1], "--plan", "--json")
    shown = json.loads(run("show", tmp_path / "m.tasm", "--json").out)
    assert shown["packing"] == "int8" and shown["recipe"]["settings"]["store"] == "int8"
    assert ran.json["core_bytes"] == shown["core_bytes"]
    assert 0.5 < planned.json["core_bytes"] / ran.json["core_bytes"] < 1.5
    answer = run("ask", tmp_path / "m.tasm", "--question", "x", "--json")
    assert answer.code == 0, answer.err


def test_a_store_that_there_is_not(run: Run, built: Path, tmp_path: Path) -> None:
    ran = run("pack", built / "memory.tasm", "--store", "int2", "--out", tmp_path / "m.tasm")
    assert ran.code == 2 and "int2" in ran.err and not (tmp_path / "m.tasm").exists()
