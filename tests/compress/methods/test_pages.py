"""The methods' pages are those that the docstrings make, and every one says what differs."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[3] / "docs" / "methods"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_pages", FOLDER / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES: dict[str, str] = generator().pages()


@pytest.mark.parametrize("name", PAGES)
def test_up_to_date(name: str) -> None:
    written = (FOLDER / name).read_text(encoding="utf-8")
    assert written == PAGES[name], "run: python docs/methods/generate.py"


def test_no_page_is_left_over() -> None:
    assert {path.name for path in FOLDER.glob("*.md")} == {*PAGES, "tasm.md"}


@pytest.mark.parametrize("name", sorted(set(PAGES) - {"README.md", "recent.md"}))
def test_says_what_differs(name: str) -> None:
    assert "**Differs from the paper" in PAGES[name]
