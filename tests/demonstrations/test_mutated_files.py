"""Five thousand damaged files of demonstrations: each is refused with a sentence, or read; and of
those that are read every tenth is laid out as a build does it first, with a real processor."""

import struct

import pytest

pytest.importorskip("pyarrow")

from tasm.demonstrations import read_demonstrations
from tasm.errors import DemonstrationError
from tests.demonstrations.mutated_files import sound_files, tiny_layout, try_many


def test_five_thousand_damaged_files_are_refused_or_read(tmp_path, tmp_path_factory):
    lay = tiny_layout(tmp_path_factory.mktemp("tiny"))
    came, faults = try_many(5000, 0, tmp_path, lay, every=10)
    assert not faults, "\n".join(faults[:50])
    assert came["refused"] > 1500 and came["read"] > 1000 and came["laid out"] > 50


def test_an_arrow_file_whose_offsets_lead_outside_is_refused(tmp_path):
    """Reading it ended the process: pyarrow follows offsets unless it is asked to check them."""
    data = sound_files()["rows.arrow"]
    offsets = struct.pack("<3i", 0, 2, 4)  # of the questions "A?", "A?"
    assert offsets in data
    (tmp_path / "a.arrow").write_bytes(data.replace(offsets, struct.pack("<3i", 0, 2, 2**30)))
    with pytest.raises(DemonstrationError, match="found a file that is no Arrow file, or damaged"):
        read_demonstrations(tmp_path / "a.arrow")
