"""Memories on the hub: pushed, fetched and opened by name, over a stand-in of its HTTP interface on
this machine; every way in which that fails is a sentence, and nothing is left half done."""

import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tasm
from tasm.errors import DamageError, HubError, InputError
from tasm.memory.hub.names import HubName, named, parsed
from tasm.memory.retrieval.index import layer
from tests.memory.memories import packed_memory, task_memory
from tests.memory.stand_in_hub import TOKEN, Hub, Repository, stand_in_hub
from tests.memory.test_files import assert_same as assert_equal

PICTURES = {"e" * 64: b"\xff\xd8\xff" + bytes(200)}
NAME = "me/birds"


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Hub:
    """A hub of its own with a cache of its own, and somebody who is logged in."""
    from huggingface_hub import constants, file_download

    with stand_in_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        for name, value in {
            "HF_HUB_OFFLINE": False,
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_HUB_DISABLE_XET": True,  # another protocol, for whole files of gigabytes
        }.items():
            monkeypatch.setattr(constants, name, value)
        # What it reads of the environment once, when it is imported.
        template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        monkeypatch.setattr(constants, "HF_URL_HOSTS", frozenset({"127.0.0.1"}), raising=False)
        monkeypatch.setattr(time, "sleep", lambda seconds: None)  # it waits between its tries
        monkeypatch.chdir(tmp_path)
        reset_sessions()
        yield server
    monkeypatch.undo()
    reset_sessions()


def push(memory=None, **options):
    return (memory or task_memory()).push_to_hub(NAME, **{"pictures": PICTURES} | options)


def assert_same(first, second) -> None:
    """The same in everything but what a push leaves behind: where things lay."""
    assert [one.id for one in first.demonstrations] == [one.id for one in second.demonstrations]
    assert_equal(
        *(
            memory.replaced(demonstrations=[one.without_content() for one in memory.demonstrations])
            for memory in (first, second)
        )
    )


def asked(hub: Hub) -> list[str]:
    """What the hub was asked for since the last call."""
    before, hub.asked[:] = list(hub.asked), []
    return before


