"""The leaderboard's runner on a tiny random model: fields, resuming, processes, refusals."""

import json

import pytest

from tasm.bench import accuracy
from tasm.bench.accuracy import Plan, run
from tasm.bench.cells import Cell, card_cells, expand
from tasm.bench.pool import pool
from tasm.bench.results import read_rows
from tasm.bench.sources import FileSource, SuiteSource, parse_suites
from tasm.errors import InputError, RecipeError


@pytest.fixture
def plan(model_folder, files):
    return Plan(
        model=str(model_folder),
        sources=[FileSource(files / "demos.jsonl", files / "queries.jsonl")],
        seeds=(0,),
        cells=expand(["full", "zero-shot", "random"], ["50%", "80%"], None),
        workers=1,
    )


def test_a_users_files_give_one_row_a_cell(plan, tmp_path):
    outcome = run(plan, tmp_path / "out")
    assert not outcome.refusals
    assert [(row.recipe, row.core) for row in outcome.rows] == [
        ("full", None),
        ("zero-shot", None),
        ("random", "50%"),
        ("random", "80%"),
    ]
    full, none, half, most = pool(outcome.rows)
    assert full.agreement == 1 and full.mean_js == pytest.approx(0, abs=1e-9)
    assert full.against_full == (0, 0, 0) and full.queries == 3 and full.seeds == 1
    assert none.attended_tokens == 0 and none.core_bytes == none.bank_bytes == 0
    assert none.mean_js > 1e-6  # the demonstrations change what the model says
    context = outcome.rows[0].context_tokens
    assert full.attended_tokens == context
    assert half.attended_tokens == context // 2 and most.attended_tokens == context * 8 // 10
    assert half.core_bytes < most.core_bytes <= 1.1 * most.full_bytes
    assert full.suite == "demos"


def test_full_context_is_what_an_ordinary_prompt_says(plan, backbone, files, tmp_path):
    """The reference of every comparison is the model reading all demonstrations as a prompt."""
    from tasm.answer.generation import generate
    from tasm.bench.sources import read_episode

    episode = read_episode(files / "demos.jsonl", files / "queries.jsonl")
    row = run(plan, tmp_path / "out").rows[0]
    layout = backbone.transcript(episode.demonstrations).layout
    tokenizer = backbone.processor.tokenizer
    for query, said in zip(episode.queries, row.answers, strict=True):
        inputs = backbone.full_inputs(episode.demonstrations, query, layout=layout)
        ids = generate(backbone, inputs, max_new_tokens=4).token_ids[0]
        plain = tokenizer.decode(ids, skip_special_tokens=True).strip()
        assert plain and said.startswith(plain)


def test_finished_rows_are_never_measured_again(plan, tmp_path, monkeypatch):
    first = run(plan, tmp_path / "out")
    measured = []
    genuine = accuracy.measure_unit

    def watched(backbone, unit):
        measured.extend(unit.cells.values())
        return genuine(backbone, unit)

    monkeypatch.setattr(accuracy, "measure_unit", watched)
    assert run(plan, tmp_path / "out").rows == first.rows
    assert measured == []
    lines = (tmp_path / "out" / "rows.jsonl").read_text().splitlines()
    (tmp_path / "out" / "rows.jsonl").write_text("\n".join([lines[0], lines[2], ""]))
    again = run(plan, tmp_path / "out")
    assert measured == [Cell("zero-shot", None, None), Cell("random", "80%", "0")]
    assert [row.correct for row in again.rows] == [row.correct for row in first.rows]


