"""What a run leaves in its folder: fair tables, plots where there are figures, one page."""

import base64
import random
from dataclasses import replace

import pytest

from tasm.bench.cards import card_table
from tasm.bench.leaderboard import byte_share, leaderboard, standings, token_share
from tasm.bench.pool import pool
from tasm.bench.publish import publish
from tasm.bench.results import Row
from tests.view.html_reader import check_page

pytest.importorskip("matplotlib")


def made(suite, recipe, core, bank, rate, tokens, core_bytes, bank_bytes, seed, count=40):
    chance = random.Random(f"{suite}{recipe}{core}{seed}")
    correct = tuple(float(chance.random() < rate) for _ in range(20))
    is_needle = suite.startswith("needle")
    return Row(
        key=f"{suite} {recipe} {core} {bank} {seed}",
        suite=suite,
        seed=seed,
        recipe=recipe,
        core=core,
        bank=bank,
        demonstrations=count,
        query_ids=tuple(f"q{number}" for number in range(20)),
        correct=correct,
        agrees=correct,
        js=correct,
        attended_tokens=tokens,
        context_tokens=1000,
        core_bytes=core_bytes,
        bank_bytes=bank_bytes,
        full_bytes=1000,
        build_seconds=1.0,
        answer_ms=1.0,
        triggered=0.0,
        depths=tuple(n / 19 if is_needle else None for n in range(20)),
    )


CELLS = [
    ("full", None, None, 0.9, 1000, 1000, 0),
    ("zero-shot", None, None, 0.1, 0, 0, 0),
    ("tasm", "20%", "40%", 0.9, 210, 210, 400),
    ("tasm", "5%", "40%", 0.8, 95, 55, 400),
    ("snapkv", "20%", "0", 0.6, 200, 205, 0),
    ("snapkv", "5%", "0", 0.4, 50, 52, 0),
    ("tasm-paper", "20%", "40%", 0.7, 200, 210, 400),
]


@pytest.fixture(scope="module")
def rows():
    return [
        made(suite, *cell, seed, count)
        for suite, count in (("bind", 40), ("bind@8", 8), ("needle", 50))
        for cell in CELLS
        for seed in range(3)
    ]


@pytest.fixture(scope="module")
def published(rows, tmp_path_factory):
    """The folder of a run, with its page, and what was written."""
    folder = tmp_path_factory.mktemp("board")
    return folder, publish(rows, "tiny <model>", folder, cards=True)


@pytest.fixture(scope="module")
def report(published):
    return check_page((published[0] / "report.html").read_text())


def test_a_recipe_stands_where_it_was_measured_and_nowhere_else(rows):
    def entered(limit, share):
        found = {item.recipe: item.core for item in standings(rows, limit, share)}
        assert found.pop("full") is None and found.pop("zero-shot") is None  # for reference
        return found

    fifth = {"tasm": "20%", "snapkv": "20%", "tasm-paper": "20%"}
    assert entered(0.2, token_share) == fifth
    assert entered(0.4, token_share) == entered(1.0, token_share) == {}
    # what tasm retrieves counts: at a twentieth only the plain eviction fits
    assert entered(0.05, token_share) == {"snapkv": "5%"}
    assert entered(0.1, token_share) == {"tasm": "5%"}
    # what lies in the bank counts
    assert entered(0.2, byte_share) == {"snapkv": "20%"}
    assert entered(0.6, byte_share) == {"tasm": "20%", "tasm-paper": "20%"}


def test_of_several_budgets_under_one_limit_the_largest_stands(rows):
    more = [*rows, *(made("bind", "snapkv", "18%", "0", 1.0, 180, 185, 0, n) for n in range(3))]
    assert {i.recipe: i.core for i in standings(more, 0.2, byte_share)}["snapkv"] == "20%"


def test_a_budget_of_bytes_is_the_limit_it_was_measured_under(rows):
    """What spends half of what it may was measured there; what spends more was not."""
    less, more = (
        [
            replace(made("bind", name, None, None, 0.5, 90, spent, 0, n), stored="20%")
            for n in range(3)
        ]
        for name, spent in (("emloc", 90), ("greedy", 390))
    )
    found = {i.recipe: i for i in standings([*rows, *less, *more], 0.2, byte_share)}
    assert found["emloc"].stored == "20%" and found["emloc"].budget == "bytes 20%"
    assert "greedy" not in found
    more_found = {i.recipe for i in standings([*rows, *less, *more], 0.4, byte_share)}
    assert "greedy" in more_found and "emloc" not in more_found


def test_prompts_do_not_stand_among_stored_bytes(rows):
    """Pictures as files are no keys and values."""
    prompt = {"recipe": {"kind": "prompt"}}
    more = [
        replace(made("bind", "retrieve-demos", "20%", "0", 0.9, 190, 10, 190, n), settings=prompt)
        for n in range(3)
    ]
    here = [
        {item.recipe for item in standings([*rows, *more], 0.2, share)}
        for share in (token_share, byte_share)
    ]
    assert "retrieve-demos" in here[0] and "retrieve-demos" not in here[1]