# ---------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("me/birds", HubName("me/birds")),
        ("me/birds.tasm", HubName("me/birds.tasm")),
        ("a-b/C_d.e-1@v1.0", HubName("a-b/C_d.e-1", "v1.0")),
        ("me/birds@refs/pr/3", HubName("me/birds", "refs/pr/3")),
        ("birds.tasm", None),
        ("./me/birds", None),
        ("/me/birds", None),
        ("me/birds/x", None),
        ("../birds", None),
        ("me/..", None),
        ("me/b..c", None),
        ("me/bi rds", None),
        ("me/b@", None),
        ("", None),
    ],
)
def test_what_is_a_name_of_the_hub(text, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parsed(text) == name
    assert named(Path(text)) == parsed(str(Path(text)))


def test_what_lies_here_wins_and_asks_nobody(hub):
    push()
    other = task_memory(seed=1)
    other.save(Path(NAME))
    asked(hub)
    assert_same(tasm.load(NAME), other)
    with pytest.raises(InputError, match="revision is 'main', and me/birds is a folder"):
        tasm.load(NAME, revision="main")
    with pytest.raises(InputError, match="me/others does not exist"):  # a slip beside it
        tasm.load("me/others")
    assert asked(hub) == []


# ---------------------------------------------------------------------- there and back


@pytest.mark.parametrize("make", [task_memory, packed_memory], ids=["plain", "packed"])
def test_a_memory_goes_to_the_hub_and_comes_back(hub, make, tmp_path):
    memory = make(bias=True)
    commit = push(memory, commit_message="Birds of spring", private=True)
    assert commit.commit_url.endswith(commit.oid) and hub.repositories[NAME].private
    assert commit.oid == hub.repositories[NAME].names["main"]
    back = tasm.load(NAME)
    back.check_all()
    memory.save("here.tasm")
    assert_same(back, tasm.load("here.tasm"))
    assert back.thumbnails() == PICTURES
    assert asked(hub).count("GET /me/birds/resolve/main/memory.json") <= 1
    again = tasm.load(NAME)
    assert again.digest == back.digest and again.place == back.place
    assert all("memory.json" in one for one in asked(hub))  # only whether it is still the newest
    shutil.copytree(back.place, tmp_path / "copy.tasm")  # as a clone of the repository
    (tmp_path / "copy.tasm" / "README.md").write_bytes(hub.tree(NAME)["README.md"])
    tasm.load(tmp_path / "copy.tasm").check_all()


def test_the_index_of_a_large_bank_goes_and_comes_back_and_is_replaced(hub, monkeypatch):
    monkeypatch.setattr(layer, "LEAST_TOKENS", 16)
    push()
    assert any(path.startswith("index-") for path in hub.tree(NAME))
    back = tasm.load(NAME)
    back.check_all()
    assert any(path.name.startswith("index-") for path in back.place.iterdir())
    push(task_memory(bank=None))
    assert not any(path.startswith("index-") for path in hub.tree(NAME))


def test_nothing_of_this_machine_goes_with_it(hub, tmp_path):
    place = tmp_path / "secret-place" / "model"
    place.mkdir(parents=True)
    memory = task_memory().replaced(model_name=str(place), vision_memory=str(place))
    memory.save("here.tasm", pictures=PICTURES)
    tasm.load("here.tasm").push_to_hub(NAME)
    tree = hub.tree(NAME)
    assert set(tree) > {"README.md", "memory.json", f"pictures/{'e' * 64}.jpg"}
    for data in tree.values():
        assert b"secret-place" not in data and b"data/birds.jsonl" not in data
    back = tasm.load(NAME)
    assert back.model_name == "" and back.demonstrations[0].origin is None
    assert back.demonstrations[0].question == memory.demonstrations[0].question


def test_without_demonstrations_no_text_and_no_picture_goes(hub):
    memory = task_memory()
    bare = memory.replaced(demonstrations=[one.without_content() for one in memory.demonstrations])
    bare.push_to_hub(NAME)
    tree = hub.tree(NAME)
    assert not any(path.startswith("pictures/") for path in tree)
    assert not any(b"Which bird" in data for data in tree.values())
    assert b"of no demonstrations and no thumbnails" in tree["README.md"]


def test_the_card_says_what_it_is(hub):
    memory = task_memory().replaced(model_name="Qwen/Qwen2-VL-2B-Instruct@0123abc")
    push(memory)
    page = hub.tree(NAME)["README.md"].decode()
    head = page.split("---\n")[1].splitlines()
    assert head[:3] == [
        "library_name: tasm",
        "base_model: Qwen/Qwen2-VL-2B-Instruct",
        "pipeline_tag: image-text-to-text",
    ]
    assert "- task-memory" in head
    assert 'tasm.load("me/birds")' in page and "tasm ask me/birds" in page
    assert f"| core | {memory.core_bytes:,} bytes |" in page and "| recipe | `tasm` |" in page
    assert "base_model" not in push_and_card(hub, task_memory().replaced(model_name="a b|`c\n"))


def push_and_card(hub: Hub, memory) -> str:
    push(memory)
    return hub.tree(NAME)["README.md"].decode()


def test_a_second_push_replaces_the_memory_and_nothing_else(hub):
    push()
    found = hub.repositories[NAME]
    found.commit({**hub.tree(NAME), "notes.txt": b"mine", "weights.safetensors": b"mine too"})
    first = hub.tree(NAME)
    old = tasm.load(NAME)
    push(task_memory(seed=1, bank=None), pictures={})
    second = hub.tree(NAME)
    assert sorted(path.split("-")[0] for path in second) == [
        ".gitattributes", "README.md", "core", "memory.json", "notes.txt", "weights.safetensors",
    ]  # fmt: skip
    assert second["README.md"] != first["README.md"] and second["notes.txt"] == b"mine"
    assert_same(tasm.load(NAME), task_memory(seed=1, bank=None))
    old.check_all()  # what was fetched stays
    assert_same(
        tasm.load(NAME, revision=next(iter(reversed(found.commits)), None)), tasm.load(NAME)
    )
    found.commit({**second, "README.md": b"# My own page"})
    push()
    assert hub.tree(NAME)["README.md"] == b"# My own page"


def test_branches_and_tags_and_commits_are_opened_by_name(hub):
    first = push().oid
    push(task_memory(seed=1), revision="small")
    hub.repositories[NAME].names["v1"] = first
    push(task_memory(seed=2))
    for revision, seed in (("small", 1), ("v1", 0), (first, 0), ("main", 2)):
        assert_same(tasm.load(NAME, revision=revision), task_memory(seed=seed))
        assert_same(tasm.load(f"{NAME}@{revision}"), task_memory(seed=seed))
    with pytest.raises(InputError, match="names a revision, and revision is 'v1'"):
        tasm.load(f"{NAME}@main", revision="v1")


def test_without_a_connection_what_was_fetched_is_opened(hub, monkeypatch):
    from huggingface_hub import constants

    push()
    assert_same(tasm.load(NAME), task_memory())
    asked(hub)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    reset_sessions()
    assert_same(tasm.load(NAME), task_memory())
    assert asked(hub) == []


def reset_sessions() -> None:
    """Old versions of huggingface_hub decide once a session whether they are offline."""
    from huggingface_hub import utils

    getattr(utils, "reset_sessions", getattr(utils._http, "reset_sessions", lambda: None))()


# ---------------------------------------------------------------------- what fails


def fails(said: str, call=lambda: tasm.load(NAME)) -> None:
    with pytest.raises(HubError, match=said) as caught:
        call()
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)


