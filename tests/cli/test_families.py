"""Folders in a family's own format through the command line, with real PNG and JPEG files."""

from pathlib import Path

import pytest

from tests.cli.conftest import Run, colour_rows, draw, write_rows
from tests.tiny_folders import tiny_folder


@pytest.mark.parametrize("family", ["llava_onevision", "idefics3", "gemma3"])
def test_build_ask_verify(family: str, run: Run, tmp_path: Path) -> None:
    folder = tiny_folder(family, tmp_path / family)
    demos = write_rows(tmp_path / "demos.jsonl", colour_rows(tmp_path)[:4])
    draw(tmp_path / "new.jpg", "red", (80, 40))
    full, small = tmp_path / "full.tasm", tmp_path / "small.tasm"
    build = ("build", demos, "--model", folder)
    assert run(*build, "--out", full, "--recipe", "full").code == 0
    ran = run(*build, "--out", small, "--core", "60%", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["core_bytes"] < ran.json["full_bytes"]
    for memory in (full, small):
        ask = ("ask", memory, "--question", "What colour?", "--image", tmp_path / "new.jpg")
        ran = run(*ask, "--max-new-tokens", "4", "--explain", "--json")
        assert ran.code == 0, ran.err
        assert len(ran.json["demonstrations"]) == 4
    ran = run("verify", full, "--min-agreement", "1", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["max_logit_error"] < 1e-4
