"""`tasm ask`: the document, files of queries, and every refusal."""

import json
import shutil
from pathlib import Path

import pytest

import tasm
from tests.cli.conftest import Run

ASK = {
    "answer", "confidence", "doubt", "log_probabilities", "labels", "triggered", "divergence",
    "retrieved_tokens", "tokens", "seconds", "demonstrations",
}  # fmt: skip
QUESTION = ("--question", "What colour?")


def test_the_document_has_every_field(run: Run, built: Path) -> None:
    ran = run("ask", built / "memory.tasm", *QUESTION, "--image", built / "new.png", "--json")
    assert ran.code == 0, ran.err
    document = ran.json
    assert set(document) == ASK
    assert set(document["tokens"]) == {"query", "answer"}
    assert set(document["seconds"]) == {"load", "prefill", "decode"}
    assert document["demonstrations"] == []
    assert 0 <= document["triggered"] <= 1
    assert document["divergence"] >= 0
    assert document["tokens"]["query"] > 4


def test_an_explanation_names_every_demonstration(run: Run, built: Path) -> None:
    ask = ("ask", built / "memory.tasm", *QUESTION, "--image", built / "new.png", "--explain")
    shares = run(*ask, "--json").json["demonstrations"]
    assert len(shares) == 8
    assert all({"id", "weight"} <= set(one) and one["weight"] > 0 for one in shares)
    assert all(one["question"] and one["answer"] and len(one["pictures"]) == 1 for one in shares)
    assert sum(one["weight"] for one in shares) == pytest.approx(1)
    assert shares[0]["id"] in run(*ask).out


def test_the_gate_can_be_overridden(run: Run, built: Path) -> None:
    ask = ("ask", built / "memory.tasm", *QUESTION, "--image", built / "new.png", "--json")
    never = run(*ask, "--gate", "never").json
    assert (never["triggered"], never["divergence"], never["retrieved_tokens"]) == (0, None, 0)
    always = run(*ask, "--gate", "always").json
    assert always["triggered"] == 1
    assert always["retrieved_tokens"] > 0
    assert run(*ask, "--epsilon", "0").json["triggered"] == 1
    assert run(*ask, "--epsilon", "10").json["triggered"] == 0
    weighed = run(*ask, "--gate", "missing", "--epsilon", "1000").json
    assert (weighed["triggered"], weighed["divergence"]) == (0, None)  # nothing was compared
    for wrong in ("-1", "nan", "much"):
        assert run(*ask, "--epsilon", wrong).code == 2


def test_a_stream_says_what_the_answer_says(run: Run, built: Path) -> None:
    ask = ("ask", built / "memory.tasm", *QUESTION, "--image", built / "new.png")
    whole = run(*ask, "--max-new-tokens", "9").out.strip()
    assert run(*ask, "--max-new-tokens", "9", "--stream").out.strip() == whole
    streamed = run(*ask, "--max-new-tokens", "9", "--stream", "--json")
    assert streamed.json["answer"] == whole
    assert whole in streamed.err


def test_a_file_of_queries(run: Run, built: Path, tmp_path: Path) -> None:
    ask = ("ask", built / "memory.tasm", "--queries", built / "queries.jsonl")
    ran = run(*ask, "--json")
    assert ran.code == 0, ran.err
    assert set(ran.json) == {"answers", "accuracy", "metric", "calibration_error"}
    answers = ran.json["answers"]
    assert [set(answer) for answer in answers] == [ASK | {"id", "correct", "score"}] * 3
    assert [answer["correct"] for answer in answers] == [False, None, False]
    assert ran.json["accuracy"] == 0
    singly = run(*ask, "--batch-size", "1", "--json").json["answers"]
    assert [one["answer"] for one in singly] == [one["answer"] for one in answers]
    out = tmp_path / "answers.jsonl"
    ran = run(*ask, "--out", out)
    assert ran.code == 0, ran.err
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [line["answer"] for line in lines] == [one["answer"] for one in answers]
    before = out.read_bytes()
    ran = run(*ask, "--out", out)
    assert ran.code == 2
    assert "--overwrite" in ran.err
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "--question"),
        ((*QUESTION, "--queries", "q.jsonl"), "either"),
        ((*QUESTION, "--image", "gone.png"), "gone.png"),
        ((*QUESTION, "--out", "a.jsonl"), "--queries"),
        (("--queries", "gone.jsonl"), "gone.jsonl"),
        (("--queries", "q.jsonl", "--image", "a.png"), "--image"),
        ((*QUESTION, "--gate", "sometimes"), "sometimes"),
        ((*QUESTION, "--max-new-tokens", "0"), "max-new-tokens"),
        (("--question", "<image> <image>?", "--image", "NEW"), "2 × <image> and 1 picture;"),
        (("--question", "<image> <image>", "--image", "NEW"), "2 × <image> and 1 picture;"),
        ((*QUESTION, "--max-new-tokens", "1000000"), "new tokens (--max-new-tokens "),
    ],
)
def test_bad_usage_is_refused(options: tuple[str, ...], said: str, run: Run, built: Path) -> None:
    options = tuple(str(built / "new.png") if word == "NEW" else word for word in options)
    ran = run("ask", built / "memory.tasm", *options, "--json")
    assert ran.code == 2, ran.err
    assert ran.out == ""
    assert said in ran.err


