"""Text suites: nothing asked was shown, the splits share no question, there are no pictures."""

import json

import pytest

from tasm.demonstrations import read_demonstrations, read_queries
from tasm.errors import InputError
from tasm.suites.suites import SUITES, TEXT, check_suite, episode, write_suite


@pytest.mark.parametrize("name", TEXT)
@pytest.mark.parametrize("split", ["held-out", "train"])
def test_what_is_asked_was_not_shown(name, split):
    for seed in range(5):
        made = episode(name, seed, split)
        shown = [turn.question() for turn in made.demonstrations]
        asked = [turn.question() for turn in made.queries]
        assert len(set(shown + asked)) == len(shown) + len(asked)
        assert len(shown) == SUITES[name].demonstrations
        assert len(asked) == 40
        kinds = {turn.answer for turn in made.demonstrations}
        if len(kinds) <= 6:  # a query's kind was shown
            assert {turn.answer for turn in made.queries} == kinds


@pytest.mark.parametrize("name", TEXT)
def test_the_splits_share_no_question(name):
    seen = {
        split: {
            turn.question()
            for seed in range(20)
            for turn in (lambda made: made.demonstrations + made.queries)(
                episode(name, seed, split)
            )
        }
        for split in ("held-out", "train")
    }
    assert not seen["held-out"] & seen["train"]


@pytest.mark.parametrize("name", TEXT)
def test_the_files_are_read_as_they_are_written(name, tmp_path):
    made = write_suite(name, tmp_path / "suite", demonstrations=6, queries=4, seed=2)
    assert made["files"] == 2
    assert sorted(path.name for path in (tmp_path / "suite").iterdir()) == [
        "demonstrations.jsonl",
        "queries.jsonl",
    ]
    rows = [json.loads(line) for line in (tmp_path / "suite/queries.jsonl").open()]
    queries = read_queries(tmp_path / "suite" / "queries.jsonl")
    assert [(query.question, query.answers[0]) for query in queries] == [
        (row["question"], row["answer"]) for row in rows
    ]
    assert len(read_demonstrations(tmp_path / "suite" / "demonstrations.jsonl")) == 6


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "past", "queries": 60}, "has 66 questions in the split held-out: 20 demonstr"),
        ({"name": "category", "demonstrations": 100}, "questions of each of 3 kinds"),
        ({"name": "language", "ways": 7}, "ways of language: 2 to 6, not 7"),
        ({"name": "capital", "ways": 3}, "the suite capital takes no number of ways"),
        ({"name": "sentiment", "font": "x.ttf"}, "draws no letters"),
    ],
)
def test_what_no_seed_can_give_is_refused(given, said):
    with pytest.raises(InputError, match=said):
        check_suite(**given)


def test_every_text_suite_knows_its_room():
    from tasm.suites.text.room import APART, KINDS

    assert set(APART) | set(KINDS) == set(TEXT)