def test_what_is_not_there_is_one_sentence(hub, monkeypatch):
    fails("^me/birds cannot be fetched: the hub has no such repository, or it is private")
    push(private=True)
    tasm.load(NAME)
    fails(
        "me/birds@v9 cannot be fetched: the repository has no such branch",
        lambda: tasm.load(NAME, revision="v9"),
    )
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    fails(
        "no such repository, or it is private and not yours", lambda: tasm.load(NAME, revision="v1")
    )
    hub.repositories["me/other"] = Repository()
    hub.repositories["me/other"].commit({"config.json": b"{}"})
    fails(
        "me/other holds no task memory: the repository has no memory.json",
        lambda: tasm.load("me/other"),
    )
    for status in (500, 503, 429):
        hub.refuse = {"/me/busy/": status}
        fails(
            f"me/busy cannot be fetched: .*({status}|could not be reached)",
            lambda: tasm.load("me/busy"),
        )


def test_no_connection_is_one_sentence(hub, monkeypatch):
    from huggingface_hub import constants

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    fails("me/birds cannot be fetched: the hub could not be reached")
    fails("me/birds cannot be pushed to: the hub could not be reached", push)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    reset_sessions()
    fails("me/birds cannot be fetched: the hub could not be reached")
    fails("me/birds cannot be pushed to: the hub could not be reached.*offline", push)


def test_a_push_that_is_refused_changes_nothing(hub, monkeypatch):
    push()
    before = hub.tree(NAME)
    with pytest.raises(InputError, match="me/birds exists and is public"):
        push(task_memory(seed=1), private=True)
    hub.refuse = {"/commit/": 412}
    fails("somebody else changed the repository meanwhile", lambda: push(task_memory(seed=1)))
    hub.refuse = {}
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    fails("the hub did not let you|no such repository", lambda: push(task_memory(seed=1)))
    for name in ("birds", "me/birds@v1", "a/b/c", "me/b..c", 5, None):
        with pytest.raises(InputError, match=r"repo_id is .*; expected the name of a repository"):
            task_memory().push_to_hub(name)
    assert hub.tree(NAME) == before


