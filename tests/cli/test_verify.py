"""`tasm verify` and `tasm show`: damage is found, fidelity is measured, pages stand alone."""

import json
import re
import shutil
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.cli.conftest import Run, write_rows

VERIFY = {
    "intact", "model_matches", "queries", "queries_from", "agreement", "max_logit_error", "mean_js",
    "accuracy", "core_bytes", "full_bytes",
}  # fmt: skip


def test_the_document_has_every_field(run: Run, built: Path) -> None:
    ran = run("verify", built / "memory.tasm", "--json")
    assert ran.code == 0, ran.err
    found = ran.json
    assert set(found) == VERIFY
    assert (found["intact"], found["model_matches"]) == (True, True)
    assert (found["queries"], found["queries_from"]) == (8, "demonstrations")
    assert 0 <= found["agreement"] <= 1
    assert found["max_logit_error"] > 1e-4  # a fifth of the tokens is not all of them
    assert found["mean_js"] > 0
    assert set(found["accuracy"]) == {"memory", "full", "zero_shot"}
    assert all(value is not None for value in found["accuracy"].values())
    assert 0 < found["core_bytes"] < found["full_bytes"]
    people = run("verify", built / "memory.tasm").out
    assert "Agreement" in people


def test_a_full_memory_is_the_full_context(
    run: Run, built: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "full.tasm"
    build = ("build", built / "demos.jsonl", "--model", model, "--out", out, "--recipe", "full")
    assert run(*build).code == 0
    ran = run("verify", out, "--queries", built / "queries.jsonl", "--min-agreement", "1", "--json")
    assert ran.code == 0, ran.err
    found = ran.json
    assert found["agreement"] == 1
    assert found["max_logit_error"] < 1e-4
    assert found["mean_js"] < 1e-6
    assert found["queries_from"] == str(built / "queries.jsonl")
    assert found["accuracy"] == {"memory": 0, "full": 0, "zero_shot": 0}


def test_too_little_agreement_fails(run: Run, built: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.tasm"
    build = ("build", built / "demos.jsonl", "--model", model, "--out", out)
    assert run(*build, "--recipe", "random", "--core", "12%").code == 0
    ran = run("verify", out, "--min-agreement", "1", "--json")
    assert ran.json["agreement"] < 1
    assert ran.code == 1
    assert "Agreement" in ran.err


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["memory.json", "core-*", "bank-*", "pictures/*"])
def test_one_flipped_byte_is_always_found(file: str, run: Run, fresh: Path) -> None:
    ask = (
        "ask", fresh / "memory.tasm", "--question", "What colour?", "--image", fresh / "new.png",
        "--json",
    )  # fmt: skip
    answer = run(*ask).json["answer"]
    damaged = sorted((fresh / "memory.tasm").glob(file))[0]
    flip_a_byte(damaged)
    ran = run("verify", fresh / "memory.tasm", "--json")
    assert ran.code == 1
    assert set(ran.json) == VERIFY
    assert ran.json["intact"] is False
    assert damaged.name in ran.err
    asked = run(*ask)
    if file in ("memory.json", "core-*"):
        assert asked.code == 1
        assert damaged.name in asked.err
    else:
        assert asked.code == 1 or asked.json["answer"] == answer


@pytest.mark.parametrize("file", ["core-*", "bank-*"])
def test_a_truncated_file_is_found_at_once(file: str, run: Run, fresh: Path) -> None:
    cut = next((fresh / "memory.tasm").glob(file))
    cut.write_bytes(cut.read_bytes()[:-100])
    ran = run("ask", fresh / "memory.tasm", "--question", "What colour?")
    assert ran.code == 1
    assert cut.name in ran.err


def test_a_newer_format_is_bad_input(run: Run, fresh: Path) -> None:
    path = fresh / "memory.tasm" / "memory.json"
    newer = path.read_bytes().replace(b'"format_version": 1,', b'"format_version": 3,')
    blank = newer.replace(newer[14:78], b"0" * 64, 1)  # the digest counts itself as zeros
    path.write_bytes(newer.replace(newer[14:78], sha256(blank).hexdigest().encode(), 1))
    for command in (("ask", "--question", "What colour?"), ("verify",)):
        ran = run(command[0], fresh / "memory.tasm", *command[1:])
        assert ran.code == 2
        assert "newer" in ran.err.lower()


def test_another_model_fails_the_check(run: Run, built: Path, other_model: Path) -> None:
    ran = run("verify", built / "memory.tasm", "--model", other_model, "--json")
    assert ran.code == 1
    assert (ran.json["intact"], ran.json["model_matches"]) == (True, False)
    assert ran.json["agreement"] is None
    assert "another model" in ran.err


def test_where_the_originals_are_gone(run: Run, fresh: Path, built: Path) -> None:
    (fresh / "demos.jsonl").unlink()
    for path in (*fresh.glob("*.jpg"), *fresh.glob("[0-9].png")):
        path.unlink()
    queries = write_rows(fresh / "q.jsonl", [{"question": "What colour?", "answer": "red"}])
    ran = run("verify", fresh / "memory.tasm", "--queries", queries, "--json")
    assert ran.code == 0, ran.err
    found = ran.json
    assert (found["agreement"], found["max_logit_error"], found["mean_js"]) == (None, None, None)
    assert found["accuracy"] == {"memory": 0, "full": None, "zero_shot": 0}
    ran = run("verify", fresh / "memory.tasm", "--json")
    assert ran.code == 0
    assert ran.json["queries"] == 0
    assert "--demonstrations" in ran.err
    again = run(
        "verify", fresh / "memory.tasm", "--queries", queries, "--json",
        "--demonstrations", built / "demos.jsonl",
    )  # fmt: skip
    assert again.json["agreement"] is not None
    others = write_rows(fresh / "others.jsonl", [{"question": "What?", "answer": "red"}])
    ran = run("verify", fresh / "memory.tasm", "--demonstrations", others)
    assert ran.code == 2
    assert "others.jsonl" in ran.err


def test_a_changed_picture_is_not_used(run: Run, fresh: Path) -> None:
    shutil.copy(fresh / "new.png", fresh / "1.png")
    ran = run("verify", fresh / "memory.tasm", "--queries", fresh / "queries.jsonl", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["agreement"] is None


def test_show_tells_what_is_inside(run: Run, built: Path) -> None:
    ran = run("show", built / "memory.tasm", "--json")
    assert ran.code == 0, ran.err
    assert {"model", "recipe", "layers", "demonstrations", "core_bytes", "full_bytes"} <= set(
        ran.json
    )
    assert [one["answer"] for one in ran.json["demonstrations"]][:2] == ["red", "green"]
    people = run("show", built / "memory.tasm").out
    assert "What colour?" in people
    assert "tasm, joint" in people


class Page(HTMLParser):
    """Collects what a page refers to and what it says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.images = 0
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.images += tag == "img"
        for name, value in attrs:
            if name in ("src", "href"):
                self.references.append(value or "")
            elif name == "style":
                self.references.extend(re.findall(r"url\(([^)]*)", value or ""))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_stands_alone(run: Run, built: Path, tmp_path: Path) -> None:
    out = tmp_path / "memory.html"
    ran = run("show", built / "memory.tasm", "--html", out, "--json")
    assert ran.code == 0, ran.err
    json.loads(ran.out)
    page = Page(out.read_text(encoding="utf-8"))
    assert page.images == 8
    assert len(page.references) >= 16  # a picture and a heat map each
    assert all(reference.startswith("data:image/") for reference in page.references)
    assert not page.tags & {"link", "iframe", "object"}
    assert "What colour?" in page.text
    assert run("show", built / "memory.tasm", "--html", out).code == 2


def test_a_users_text_stays_text(run: Run, built: Path, model: Path, tmp_path: Path) -> None:
    nasty = "</p><script>alert(1)</script>[bold]?"
    rows = [{"question": nasty, "answer": f'{word} & "quotes"'} for word in ("one", "two", "three")]
    demos = write_rows(tmp_path / "demos.jsonl", rows)
    out, page = tmp_path / "<b>m.tasm", tmp_path / "page.html"
    assert run("build", demos, "--model", model, "--out", out).code == 0
    ran = run("show", out, "--html", page)
    assert ran.code == 0, ran.err
    assert nasty in ran.out
    text = page.read_text(encoding="utf-8")
    assert "alert(1)</script>" not in text
    assert nasty in Page(text).text


def test_a_model_that_is_gone_leaves_what_was_found(run: Run, built: Path) -> None:
    ran = run("verify", built / "memory.tasm", "--model", built / "nowhere", "--json")
    assert ran.code == 2
    assert set(ran.json) == VERIFY
    assert (ran.json["intact"], ran.json["model_matches"]) == (True, None)
    assert "nowhere" in ran.err
