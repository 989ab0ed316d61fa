"""Built, saved, opened, asked and verified, in every family: what a full memory answers is what an
ordinary prompt of all demonstrations answers."""

from pathlib import Path

import pytest

import tasm
from tasm.answer import ordinary_answers
from tests.answer.conftest import demonstrations, queries
from tests.tiny_folders import IMAGE_FAMILIES, TEXT_FAMILIES, tiny_folder

pytestmark = pytest.mark.matrix


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", IMAGE_FAMILIES + TEXT_FAMILIES)
def test_a_memory_from_beginning_to_end(family: str, tmp_path: Path) -> None:
    model = tasm.load_model(tiny_folder(family, tmp_path / family))
    if hasattr(model.processor, "image_processor"):
        rows, asked = demonstrations()[:3], queries()
    else:
        texts = [{"question": f"Number {n}?", "answer": "x " * n} for n in (1, 2, 3)]
        rows, asked = tasm.read_demonstrations(texts), queries()[2:3]
    memory = tasm.build(model, rows, recipe="full")
    expected = ordinary_answers(model.backbone, rows, asked, layout=memory.layout, max_new_tokens=4)
    found = model.ask_all(memory, asked, batch_size=3, max_new_tokens=4)
    assert [one.token_ids for one in found] == [one.token_ids for one in expected]
    memory.save(tmp_path / "m.tasm")
    again = model.ask_all(tmp_path / "m.tasm", asked, max_new_tokens=4)
    assert [one.token_ids for one in again] == [one.token_ids for one in expected]
    report = tasm.verify(tmp_path / "m.tasm", model, asked, rows)
    assert report.intact and report.model_matches and report.agreement == 1.0
