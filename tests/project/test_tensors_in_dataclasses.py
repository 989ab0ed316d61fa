"""Dataclasses that hold tensors compare by identity: tensors have no truth of `==`."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2] / "src" / "tasm"
TWO = """
from dataclasses import dataclass
@dataclass(frozen=True)
class Compared:
    keys: "Tensor | None"
@dataclass(frozen=True, eq=False)
class Identity:
    keys: list[Tensor]
@dataclass
class Plain:
    keys: list[int]
class Ordinary:
    keys: torch.Tensor
@dataclass
class Beside:
    keys: Tensor = field(compare=False)
"""


def test_dataclasses_with_tensors_compare_by_identity() -> None:
    sources = {path: path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py")}
    found = {
        f"{path.relative_to(ROOT)}: {name}": by_identity
        for path, source in sources.items()
        for name, by_identity in tensor_dataclasses(source).items()
    }
    assert len(found) > 20
    assert [name for name, by_identity in found.items() if not by_identity] == []


def test_one_that_compares_its_tensors_is_noticed() -> None:
    assert tensor_dataclasses(TWO) == {"Compared": False, "Identity": True}


def tensor_dataclasses(source: str) -> dict[str, bool]:
    """Of each dataclass that would compare a Tensor by its annotations: is it said to compare by
    identity?"""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef):
            continue
        marks = [ast.unparse(mark) for mark in node.decorator_list]
        marks = [mark for mark in marks if mark.partition("(")[0].endswith("dataclass")]
        lines = [line for line in node.body if isinstance(line, ast.AnnAssign)]
        types = [
            ast.unparse(line.annotation)
            for line in lines
            if line.value is None or "compare=False" not in ast.unparse(line.value)
        ]
        if marks and any("Tensor" in kind for kind in types):
            found[node.name] = "eq=False" in marks[0]
    return found
