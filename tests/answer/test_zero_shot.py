"""Without demonstrations: a padded batch answers as each query alone does, in every family."""

import threading
from pathlib import Path
from typing import Any

import pytest

import tasm
from tasm.answer import ordinary_answers, zero_shot_answers
from tests.answer.conftest import queries
from tests.tiny_folders import tiny_folder

pytestmark = pytest.mark.matrix


@pytest.mark.parametrize(
    "family",
    ["qwen2_vl", "qwen3_vl", "llava_next", "llava_onevision", "idefics3", "internvl", "gemma3",
     "mistral3", "glm4v", "llama", "gemma2"],
)  # fmt: skip
def test_a_batch_answers_as_single_queries_do(family: str, tmp_path: Path) -> None:
    model = tasm.load_model(tiny_folder(family, tmp_path / family))
    asked = queries() if hasattr(model.processor, "image_processor") else queries()[2:3]
    if len(asked) == 1:
        asked = [*asked, tasm.make_query("And how long may a question without pictures be?")]
    steps: list[tuple[str, int, int]] = []
    together = zero_shot_answers(
        model.backbone, asked, batch_size=3, max_new_tokens=5,
        progress=lambda *step: steps.append(step),
    )  # fmt: skip
    alone = ordinary_answers(model.backbone, [], asked, max_new_tokens=5)
    assert [one.token_ids for one in together] == [one.token_ids for one in alone]
    assert [one.tokens for one in together] == [one.tokens for one in alone]
    assert steps[-1][1:] == (len(asked), len(asked))


@pytest.mark.parametrize("family", ["qwen2_vl", "glm4v", "llava"])
def test_threads_get_each_its_own_answer(family: str, tmp_path: Path) -> None:
    """Batches of different sizes at once: some models keep a prompt's positions on themselves."""
    model = tasm.load_model(tiny_folder(family, tmp_path / family))
    work = [queries()[: n + 1] for n in range(4)]

    def ask(place: int) -> list[tuple[int, ...]]:
        answers = zero_shot_answers(model.backbone, work[place], max_new_tokens=6)
        return [one.token_ids for one in answers]

    expected = [ask(place) for place in range(4)]
    found: list[Any] = [None] * 4

    def run(place: int) -> None:
        found[place] = ask(place)

    threads = [threading.Thread(target=run, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected
