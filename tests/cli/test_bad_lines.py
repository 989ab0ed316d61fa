"""Command lines that nobody should type: each a sentence and a code, none a traceback.

Words in capitals stand for places: MEMORY (with a bank), BARE (without), DEMOS, QUERIES, MODEL,
CLASSES (a folder of classes), NEW (a name that is free), HERE (an empty folder), TEXT (a text
file), FONT (a font that is none), LONG (a name of 300 characters).
"""

import os
import shlex
from pathlib import Path

import pytest

from tests.cli.conftest import Ran, Run, draw, write_rows

BUILD = "build DEMOS --model MODEL --out NEW"
ASK = "ask MEMORY --question Which?"
ASK_ALL = "ask MEMORY --queries QUERIES"
BENCH = "bench accuracy --model MODEL --out NEW"
OWN = f"{BENCH} --demonstrations DEMOS --queries QUERIES"

WITHOUT_EFFECT = [
    (f"{BUILD} --recipe emloc-paper --core 10%", "--core 10% has no effect"),
    (f"{BUILD} --recipe full --core 100", "--core 100 has no effect"),
    (f"{BUILD} --recipe full --bank 10%", "--bank 10% has no effect"),
    (f"{BUILD} --recipe recent --seed 3", "--seed 3 has no effect"),
    (f"{BUILD} --recipe tasm --bank 0 --seed 3", "--seed 3 has no effect"),
    (f"{BUILD} --question Which?", "--question 'Which?' has no effect"),
    ("build DEMOS --model MODEL --plan --overwrite", "--overwrite has no effect"),
    (f"{ASK} --out NEW", "--out belongs to --queries"),
    (f"{ASK} --batch-size 4", "--batch-size belongs to --queries"),
    (f"{ASK} --overwrite", "--overwrite has no effect"),
    (f"{ASK} --epsilon 0.1 --gate never", "--epsilon 0.1 has no effect with --gate never"),
    (f"{ASK} --epsilon calibrated --gate always", "has no effect with --gate always"),
    ("ask BARE --question Which? --epsilon 0.1", "this memory has no bank"),
    (f"{ASK_ALL} --overwrite", "--overwrite has no effect"),
    (f"{ASK_ALL} --image TEXT", "--image and --stream belong to --question"),
    (f"{ASK_ALL} --stream", "--image and --stream belong to --question"),
    ("show MEMORY --overwrite", "--overwrite has no effect"),
    ("suite rule --out NEW --font FONT", "a font changes nothing"),
    ("suite needle --out NEW --ways 4", "takes no number of ways"),
    (f"{OWN} --seeds 3", "--seeds has no effect"),
    (f"{OWN} --first-seed 3", "--first-seed has no effect"),
    (f"{OWN} --split train", "--split has no effect"),
    (f"{OWN} --recipes full,zero-shot --core 10%", "--core 10% has no effect"),
    (f"{OWN} --recipes full,emloc-paper --core 10%", "--core 10% has no effect"),
    (f"{OWN} --recipes full,zero-shot --bank 10%", "--bank 10% has no effect"),
    ("bench paper --model MODEL --table 2 --benchmarks ok-vqa", "ok-vqa has no effect"),
    (f"{BUILD} --core 5% --core 10%", "--core is given twice"),
    (f"{ASK} --question Why?", "--question is given twice"),
]