def test_a_memory_must_be_one(run: Run, built: Path, tmp_path: Path) -> None:
    for place in (tmp_path / "gone", built / "demos.jsonl", built):
        ran = run("ask", place, *QUESTION)
        assert ran.code == 2
        assert str(place) in ran.err
    ran = run("ask", tmp_path / "gone", "--queries", tmp_path / "gone.jsonl")
    assert ran.code == 2 and "the folder of a task memory" in ran.err  # before rows are read


def test_another_models_memory_is_refused(run: Run, built: Path, other_model: Path) -> None:
    ran = run("ask", built / "memory.tasm", *QUESTION, "--model", other_model, "--json")
    assert ran.code == 2
    assert ran.out == ""
    assert "another model" in ran.err


def test_a_model_that_has_moved(run: Run, fresh: Path, model: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(model, moved)
    ran = run("ask", fresh / "memory.tasm", *QUESTION, "--model", moved)
    assert ran.code == 0, ran.err
    ran = run("ask", fresh / "memory.tasm", *QUESTION, "--model", tmp_path / "nowhere")
    assert ran.code == 2
    assert "nowhere" in ran.err


def test_a_memory_that_does_not_say_where_its_model_is(
    run: Run, fresh: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasm.load(fresh / "memory.tasm").replaced(model_name="").save(tmp_path / "wrapped.tasm")
    monkeypatch.chdir(tmp_path)
    ask = ("ask", "wrapped.tasm", "--queries", fresh / "queries.jsonl", "--out", "answers.jsonl")
    ran = run(*ask)
    assert ran.code == 2 and "Give --model." in ran.err
    assert run(*ask, "--model", model).code == 0
    assert (tmp_path / "answers.jsonl").is_file()


def test_another_image_processor_is_warned_of(run: Run, fresh: Path) -> None:
    from dataclasses import replace

    from tasm.memory.disk.manifest import Manifest

    path = fresh / "memory.tasm" / "memory.json"
    read = Manifest.from_bytes(path.read_bytes(), "memory.json")
    environment = {**read.model["environment"], "image_processor": "AnotherProcessor"}
    assert run("ask", fresh / "memory.tasm", *QUESTION).err == ""
    path.write_bytes(replace(read, model={**read.model, "environment": environment}).to_bytes())
    for words in (("ask", fresh / "memory.tasm", *QUESTION), ("verify", fresh / "memory.tasm")):
        ran = run(*words, "--json")
        assert ran.code == 0, ran.err
        said = "Warning: The memory was built with the image processor AnotherProcessor"
        assert ran.err.count(said) == 1


def test_a_gate_without_a_bank_has_nothing_to_open(
    run: Run, built: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "m.tasm"
    build = ("build", built / "demos.jsonl", "--model", model, "--out", out, "--recipe", "recent")
    assert run(*build).code == 0
    ran = run("ask", out, *QUESTION, "--gate", "always", "--json")
    assert ran.code == 0
    assert "no bank" in ran.err
    assert (ran.json["triggered"], ran.json["divergence"]) == (0, None)


def test_an_explanation_shows_what_each_demonstration_was(run: Run, built: Path) -> None:
    ask = ("ask", built / "memory.tasm", *QUESTION, "--image", built / "new.png", "--explain")
    shares = {one["id"]: one for one in run(*ask, "--json").json["demonstrations"]}
    out = run(*ask).out
    names = next(line for line in out.splitlines() if "demonstration" in line.split())
    assert names.split() == ["support", "weight", "retrieved", "attention", "demonstration"]
    lines = [line for line in out.splitlines() if "What colour? →" in line]
    assert len(lines) == 8
    first = max(shares, key=lambda name: shares[name]["support"])
    assert first in lines[0]
    assert f"{100 * shares[first]['support']:+.1f} %" in lines[0]
    assert f"{100 * shares[first]['weight']:.1f} %" in lines[0]
    assert lines[0].split()[-1].endswith((".jpg", ".png"))
    assert any("→ red  " in line and "0.jpg" in line for line in lines)


def test_demonstrations_are_masked_in_turn(run: Run, built: Path, tmp_path: Path) -> None:
    """`--explain` may stand alone, also before the memory; a word that it does not know is one of
    the command's own."""
    asked = (*QUESTION, "--image", built / "new.png", "--json")
    masked = run("ask", built / "memory.tasm", *asked, "--explain", "ablation").json
    again = run("ask", "--explain=ablation", built / "memory.tasm", *asked).json
    effects = [one["effect"] for one in masked["demonstrations"]]
    assert effects == [one["effect"] for one in again["demonstrations"]]
    assert all(isinstance(one, float) for one in effects) and len(set(effects)) > 1
    read = run("ask", "--explain", built / "memory.tasm", *asked).json
    assert all(one["effect"] is None for one in read["demonstrations"])
    shown = run("ask", built / "memory.tasm", *asked[:-1], "--explain", "ablation").out
    best = max(masked["demonstrations"], key=lambda one: one["effect"])
    first = next(line for line in shown.splitlines() if "What colour? →" in line)
    assert best["id"] in first and f"{best['effect']:+.2f}" in first
    wrong = run("ask", built / "memory.tasm", *asked, "--explain", "abblation")
    assert wrong.code == 2 and "abblation" in wrong.err


def test_an_explanation_as_a_page(run: Run, built: Path, tmp_path: Path) -> None:
    page = tmp_path / "why.html"
    ask = ("ask", built / "memory.tasm", *QUESTION, "--image", built / "new.png")
    alone = run(*ask, "--html", page)
    assert alone.code == 2 and "--explain" in alone.err and not page.exists()
    done = run(*ask, "--explain", "--html", page)
    assert done.code == 0
    html = page.read_text()
    assert html.count("data:image") > 8 and "speaks for the answer" in html
    assert run(*ask, "--explain", "--html", page).code == 2, "it is there already"
    assert run(*ask, "--explain", "--html", page, "--overwrite").code == 0
    assert run(*ask, "--explain", "--html", built / "new.png", "--overwrite").code == 2


def test_each_query_is_shown_with_what_was_expected(run: Run, built: Path) -> None:
    ask = ("ask", built / "memory.tasm", "--queries", built / "queries.jsonl")
    rows = run(*ask, "--json").json["answers"]
    out = run(*ask).out
    lines = out.splitlines()
    assert lines[0].startswith(f"1  {rows[0]['id']}  ")
    assert "What colour?" in lines[0]
    assert lines[1].endswith("wrong, expected 'blue' or 'navy'")
    assert lines[3].endswith("nothing expected")
    assert lines[5].endswith("wrong, expected 'red'")
    assert lines[-1] == "Accuracy: 0.000 over 2 queries"  # of those with an answer
    explained = run(*ask, "--explain").out
    assert explained.count("and 5 more") == 3


def test_labels_are_chosen_among(run: Run, built: Path) -> None:
    ask = ("ask", built / "memory.tasm", *QUESTION, "--image", built / "new.png")
    document = run(*ask, "--labels", "red, blue,navy blue", "--json").json
    assert {one["label"] for one in document["labels"]} == {"red", "blue", "navy blue"}
    assert document["answer"] == document["labels"][0]["label"]
    assert document["confidence"] == document["labels"][0]["probability"]
    assert (
        run(*ask, "--labels", '["red", "blue", "navy blue"]', "--json").json["labels"]
        == (document["labels"])
    )
    top = run(*ask, "--top", "3").out.splitlines()
    assert len(top) == 3
    assert {line.split()[1] for line in top} <= {"red", "green", "blue", "yellow"}
    own = run(*ask, "--labels", "demonstrations", "--calibration", "contextual")
    assert own.code == 0 and len(own.out.splitlines()) == 1


def test_a_file_of_queries_is_judged_and_shown(run: Run, built: Path, tmp_path: Path) -> None:
    page = tmp_path / "answers.html"
    ask = ("ask", built / "memory.tasm", "--queries", built / "queries.jsonl")
    document = run(*ask, "--top", "2", "--metric", "f1", "--html", page, "--json").json
    assert document["metric"] == "f1"
    known = [row for row in document["answers"] if row["score"] is not None]
    assert document["accuracy"] == pytest.approx(sum(row["score"] for row in known) / 2)
    assert 0 <= document["calibration_error"] <= 1
    assert page.read_text().count("<article") == 3
    assert run(*ask, "--top", "2", "--html", page).code == 2  # is there already
    said = run(*ask, "--top", "2", "--html", page, "--overwrite").out
    assert "Calibration error:" in said and "\n     0." in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--question", "Which?", "--html", "x.html"), "--html belongs to --queries"),
        (("--question", "Which?", "--metric", "f1"), "--metric belongs to --queries"),
        (("--question", "Which?", "--calibration", "contextual"), "without --labels"),
        (("--question", "Which?", "--top", "2", "--stream"), "--stream has no effect"),
        (("--question", "Which?", "--top", "2", "--max-new-tokens", "3"), "has no effect"),
        (("--question", "Which?", "--labels", "[1"), "expected 'wren,robin'"),
        (("--question", "Which?", "--labels", "a,,b"), "not empty"),
        (("--queries", "q.jsonl", "--out", "a", "--html", "a"), "Give two files"),
    ],
)
def test_options_that_cannot_be(
    options: tuple[str, ...], said: str, run: Run, built: Path, tmp_path: Path
) -> None:
    given = [built / "queries.jsonl" if one == "q.jsonl" else one for one in options]
    given = [tmp_path / one if one in ("a", "x.html") else one for one in given]
    ran = run("ask", built / "memory.tasm", *given)
    assert ran.code == 2
    assert said in ran.err
