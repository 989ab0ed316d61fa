"""What docs/format.md says of fields, tensors and bytes is what the files hold."""

import json
import re
from pathlib import Path

import pytest

from tasm.memory.disk import schema
from tests.memory.memories import packed_memory, task_memory

PAGE = (Path(__file__).parents[2] / "docs" / "format.md").read_text()


def table(section: str) -> list[str]:
    """The names in the first column of a section's first table."""
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`]+)`", "".join(re.findall(r"^\|([^|]*)\|", text, re.MULTILINE)))


@pytest.mark.parametrize("make", [task_memory, packed_memory], ids=["plain", "packed"])
def test_fields_are_those_of_the_page_in_its_order(make, tmp_path):
    make(bias=True).save(tmp_path / "m.tasm", pictures={"e" * 64: b"\xff\xd8\xff" + bytes(9)})
    document = json.loads((tmp_path / "m.tasm" / "memory.json").read_bytes())
    names = table("memory.json")
    assert set(document) <= set(names) and set(names) - set(document) <= {"packing"}
    if "packing" not in document:
        assert [name for name in names if name in document] == list(document)
    described = PAGE[PAGE.index("## memory.json") : PAGE.index("## The digest")]
    for part in ("geometry", "gate", "layout", "versions", "sizes", "files"):
        for name in document[part]:
            assert f"`{name}`" in described, f"{part}.{name}"
    for name in {**document["demonstrations"][0], **document["demonstrations"][0]["pictures"][0]}:
        assert f"`{name}`" in described, name
    assert document["format_version"] == (2 if "packing" in document else 1)
    assert f"is {schema.PLAIN_VERSION}, and {schema.FORMAT_VERSION} for" in PAGE


@pytest.mark.parametrize("make", [task_memory, packed_memory], ids=["plain", "packed"])
def test_tensors_are_those_of_the_page_and_lie_as_it_says(make, tmp_path):
    make(core=(5, 9), bank=(7, 3), bias=True).save(tmp_path / "m.tasm")
    named = table("Packed memories") if make is packed_memory else table("Tensors of the core")
    sizes = {"I64": 8, "F32": 4, "I32": 4, "F16": 2, "I16": 2, "U8": 1}
    for path in (tmp_path / "m.tasm").glob("*.safetensors"):
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        assert (8 + length) % 64 == 0
        header = json.loads(data[8 : 8 + length])
        header.pop("__metadata__", None)
        order, end = [], 0
        for name, entry in sorted(header.items(), key=lambda one: one[1]["data_offsets"]):
            general = re.sub(r"\.\d+\b", ".i", name).replace(".full.", ".KIND.")
            assert general in [*named, "layers.i.offsets"], name
            assert entry["data_offsets"][0] == end  # no gaps
            end = entry["data_offsets"][1]
            order.append((-sizes[entry["dtype"]], name))
        assert order == sorted(order) and 8 + length + end == len(data)