AT_ONCE = [
    (f"{BENCH} --suites bind@8:ways=x", "ways=x is no whole number"),
    (f"{BENCH} --suites bind@8:ways=1", "2 to 40, not 1"),
    (f"{BENCH} --suites bind@8:ways=4:ways=5", "gives ways twice"),
    (f"{BENCH} --suites bind@8:colour=4", "'colour=4' is not an option"),
    (f"{BENCH} --suites bind@x", "'x' is not a number"),
    (f"{BENCH} --suites bind@²", "'²' is not a number"),
    (f"{BENCH} --suites bnid", "Did you mean 'bind'?"),
    (f"{BENCH} --suites bind,", "There is no suite ''"),
    (f"{BENCH} --suites bind,bind", "names 'bind' twice"),
    (f"{BENCH} --suites needle:ways=3", "takes no number of ways"),
    (f"{BENCH} --suites bind:font=gone.ttf", "no font file gone.ttf"),
    (f"{BENCH} --suites bind:cosine=low", "cosine=low is no number"),
    (f"{BENCH} --suites past:cosine=0.85", "the suite past of the split held-out draws none"),
    (f"{BENCH} --suites past --queries 60", "past asks nothing twice, and has 66 questions"),
    ("models convert gone.gguf --out model", "There is no file gone.gguf"),
    (f"{BENCH} --suites digits@1000", "are too many"),
    (f"{BENCH} --suites needle@5000", "at most 800 demonstrations"),
    (f"{BENCH} --suites bind --split test", "held-out or train"),
    (f"{BENCH} --suites bind --queries 0", "number of queries"),
    (f"{BENCH} --suites bind --queries 10000000", "at most 10,000 queries"),
    (f"{BENCH} --suites bind --core abc", "'abc' cannot be read"),
    (f"{BENCH} --suites bind --core 20%,20%", "names '20%' twice"),
    (f"{BENCH} --suites bind --core 20%,", "an empty place"),
    (f"{BENCH} --suites bind --bank many", "'many' cannot be read"),
    (f"{BENCH} --suites bind --recipes tsam", "Did you mean 'tasm'?"),
    (f"{BENCH} --suites bind --recipes nosuch", "no recipe 'nosuch'"),
    (f"{BENCH} --suites bind --recipes ,", "an empty place"),
    (f"{BENCH} --suites bind --seeds 0", "--seeds"),
    (f"{BENCH} --suites bind --seeds 1000000000", "--seeds"),
    (f"{BENCH} --suites bind --first-seed -1", "--first-seed"),
    (f"{BENCH} --suites bind --batch-size 0", "--batch-size"),
    (f"{BENCH} --suites bind --workers 0", "--workers"),
    (f"{BENCH} --suites bind --workers 99999", "--workers"),
    (f"{BENCH} --suites bind --demonstrations DEMOS", "either --suites"),
    (f"{BENCH}", "either --suites"),
    (f"{BENCH} --demonstrations DEMOS", "needs --queries"),
    (f"{BENCH} --demonstrations gone --queries QUERIES", "gone"),
    (f"{BENCH} --demonstrations DEMOS --queries gone.jsonl", "gone.jsonl"),
    (f"{BENCH} --demonstrations DEMOS --queries QUERIES", "has no answer"),
    ("bench accuracy --model MODEL --suites bind --out TEXT", "is a file"),
    ("bench accuracy --model MODEL --suites bind --out MODEL/b", "the model's folder"),
    ("bench paper --model MODEL --table 4", "no table 4"),
    ("bench paper --model MODEL --benchmarks okvqa", "Did you mean 'ok-vqa'?"),
    ("bench paper --model MODEL --data gone", "there is no such folder"),
    ("bench paper --model MODEL --limit 0", "--limit"),
    ("bench paper --model MODEL --out TEXT", "is a file"),
    ("bench speed --model MODEL --rows nothing", "no speed row 'nothing'"),
    ("bench speed --model MODEL --out TEXT", "is a file"),
    ("bench acuracy", "Did you mean 'accuracy'?"),
    ("biuld", "Did you mean 'build'"),
    ("ask MEMORY --qestion x", "--question"),
    ("build DEMOS --model MODEL", "is missing: where the memory goes"),
    ("build DEMOS --model MODEL --out NEW --mode joined", "'--mode': 'joined' is not one of"),
    (f"{BUILD} --recipe tsam", "Did you mean 'tasm'?"),
    (f"{BUILD} --recipe zero-shot --plan", "no memory to build"),
    (f"{BUILD} --core -5", "-5"),
    (f"{BUILD} --core 1.0", "1.0"),
    (f"{BUILD} --core ½", "½"),
    (f"{BUILD} --bank 101%", "101%"),
    (f"{BUILD} --core 1e9GB", "1e9GB"),
    (f"{BUILD} --mode ''", "--mode is empty"),
    (f"{BUILD} --chunk-tokens 1.5", "--chunk-tokens"),
    (f"{BUILD} --chunk-tokens -1", "--chunk-tokens"),
    (f"{BUILD} --max-pixels 0", "--max-pixels"),
    (f"{BUILD} --dtype float33", "float32"),
    (f"{BUILD} --device abacus", "abacus"),
    (f"{BUILD} --seed x", "--seed"),
    (f"{BUILD} more", "more"),
    ("build '' --model MODEL --out NEW", "is empty. Give it"),
    ("build DEMOS --model '' --out NEW", "--model is empty"),
    ("build DEMOS --model MODEL --out ''", "--out is empty"),
    ("build DEMOS --model MODEL --out ' '", "--out is empty"),
    ("build gone.jsonl --model MODEL --out NEW", "gone.jsonl"),
    ("build /dev/null --model MODEL --out NEW", "/dev/null"),
    ("build HERE --model MODEL --out NEW", "HERE"),
    ("build MEMORY --model MODEL --out NEW", "MEMORY"),
    ("build DEMOS --model TEXT --out NEW", "TEXT"),
    ("build DEMOS --model HERE --out NEW", "HERE"),
    ("build DEMOS --model random:nothing --out NEW", "nothing"),
    ("ask MEMORY --question ''", "--question is empty"),
    ("ask '' --question x", "is empty. Give it"),
    ("ask TEXT --question x", "there is a file here"),
    ("ask HERE --question x", "HERE"),
    ("ask MEMORY --question x --image HERE", "HERE"),
    ("ask MEMORY --question x --image /dev/null", "/dev/null"),
    ("ask MEMORY --question x --image TEXT", "TEXT"),
    (f"{ASK} --max-new-tokens -3", "--max-new-tokens"),
    (f"{ASK} --max-new-tokens 99999999999999999999", "--max-new-tokens"),
    (f"{ASK} --epsilon 1e999", "--epsilon 1e999"),
    (f"{ASK} --model HERE", "HERE"),
    (f"{ASK_ALL} --batch-size 0", "--batch-size"),
    ("ask MEMORY --queries HERE", "HERE"),
    ("ask MEMORY --queries TEXT", "TEXT"),
    ("show gone", "there is nothing here"),
    ("show DEMOS", "there is a file here"),
    ("verify gone", "there is nothing here"),
    ("verify MEMORY --min-agreement 1.5", "--min-agreement"),
    ("verify MEMORY --min-agreement nan", "--min-agreement"),
    ("verify MEMORY --queries gone.jsonl", "gone.jsonl"),
    ("verify MEMORY --demonstrations gone", "gone"),
    ("rebuild gone --model MODEL --out NEW", "there is nothing here"),
    ("suite '' --out NEW", "NAME is empty"),
    ("suite bind --out NEW --font TEXT", "is neither a .ttf"),
    ("suite bind --out NEW --font FONT", "cannot be read as a font"),
    ("suite bind --out NEW --font gone.ttf", "no font file gone.ttf"),
    ("suite bind --out NEW --seed 1.5", "--seed"),
    ("suite bind --out NEW --demonstrations 99999999999", "at most 10,000"),
    ("suite digits --out NEW --demonstrations 900", "are too many"),
    ("suite locate --out NEW --demonstrations 900", "at most 800 demonstrations"),
    ("suite bind --out NEW --queries -1", "--queries"),
    ("recipes more", "more"),
    ("models --nothing", "--nothing"),
    ("doctor more", "more"),
    ("demo --out TEXT --overwrite", "TEXT"),
    ("demo --out HERE --overwrite", "has no report.html"),
]  # fmt: skip

