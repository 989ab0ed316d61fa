"""The examples in README.md and docs/ run and print what the pages say.

The convention, for whoever writes a page:

- A block is tested when its fence names what to do after the language:
  ```` ```python test ````, ```` ```console test ````, ```` ```jsonl file=birds.jsonl ````.
  Blocks without such a word are not run.
- The blocks of one page run in order, in one empty folder: what one writes, the next can read.
- `file=NAME` (any language) writes the block's text to NAME in that folder.
- `python test` runs the block in a process of its own. Lines that begin with `#> ` are what it
  prints, in their order; a block without them may print anything.
- `console test`: each line that begins with `$ ` is run by bash, in order, with `tasm` and `python`
  on the path; the lines after it are its output, standard output and error together, and none means
  that it does not matter. A command must exit 0, unless the line after its output is `[exit N]`.
  What is only `tasm` and plain words is run without bash.
- In what is expected `…` stands for anything within the line, and a line that is only `…` for any
  number of lines. A command that ends in `\\` goes on in the next line.
- `test slow` marks a block that takes more than ten seconds: then the whole page is a slow test.
- An HTML comment before a block holds what a reader need not see and the test needs:
  `<!-- test: COMMAND -->` runs a command first.
"""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.own_process import run_python, run_tasm

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)(?P<words>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```\s*$"
    r"|^<!-- test: (?P<hidden>.*?) -->$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fenced block that is tested, or a hidden command."""

    language: str
    words: tuple[str, ...]
    text: str
    line: int


def blocks(page: str) -> list[Block]:
    found = []
    for match in _FENCE.finditer(page):
        line = page.count("\n", 0, match.start()) + 1
        if match["hidden"] is not None:
            found.append(Block("console", ("test",), f"$ {match['hidden']}\n", line))
            continue
        words = tuple(match["words"].split())
        if "test" in words or any(word.startswith("file=") for word in words):
            text = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
            found.append(Block(match["language"], words, text, line))
    return found


def run_block(block: Block, folder: Path) -> None:
    """Do what a block says in `folder`; AssertionError when the outcome is another."""
    for word in block.words:
        if word.startswith("file="):
            target = folder / word.removeprefix("file=")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.text, encoding="utf-8")
            return
    if block.language == "python":
        expected = [line[3:] for line in block.text.splitlines() if line.startswith("#> ")]
        code, printed = run_python(block.text, folder)
        assert code == 0, f"line {block.line}: exit {code}\n{printed}"
        assert not expected or _matches("\n".join(expected), printed), _differs(block, printed)
        return
    assert block.language == "console", f"line {block.line}: no way to test {block.language!r}"
    for command, expected, wanted in _commands(block.text):
        is_plain = command.startswith("tasm ") and not re.search(r"[][|<>;&$`*?~{}()\\]", command)
        code, printed = (
            run_tasm(shlex.split(command)[1:], folder) if is_plain else _by_bash(command, folder)
        )
        assert code == wanted, f"line {block.line}: {command}: exit {code}\n{printed}"
        assert not expected or _matches(expected, printed), _differs(block, printed)


def _commands(text: str) -> list[tuple[str, str, int]]:
    commands: list[tuple[str, list[str], int]] = []
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("$ "):
            command = line[2:]
            while command.endswith("\\"):
                command = command[:-1] + next(lines).strip()
            commands.append((command, [], 0))
        elif exit_code := re.fullmatch(r"\[exit (\d+)\]", line):
            command, expected, _ = commands.pop()
            commands.append((command, expected, int(exit_code[1])))
        else:
            commands[-1][1].append(line)
    return [(command, "\n".join(expected), code) for command, expected, code in commands]


def _by_bash(command: str, folder: Path) -> tuple[int, str]:
    scripts = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
    )
    return done.returncode, done.stdout


def _matches(expected: str, printed: str) -> bool:
    lines = [line.rstrip() for line in expected.strip().splitlines()]
    pattern = "".join(
        r"(?:[^\n]*\n)*?"
        if line.strip() == "…"
        else "[^\n]*?".join(re.escape(piece) for piece in line.split("…")) + r"[ \t]*\n"
        for line in lines
    )
    return re.fullmatch(pattern, printed.strip() + "\n") is not None


def _differs(block: Block, printed: str) -> str:
    return f"line {block.line}:\n{block.text}\nprinted:\n{printed}"


def _pages() -> list:
    found = []
    for page in PAGES:
        tested = blocks(page.read_text(encoding="utf-8"))
        if tested:
            marks = [pytest.mark.slow] if any("slow" in block.words for block in tested) else []
            found.append(pytest.param(tested, id=str(page.relative_to(ROOT)), marks=marks))
    return found


@pytest.mark.parametrize("tested", _pages())
def test_page(tested: list[Block], tmp_path: Path) -> None:
    for block in tested:
        run_block(block, tmp_path)


PAGE = """
```python test
print("a", 1.25)
#> a 1.…
```
```python
this is not run
```
```text file=sub/name.txt
hello
```
<!-- test: echo hidden > hidden.txt -->
```console test
$ cat sub/name.txt \\
    hidden.txt
hello
hidden
$ echo a; echo b; echo c; exit 3
a
…
c
[exit 3]
```
"""


def test_the_convention(tmp_path: Path) -> None:
    found = blocks(PAGE)
    assert [block.language for block in found] == ["python", "text", "console", "console"]
    for block in found:
        run_block(block, tmp_path)


@pytest.mark.parametrize(
    "block",
    [
        '```python test\nprint("b")\n#> a\n```',
        "```python test\nraise SystemExit(1)\n```",
        "```console test\n$ echo b\na\n```",
        "```console test\n$ exit 1\n```",
        "```console test\n$ true\n[exit 1]\n```",
        "```toml test\na = 1\n```",
    ],
)
def test_a_wrong_page_fails(block: str, tmp_path: Path) -> None:
    (one,) = blocks(block)
    with pytest.raises(AssertionError, match="line 1"):
        run_block(one, tmp_path)


def links(page: Path) -> list[str]:
    text = re.sub(r"^( *)```.*?^\1```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for link in links(page):
        place = link.partition("#")[0]
        if place and "://" not in place and not place.startswith("mailto:"):
            assert (page.parent / place).exists(), f"{page.name}: {link}"