def test_a_damaged_memory_is_not_pushed(hub):
    task_memory().save("m.tasm")
    memory = tasm.load("m.tasm")
    core = next(Path("m.tasm").glob("core-*"))
    core.write_bytes(core.read_bytes()[:-1] + b"?")
    with pytest.raises(DamageError):
        memory.push_to_hub(NAME)
    assert asked(hub) == []


@pytest.mark.parametrize("file", ["memory.json", "core-", "bank-", "pictures/"])
def test_damage_on_the_way_is_found_and_gone_at_the_next_try(hub, file):
    push()
    hub.flip = file
    fails("me/birds holds a damaged memory.* (is not what|memory.json is not what was written)")
    hub.flip = ""
    assert_same(tasm.load(NAME), task_memory())


@pytest.mark.parametrize("file", ["core-", "pictures/"])
def test_a_memory_that_was_fetched_in_part_is_completed(hub, file, monkeypatch):
    from huggingface_hub import constants

    push()
    place = tasm.load(NAME).place
    found = next(
        path
        for path in place.rglob("*")
        if str(path.relative_to(place)).startswith(file) and path.is_file()
    )
    real = found.resolve()
    real.write_bytes(real.read_bytes()[:50])  # cut
    memory = tasm.load(NAME)
    memory.check_all()
    found.resolve().unlink()  # gone
    found.unlink(missing_ok=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    reset_sessions()
    fails("me/birds cannot be fetched: the hub could not be reached")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    reset_sessions()
    tasm.load(NAME).check_all()


def test_a_file_missing_on_the_hub_is_said(hub):
    push()
    tree = hub.tree(NAME)
    hub.repositories[NAME].commit(
        {path: data for path, data in tree.items() if "bank-" not in path}
    )
    fails("me/birds holds a damaged memory: bank-.* is missing")


def test_a_connection_that_breaks_is_one_sentence(hub):
    push()
    hub.break_off = "core-"
    fails("me/birds cannot be fetched: |me/birds holds a damaged memory")
    hub.break_off = ""
    assert_same(tasm.load(NAME), task_memory())


# ---------------------------------------------------------------------- as a command


def test_the_commands_know_the_hub(hub, tmp_path):
    """In a process of its own, with nothing but the environment to say where the hub is."""
    task_memory().save("m.tasm", pictures=PICTURES)
    script = f"""
import sys
from tasm.cli.app import app
for line in {LINES!r}:
    try:
        app(line.split(), prog_name="tasm")
        code = 0
    except SystemExit as left:
        code = left.code
    print("exit", code or 0, flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(hub, tmp_path),
        capture_output=True,
        text=True,
        timeout=100,
    )
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("exit")] == [
        f"exit {code}" for code in LINES.values()
    ], done.stderr
    pushed = json.loads(lines[0])
    assert pushed["repository"] == NAME and pushed["url"].endswith(pushed["commit"])
    assert json.loads(lines[2])["core_bytes"] == task_memory().core_bytes
    assert "a memory is not changed on the hub" in done.stderr
    assert "me/none cannot be fetched: the hub has no such repository" in done.stderr
    assert "Traceback" not in done.stderr and "inside tasm" not in done.stderr
    assert "me/none@refs/pr/3 cannot be fetched" in done.stderr
    assert not (tmp_path / "me").exists()


LINES = {
    "push m.tasm me/birds --json": 0,
    "show me/birds --json": 0,
    "show me/none": 2,
    "show me/none@refs/pr/3": 2,
    "ask me/none --question x": 2,
    "remove me/birds x": 2,
    "push me/birds me/other": 2,
    "push m.tasm birds": 2,
}


def environment(hub: Hub, home: Path) -> dict[str, str]:
    import os

    own = {
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(home / "home"),
        "HF_HUB_OFFLINE": "0",
        "TRANSFORMERS_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": TOKEN,
    }
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)} | own