OUTPUTS = [
    "build DEMOS --model MODEL --out {}",
    "rebuild MEMORY --model MODEL --out {}",
    "ask MEMORY --queries QUERIES --out {}",
    "show MEMORY --html {}",
    "suite bind --out {}",
    "demo --out {}",
    "bench accuracy --model MODEL --suites bind --out {}",
    "bench speed --model MODEL --out {}",
    "bench paper --model MODEL --out {}",
]


@pytest.fixture(scope="module")
def bare(built: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A memory without a bank."""
    import tasm

    place = tmp_path_factory.mktemp("bare") / "bare.tasm"
    demonstrations = tasm.read_demonstrations(built / "demos.jsonl")
    tasm.build(tasm.load_model(str(model)), demonstrations, recipe="recent").save(place)
    return place


@pytest.fixture
def type_in(run: Run, built: Path, bare: Path, model: Path, tmp_path: Path):
    """`type_in("ask MEMORY --question x")`, with places put in for the words in capitals."""
    (tmp_path / "here").mkdir()
    (tmp_path / "text").write_text("words\n")
    (tmp_path / "font.ttf").write_text("words\n")
    places = {
        "MEMORY": built / "memory.tasm",
        "BARE": bare,
        "DEMOS": built / "demos.jsonl",
        "QUERIES": built / "queries.jsonl",
        "MODEL": model,
        "NEW": tmp_path / "new",
        "HERE": tmp_path / "here",
        "TEXT": tmp_path / "text",
        "FONT": tmp_path / "font.ttf",
    }

    def placed(text: str) -> str:
        for word, place in places.items():
            text = text.replace(word, str(place))
        return text

    def call(line: str, *more: str) -> tuple[Ran, str]:
        return run(*(placed(word) for word in shlex.split(line)), *more), placed("")

    call.placed = placed  # type: ignore[attr-defined]
    return call


def listing(*folders: Path) -> list[tuple[str, int]]:
    return sorted(
        (str(path), path.stat().st_mtime_ns)
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    )


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["", "json"])
@pytest.mark.parametrize(
    ("line", "said"), WITHOUT_EFFECT + AT_ONCE, ids=lambda text: str(text).replace("/", "")
)
def test_a_bad_line_is_a_sentence(
    line: str,
    said: str,
    as_json: tuple[str, ...],
    type_in,
    built: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = listing(built)
    ran, _ = type_in(line, *as_json)
    assert "Something went wrong" not in ran.err
    assert (ran.code, ran.out) == (2, ""), (ran.code, ran.err)
    assert type_in.placed(said) in " ".join(ran.err.split())
    assert listing(built) == before
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("line", OUTPUTS)
@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("/proc/nothing/here", "cannot be written"),
        ("LONG", "too long"),
        ("TEXT/below", "is no folder"),
        ("LOOSE/below", "is no folder"),
        ("MEMORY/inside", "lies inside the task memory"),
    ],
)
def test_a_place_that_cannot_be_is_refused_before_the_work(
    line: str, place: str, said: str, type_in, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place.startswith("/proc") and not os.path.isdir("/proc/self"):
        pytest.skip("no /proc here")
    (tmp_path / "loose").symlink_to(tmp_path / "nowhere")
    place = place.replace("LONG", str(tmp_path / ("n" * 300)))
    place = place.replace("LOOSE", str(tmp_path / "loose"))
    no_work(monkeypatch)
    ran, _ = type_in(line.format(place))
    assert (ran.code, ran.out) == (2, ""), ran.err
    assert said in ran.err
    assert "--html" in ran.err if "--html" in line else "--out" in ran.err


@pytest.mark.parametrize("line", OUTPUTS)
def test_a_full_disk_is_said_before_the_work(
    line: str, type_in, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(10**9, 10**9 - 1000, 1000))
    no_work(monkeypatch)
    ran, _ = type_in(line.format("NEW"))
    assert (ran.code, ran.out) == (1, ""), ran.err
    assert "The disk is full" in ran.err
    assert not (tmp_path / "new").exists()


def test_a_disk_with_less_room_than_the_memory_needs(
    type_in, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is a megabyte, so that only the plan can tell."""
    import shutil
    from collections import namedtuple

    import tasm
    from tasm.compress import plan as module

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(10**9, 0, 1_100_000))
    planned = module.plan
    larger = {"core_bytes": 10**9}
    monkeypatch.setattr(module, "plan", lambda *given, **more: planned(*given, **more) | larger)

    def no_build(*given: object, **more: object) -> None:
        raise AssertionError("built")

    monkeypatch.setattr(tasm, "build", no_build)
    ran, _ = type_in(BUILD)
    assert ran.code == 1
    assert "needs 1,000," in ran.err
    assert not (tmp_path / "new").exists()