def test_another_model_or_query_makes_other_rows(plan, files, tmp_path):
    one = run(plan, tmp_path / "out").rows
    rows = [json.loads(line) for line in (files / "queries.jsonl").read_text().splitlines()]
    (files / "fewer.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:2]))
    other = Plan(
        plan.model,
        [FileSource(files / "demos.jsonl", files / "fewer.jsonl")],
        plan.seeds,
        plan.cells,
        workers=1,
    )
    two = run(other, tmp_path / "out").rows
    assert not {row.key for row in one} & {row.key for row in two}
    assert len(read_rows(tmp_path / "out" / "rows.jsonl")) == 8


def test_processes_measure_the_same(plan, tmp_path):
    suites = parse_suites("bind@4", queries=2, split="held-out")
    cells = expand(["full", "random"], ["50%"], None)
    alone = run(Plan(plan.model, suites, range(2), cells, workers=1), tmp_path / "alone").rows
    spread = run(Plan(plan.model, suites, range(2), cells, workers=2), tmp_path / "spread").rows
    assert [(r.key, r.seed, r.correct, r.answers) for r in alone] == [
        (r.key, r.seed, r.correct, r.answers) for r in spread
    ]


def test_a_budget_that_is_refused_leaves_the_other_rows(plan, tmp_path):
    cells = expand(["random"], ["0%", "50%"], None)
    outcome = run(Plan(plan.model, plan.sources, (0,), cells, workers=1), tmp_path / "out")
    assert [row.core for row in outcome.rows] == ["50%"]
    (refusal,) = outcome.refusals
    assert "random at 0%" in str(refusal) and "core budget" in str(refusal)


def test_cards_keep_the_tokens_of_one_role(plan, tmp_path):
    plan = Plan(plan.model, plan.sources, (0,), card_cells(), workers=1)
    rows = {row.recipe: row for row in run(plan, tmp_path / "out").rows}
    assert set(rows) == {"full", "zero-shot", "random", "answer-tokens", "image-tokens"}
    answers, images = rows["answer-tokens"], rows["image-tokens"]
    assert 0 < answers.attended_tokens < images.attended_tokens < rows["full"].attended_tokens


def test_a_folder_that_is_a_file_is_refused(plan, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="is a file"):
        run(plan, tmp_path / "out")


def test_cells_of_a_grid():
    assert expand(["full", "tasm"], ["20%", "5%"], None) == [
        Cell("full", None, None),
        Cell("tasm", "20%", "40%"),
        Cell("tasm", "5%", "40%"),
    ]
    assert expand(["random"], ["20%"], "40%") == [Cell("random", "20%", "40%")]
    with pytest.raises(InputError, match="twice"):
        expand(["random", "random"], ["20%"], None)
    with pytest.raises(RecipeError, match="Did you mean 'random'"):
        expand(["randum"], ["20%"], None)


def test_suites_are_named_with_their_settings():
    bind, small = parse_suites("bind, bind@8:ways=4", queries=5, split="train")
    assert bind == SuiteSource("bind", 5, "train")
    assert small == SuiteSource("bind", 5, "train", 8, {"ways": "4"})
    assert small.label == "bind@8:ways=4"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("bint", "Did you mean 'bind'"),
        ("bind@many", "not a number"),
        ("bind:wide=4", "not an option"),
        ("bind,bind", "twice"),
    ],
)
def test_suites_that_cannot_be_read(text, sentence):
    with pytest.raises(InputError, match=sentence):
        parse_suites(text, queries=5, split="held-out")


def test_queries_need_answers(files):
    (files / "unanswered.jsonl").write_text('{"question": "What colour?"}\n')
    with pytest.raises(InputError, match="has no answer"):
        FileSource(files / "demos.jsonl", files / "unanswered.jsonl").identity(0)


def test_the_nearest_demonstrations_are_an_ordinary_prompt(plan, backbone, files, tmp_path):
    """Asked with the demonstrations' own pictures, each finds its colour, which stands last."""
    from tasm.backbone.prompt.transcript import Layout
    from tasm.bench.prompts import nearest_prompts
    from tasm.bench.sources import read_episode
    from tasm.demonstrations import Query

    episode = read_episode(files / "demos.jsonl", files / "queries.jsonl")
    shown = episode.demonstrations
    queries = [Query(item.id, item.messages[:-1]) for item in shown]
    lengths = [10] * len(shown)
    found = nearest_prompts(
        backbone, shown, queries, lengths=lengths, capacity=25, layout=Layout(multi_image=True)
    )
    for prompt, item in zip(found.prompts, shown, strict=True):
        assert len(prompt.demonstrations) == 2 and prompt.attended_tokens == 20
        assert prompt.demonstrations[-1].answer == item.answer  # the same colour
    assert found.core_bytes == 4 * len(shown) * backbone.hf.config.get_text_config().hidden_size
    assert found.bank_bytes >= sum(item.pictures[0].path.stat().st_size for item in shown)
    cells = expand(["retrieve-demos"], ["60%"], None)
    (row,) = run(Plan(plan.model, plan.sources, (0,), cells, workers=1), tmp_path / "out").rows
    assert 0 < row.attended_tokens <= 0.6 * row.context_tokens and row.bank == "0"