def test_standings_are_sorted_by_the_mean_over_suites(rows):
    reference, *found = standings(rows, 0.2, token_share)
    assert reference.recipe == "full" and found.pop().recipe == "zero-shot"
    means = [item.mean.mean for item in found]
    assert means == sorted(means, reverse=True) and found[0].recipe == "tasm"
    by_hand = [
        sum(sum(r.correct) for r in rows if (r.suite, r.recipe, r.core) == (s, "tasm", "20%")) / 60
        for s in ("bind", "bind@8", "needle")
    ]
    assert means[0] == pytest.approx(sum(by_hand) / 3)
    assert found[0].mean.low <= means[0] <= found[0].mean.high


def test_a_suite_that_was_not_measured_leaves_no_mean(rows):
    less = [r for r in rows if (r.suite, r.recipe) != ("needle", "snapkv")]
    found = {item.recipe: item for item in standings(less, 0.2, token_share)}
    assert found["snapkv"].mean is None and set(found["snapkv"].by_suite) == {"bind", "bind@8"}
    assert standings(less, 0.2, token_share)[-1].recipe == "snapkv"


def test_the_leaderboard_has_both_tables_and_the_reference(rows):
    text = leaderboard(rows, "tiny")
    tokens, stored = text.split("## At equal stored bytes")
    for part in (tokens, stored):
        for section in part.split("### ")[1:]:
            assert "| full |" in section and "| zero-shot |" in section


def test_the_folder_has_everything_and_the_page_needs_nothing_else(published, report):
    folder, written = published
    names = {str(path.relative_to(folder)) for path in written}
    assert names == {
        "leaderboard.md",
        "cards.md",
        "report.html",
        "plots/accuracy-bytes.svg",
        "plots/accuracy-demonstrations.svg",
        "plots/needle.svg",
        "plots/ablations.svg",
    }
    assert "tiny <model>" in report.all("h1")[0].text
    pictures = [node.attributes["src"] for node in report.all("img")]
    assert len(pictures) == 4
    for address in pictures:
        assert b"<svg" in base64.b64decode(address.partition("base64,")[2])


def test_the_page_has_one_overview_and_folds_the_rest(report):
    root = report
    seen = [
        node for node in root.below() if not any(above.tag == "details" for above in node.above())
    ]
    (table,) = [node for node in seen if node.tag == "table"]
    assert "sortable" in table.attributes["class"]
    assert len([node for node in seen if "plot" in node.attributes.get("class", "").split()]) == 2
    order = [node.tag for node in seen if node.tag in ("figure", "table", "details")]
    assert order == ["figure"] * 2 + ["table"] + ["details"] * 4
    assert not any("open" in node.attributes for node in root.all("details"))
    assert "`" not in root.text.replace(root.all("script")[0].text, "")


def test_the_table_holds_every_budget_with_the_best_in_bold(report):
    table = report.all("table", "sortable")[0]
    body = table.all("tbody")[0].all("tr")
    assert len(body) == len(CELLS)
    column = [cell.text for cell in table.all("thead")[0].all("th")].index("mean accuracy")

    def mean(row):
        cells = [cell for cell in row.children if not isinstance(cell, str)]
        return cells[column]

    values = [float(mean(row).attributes["data-value"]) for row in body]
    assert values == sorted(values, reverse=True)
    references = ["reference" in row.attributes.get("class", "") for row in body]
    assert sum(references) == 2
    highest = max(v for v, aside in zip(values, references, strict=True) if not aside)
    for row, value, aside in zip(body, values, references, strict=True):
        assert bool(mean(row).all("span", "best")) is (not aside and value == highest)
        assert len(mean(row).all("span", "interval")) == 1


def test_a_single_suite_has_no_mean_and_no_rival_no_best(tmp_path):
    rows = [
        made("bind", *cell, 0)
        for cell in CELLS
        if cell[0] in ("full", "snapkv") and cell[1] != "5%"
    ]
    publish(rows, "tiny", tmp_path)
    root = check_page((tmp_path / "report.html").read_text())
    heads = [cell.text for cell in root.all("table", "sortable")[0].all("thead")[0].all("th")]
    assert heads[:2] == ["recipe", "bind"]
    assert not root.all("table", "sortable")[0].all("span", "best")


def test_plots_are_left_out_where_there_is_nothing_to_draw(tmp_path):
    rows = [made("bind", "full", None, None, 0.9, 1000, 1000, 0, 0)]
    names = {path.name for path in publish(rows, "tiny", tmp_path)}
    assert names == {"leaderboard.md", "report.html"}


def test_cards_show_what_each_kind_of_token_gives():
    rows = [
        made("late", "full", None, None, 1.0, 1, 1, 0, 0),
        made("late", "answer-tokens", None, None, 0.0, 1, 1, 0, 0),
        made("late", "random", "5%", "0", 1.0, 1, 1, 0, 0),
    ]
    line = card_table(pool(rows)).splitlines()[-1]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[0] == "late" and cells[1].startswith("1.00") and cells[-1] == "1.00"
    assert cells[2] == cells[3] == "–"  # no zero-shot row, and random only counts at a fifth
