"""What `memory.cache` takes and refuses."""

from typing import Any

import pytest
import torch

from tasm.backbone import attach
from tasm.errors import InputError
from tests.backbone.attention.exactness import tiny_or_skip
from tests.memory import memories


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"live_tokens": 0}, "live_tokens is 0"),
        ({"live_tokens": -3}, "live_tokens is -3"),
        ({"live_tokens": 2.5}, "live_tokens is 2.5"),
        ({"live_tokens": True}, "live_tokens is True"),
        ({"dtype": "bfloat16"}, r"dtype is 'bfloat16'.*torch\.bfloat16"),
        ({"dtype": torch.int8}, r"dtype is torch\.int8"),
        ({"device": "nowhere"}, "device is 'nowhere'"),
        ({"device": ["cpu", "nowhere"]}, "device is 'nowhere'"),
    ],
)
def test_impossible_arguments_are_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        memories.task_memory().cache(**given)


def test_a_memory_given_instead_of_its_cache() -> None:
    tiny = tiny_or_skip("llama")
    attach(tiny.model)
    for run in (tiny.model.generate, tiny.model):
        with pytest.raises(InputError, match=r"give its cache: past_key_values=memory\.cache\(\)"):
            run(input_ids=torch.tensor([[5]]), past_key_values=memories.task_memory())
