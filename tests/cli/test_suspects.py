"""`tasm show --suspects`: what is listed, and what is refused."""

from pathlib import Path

from tests.cli.conftest import Run


def test_every_demonstration_is_judged(run: Run, built: Path) -> None:
    document = run("show", built / "memory.tasm", "--suspects", "--json").json
    found = document["suspects"]
    assert sorted(one["id"] for one in found) == sorted(
        one["id"] for one in document["demonstrations"]
    )
    suspicions = [one["suspicion"] for one in found]
    assert suspicions == sorted(suspicions, reverse=True)
    assert all((one["instead"] is not None) == (one["suspicion"] > 0) for one in found)
    out = run("show", built / "memory.tasm", "--suspects").out
    assert out.count("What colour?") == 0
    assert sum(one["id"] in out for one in found) == sum(
        one["instead"] is not None for one in found
    )


def test_without_the_originals_it_says_what_to_give(run: Run, fresh: Path, built: Path) -> None:
    for picture in fresh.glob("*.jpg"):
        picture.unlink()
    (fresh / "demos.jsonl").unlink()
    gone = run("show", fresh / "memory.tasm", "--suspects")
    assert gone.code == 2 and "--demonstrations" in gone.err
    given = ("--demonstrations", built / "demos.jsonl", "--json")
    moved = run("show", fresh / "memory.tasm", "--suspects", *given)
    there = run("show", built / "memory.tasm", "--suspects", "--json")
    assert moved.json["suspects"] == there.json["suspects"]


def test_options_of_suspects_alone_are_refused_without(run: Run, built: Path) -> None:
    for option in ("--model", "--demonstrations"):
        refused = run("show", built / "memory.tasm", option, built)
        assert refused.code == 2 and "--suspects" in refused.err
