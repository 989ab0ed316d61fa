"""Rows on disk, and rows pooled into the leaderboard's."""

import json
from dataclasses import replace

import pytest

from tasm.bench.pool import pool
from tasm.bench.results import Row, append_rows, read_rows, row_key
from tasm.errors import InputError

DOCUMENTED = [
    "suite",
    "recipe",
    "core",
    "bank",
    "accuracy",
    "ci95",
    "queries",
    "seeds",
    "agreement",
    "mean_js",
    "attended_tokens",
    "core_bytes",
    "bank_bytes",
    "full_bytes",
    "build_seconds",
    "answer_ms",
    "triggered",
    "against_full",
    "against_tasm",
    "note",
    "stored",
    "stored_share",
    "tuned",
    "code",
]


def row(seed=0, recipe="tasm", core="20%", bank="40%", correct=(1.0, 0.0), **changes):
    made = Row(
        key=f"{recipe}-{core}-{bank}-{seed}",
        suite="bind",
        seed=seed,
        recipe=recipe,
        core=core,
        bank=bank,
        demonstrations=40,
        query_ids=tuple(f"q{number}" for number in range(len(correct))),
        correct=correct,
        agrees=tuple(1.0 for _ in correct),
        js=tuple(0.5 for _ in correct),
        attended_tokens=100.0 + seed,
        context_tokens=1000,
        core_bytes=10 + seed,
        bank_bytes=20,
        full_bytes=100,
        build_seconds=2.0,
        answer_ms=4.0,
        triggered=0.25,
    )
    return replace(made, **changes)


def test_rows_survive_the_disk(tmp_path):
    rows = [row(seed) for seed in range(3)]
    append_rows(tmp_path / "rows.jsonl", rows[:2])
    append_rows(tmp_path / "rows.jsonl", rows[2:])
    assert list(read_rows(tmp_path / "rows.jsonl").values()) == rows


def test_a_line_cut_short_is_forgotten_and_overwritten(tmp_path):
    file = tmp_path / "rows.jsonl"
    append_rows(file, [row(0), row(1)])
    whole = file.read_bytes()
    file.write_bytes(whole[:-30])
    assert list(read_rows(file)) == [row(0).key]
    append_rows(file, [row(2)])
    assert list(read_rows(file)) == [row(0).key, row(2).key]
    assert all(json.loads(line) for line in file.read_text().splitlines())


def test_a_damaged_line_is_named(tmp_path):
    file = tmp_path / "rows.jsonl"
    append_rows(file, [row(0)])
    file.write_text("not json\n" + file.read_text())
    with pytest.raises(InputError, match=r"rows\.jsonl, line 1"):
        read_rows(file)


def test_no_file_means_no_rows(tmp_path):
    assert read_rows(tmp_path / "rows.jsonl") == {}


def test_keys_depend_on_every_setting_and_on_no_order():
    settings = {"model": "a", "cell": {"recipe": "tasm", "core": "20%"}}
    assert row_key(settings) == row_key(dict(reversed(settings.items())))
    assert row_key(settings) != row_key({**settings, "model": "b"})
    assert row_key(settings) != row_key({**settings, "cell": {"recipe": "tasm", "core": "5%"}})


def test_pooling_takes_means_over_queries_and_seeds():
    first, second = row(0, correct=(1.0, 1.0, 1.0)), row(1, correct=(0.0,))
    (pooled,) = pool([first, second])
    assert pooled.accuracy == pytest.approx(3 / 4)  # over queries, not over seeds
    assert (pooled.queries, pooled.seeds) == (4, 2)
    assert pooled.attended_tokens == pytest.approx(100.5)
    assert (pooled.core_bytes, pooled.bank_bytes, pooled.full_bytes) == (10, 20, 100)
    assert pooled.agreement == 1 and pooled.mean_js == pytest.approx(0.5)
    assert pooled.ci95[0] <= pooled.accuracy <= pooled.ci95[1]


def test_differences_are_paired_and_signed():
    rows = [
        row(0, "full", None, None, correct=(1.0, 1.0, 0.0, 1.0)),
        row(0, "tasm", correct=(1.0, 1.0, 0.0, 0.0)),
        row(0, "snapkv", bank="0", correct=(0.0, 1.0, 0.0, 0.0)),
    ]
    full, tasm, snapkv = pool(rows)
    assert full.against_full[0] == 0 and full.against_tasm is None
    assert tasm.against_full[0] == pytest.approx(-0.25) and tasm.against_tasm == (0, 0, 0)
    assert snapkv.against_full[0] == pytest.approx(-0.5)
    assert snapkv.against_tasm[0] == pytest.approx(-0.25)  # tasm's own bank is another


def test_differences_use_only_what_both_answered():
    rows = [
        row(0, "full", None, None, correct=(1.0, 0.0)),
        row(0, "tasm", correct=(0.0, 0.0), query_ids=("q0", "q9")),
        row(1, "tasm", correct=(0.0, 0.0)),
    ]
    tasm = pool(rows)[1]
    assert tasm.against_full[0] == pytest.approx(-1.0)


def test_json_fields_are_the_documented_ones():
    document = pool([row(0), row(0, "full", None, None)])[0].to_json()
    assert list(document) == DOCUMENTED
    assert isinstance(document["ci95"], list) and len(document["against_full"]) == 3
    json.dumps(document)


def test_what_a_recipe_found_is_said_over_all_seeds():
    rows = [
        row(0, notes={"delta": 0.004, "ratios": [0.1, 0.5], "dense_layers": []}),
        row(1, notes={"delta": 0.006, "ratios": [0.2, 0.2], "dense_layers": []}),
    ]
    (pooled,) = pool(rows)
    assert pooled.note == "delta 0.004 to 0.006; ratios 0.1 to 0.5; dense layers []"