def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is loaded or drawn before an output was looked at."""

    def work(*given: object, **more: object) -> None:
        raise AssertionError("worked before it looked where to write")

    monkeypatch.setattr("tasm.backbone.loading.load_backbone", work)
    monkeypatch.setattr("tasm.answer.model.load_backbone", work)
    monkeypatch.setattr("tasm.suites.suites.episode", work)


@pytest.mark.parametrize("way", ["same", "relative", "symlink", "hardlink"])
def test_no_input_is_an_output(
    way: str, run: Run, fresh: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(fresh)

    def other(path: Path) -> Path:
        if way == "same":
            return path
        if way == "relative":
            return Path("..") / fresh.name / path.relative_to(fresh)
        link = tmp_path / f"{path.stem}-link{path.suffix}"
        if way == "symlink":
            link.symlink_to(path)
        else:
            link.hardlink_to(path)
        return link

    memory, queries = fresh / "memory.tasm", fresh / "queries.jsonl"
    before = listing(fresh)
    lines = [
        ("ask", memory, "--queries", queries, "--out", other(queries)),
        ("ask", memory, "--queries", queries, "--out", other(fresh / "new.png")),
        ("show", memory, "--html", other(fresh / "1.png")),
    ]
    if way != "hardlink":  # folders have none
        build = ("build", memory / "pictures", "--question", "x", "--model", model)
        lines += [
            ("rebuild", memory, "--model", model, "--out", other(memory)),
            (*build, "--out", memory if way == "symlink" else other(memory)),
        ]
    for line in lines:
        ran = run(*line, "--overwrite")
        assert (ran.code, ran.out) == (2, ""), (line, ran.err)
        assert "what is read here" in ran.err, line
        assert listing(fresh) == before


def test_a_bench_writes_over_none_of_its_files(run: Run, model: Path, tmp_path: Path) -> None:
    draw(tmp_path / "a.png", "red")
    rows = [{"image": "a.png", "question": "What?", "answer": "red"}]
    demos = write_rows(tmp_path / "rows.jsonl", rows)
    queries = write_rows(tmp_path / "queries.jsonl", rows)
    words = ("bench", "accuracy", "--model", model, "--out", tmp_path)
    ran = run(*words, "--demonstrations", demos, "--queries", queries)
    assert (ran.code, ran.out) == (2, "")
    assert "what is read here" in ran.err
    assert len(list(tmp_path.iterdir())) == 3


def test_a_folder_of_classes_gets_no_memory_inside(run: Run, model: Path, tmp_path: Path) -> None:
    """It would be a class the next time."""
    (tmp_path / "birds" / "wren").mkdir(parents=True)
    draw(tmp_path / "birds" / "wren" / "a.png", "red")
    words = ("build", tmp_path / "birds", "--question", "Which?", "--model", model)
    ran = run(*words, "--out", tmp_path / "birds" / "birds.tasm")
    assert (ran.code, ran.out) == (2, "")
    assert "the demonstrations' folder" in ran.err


def test_a_suites_folder_is_only_replaced_where_all_of_it_is_a_suites(
    run: Run, tmp_path: Path
) -> None:
    out = tmp_path / "rule"
    words = ("suite", "rule", "--out", out, "--demonstrations", 1, "--queries", 1)
    assert run(*words).code == 0
    assert run(*words, "--overwrite", "--seed", 1).code == 0
    (out / "notes.txt").write_text("mine")
    ran = run(*words, "--overwrite")
    assert (ran.code, ran.out) == (2, "")
    assert "notes.txt" in ran.err
    assert (out / "notes.txt").read_text() == "mine"


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="no /dev/null here")
def test_a_device_is_not_replaced(type_in) -> None:
    ran, _ = type_in(f"{ASK_ALL} --out /dev/null --overwrite")
    assert (ran.code, ran.out) == (2, "")
    assert "is a device" in ran.err
    assert not os.path.isfile("/dev/null")


def test_a_plan_needs_no_place(type_in, tmp_path: Path) -> None:
    ran, _ = type_in("build DEMOS --model MODEL --plan --json")
    assert ran.code == 0, ran.err
    assert ran.json["tokens"] > 0
    ran, _ = type_in("build DEMOS --model MODEL --plan --out MEMORY --json")
    assert ran.code == 0
    assert "--overwrite" in ran.err
    ran, _ = type_in("build DEMOS --model MODEL --plan --no-demonstrations --json")
    assert ran.code == 0
    assert "--no-demonstrations" in ran.err
