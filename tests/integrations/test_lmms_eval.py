"""The lmms-eval plugin against a stand-in of lmms-eval's interface.

The stand-in holds what lmms-eval 0.7 asks of a plugin (`lmms_eval/models/registry_v2.py`,
`lmms_eval/api/model.py`): a manifest from the entry point, a class below `lmms`, requests whose
`args` are (context, settings, doc_to_visual, doc_id, task, split).
"""

import abc
import importlib
import sys
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import ModuleType

import pytest
from PIL import Image

from tasm.errors import InputError


@dataclass(frozen=True)
class ModelManifest:
    model_id: str
    simple_class_path: str | None = None
    chat_class_path: str | None = None
    aliases: tuple[str, ...] = ()


class CacheHook:
    def __init__(self):
        self.seen = []

    def add_partial(self, kind, request, answer):
        self.seen.append((kind, request, answer))


class Lmms(abc.ABC):
    is_simple = True

    def __init__(self):
        self.cache_hook = CacheHook()
        self.task_dict = {}

    @abc.abstractmethod
    def loglikelihood(self, requests): ...

    @abc.abstractmethod
    def generate_until(self, requests): ...

    @abc.abstractmethod
    def generate_until_multi_round(self, requests): ...


@dataclass
class Request:
    args: tuple


@pytest.fixture
def plugin(monkeypatch):
    for name, members in {
        "lmms_eval": {},
        "lmms_eval.api": {},
        "lmms_eval.api.model": {"lmms": Lmms},
        "lmms_eval.models": {},
        "lmms_eval.models.registry_v2": {"ModelManifest": ModelManifest},
    }.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules.pop("tasm.integrations.lmms_eval", None)
    return importlib.import_module("tasm.integrations.lmms_eval")


@pytest.fixture
def memory_folder(backbone, files, tmp_path):
    from tasm.compress.api import build
    from tasm.demonstrations import read_demonstrations

    memory = build(backbone, read_demonstrations(files / "demos.jsonl"), recipe="random")
    memory.save(tmp_path / "m.tasm")
    return tmp_path / "m.tasm"


def model_class(plugin):
    """Resolve the class as lmms-eval's registry does."""
    module, _, name = plugin.manifest().simple_class_path.rpartition(".")
    found = getattr(importlib.import_module(module), name)
    assert isinstance(found, type) and issubclass(found, Lmms) and found.is_simple
    return found


def document(number):
    return {"picture": Image.new("RGB", (56, 60 + number), "red"), "number": number}


def requests(model, count, **settings):
    model.task_dict = {"colours": {"test": [document(number) for number in range(count)]}}
    given = {"max_new_tokens": 4, "until": ["\n\n"], **settings}
    return [
        Request(("What colour?", given, lambda row: [row["picture"]], number, "colours", "test"))
        for number in range(count)
    ]


def test_the_entry_point_is_registered():
    (entry,) = entry_points(group="lmms_eval.models", name="tasm")
    assert entry.value == "tasm.integrations.lmms_eval:manifest"


def test_answers_are_those_of_the_memory(plugin, backbone, memory_folder, model_folder):
    from tasm.answer import ask_all
    from tasm.demonstrations import make_query
    from tasm.memory import TaskMemory

    model = model_class(plugin)(pretrained=str(model_folder), memory=str(memory_folder))
    found = model.generate_until(requests(model, 3))
    queries = [make_query("What colour?", images=[document(n)["picture"]]) for n in range(3)]
    memory = TaskMemory.load(memory_folder)
    wanted = [ask_all(backbone, memory, [q], max_new_tokens=4)[0].text for q in queries]
    assert found == [text.split("\n\n")[0].strip() for text in wanted]
    assert [answer for _, _, answer in model.cache_hook.seen] == found


def test_batches_answer_as_single_requests_do(plugin, memory_folder, model_folder):
    arguments = {"pretrained": str(model_folder), "memory": str(memory_folder)}
    alone = model_class(plugin)(**arguments, batch_size="1")
    together = model_class(plugin)(**arguments, batch_size=4)
    assert alone.generate_until(requests(alone, 5)) == together.generate_until(
        requests(together, 5)
    )


def test_without_a_memory_the_model_answers_zero_shot(plugin, model_folder):
    model = model_class(plugin)(pretrained=str(model_folder))
    assert len(model.generate_until(requests(model, 2))) == 2


def test_stop_sequences_cut_the_answer(plugin):
    assert plugin._until("red. blue", [". "]) == "red"
    assert plugin._until("red\n\nblue", "\n\n") == "red"
    assert plugin._until(" red ", None) == "red"


def test_what_it_cannot_do_is_refused(plugin, model_folder):
    with pytest.raises(InputError, match="pretrained=MODEL"):
        model_class(plugin)()
    with pytest.raises(InputError, match="'memori'"):
        model_class(plugin)(pretrained=str(model_folder), memori="x.tasm")
    model = model_class(plugin)(pretrained=str(model_folder))
    with pytest.raises(NotImplementedError, match="generation"):
        model.loglikelihood([])
    with pytest.raises(NotImplementedError, match="one question"):
        model.generate_until_multi_round([])
