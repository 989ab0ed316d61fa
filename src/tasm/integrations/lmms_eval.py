"""lmms-eval runs a base model with a task memory: its plugin, by entry point `lmms_eval.models`.

```
python -m lmms_eval --model tasm --tasks ok_vqa_val2014
    --model_args pretrained=Qwen/Qwen2-VL-7B-Instruct,memory=okvqa.tasm
```

lmms-eval is no dependency of tasm: it is imported when lmms-eval itself asks for the plugin. Knows
nothing of tasks; every request becomes one query.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from tasm.errors import InputError

NAME = "tasm"
DEFAULT_NEW_TOKENS = 128


def manifest() -> Any:
    """Return what lmms-eval registers: the model name `tasm` and where its class is.

    The entry point `lmms_eval.models` names this function; lmms-eval calls it.
    """
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(
        model_id=NAME, simple_class_path="tasm.integrations.lmms_eval.TaskMemoryModel"
    )


def __getattr__(name: str) -> Any:
    """Make the model class when it is first asked for: its base class is lmms-eval's."""
    if name != "TaskMemoryModel":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lmms_eval.api.model import lmms

    made = type("TaskMemoryModel", (_Answering, lmms), {"__doc__": _Answering.__doc__})
    globals()[name] = made
    return made


class _Answering:
    """A frozen model that answers lmms-eval's requests from a task memory.

    Args (of `--model_args`):
        pretrained: folder or hub name of the base model; default: the one the memory names.
        memory: folder of a task memory; without one the model answers zero-shot.
        batch_size: queries answered together.
        dtype, device: as in `tasm ask`.
    """

    is_simple = True

    def __init__(
        self,
        pretrained: str | None = None,
        memory: str | None = None,
        batch_size: int | str = 1,
        dtype: str = "auto",
        device: str = "auto",
        **unknown: Any,
    ) -> None:
        super().__init__()
        from tasm.answer import load_model
        from tasm.memory import TaskMemory

        for name in unknown.keys() - {"device_map", "max_batch_size"}:  # every model gets these
            raise InputError(
                f"The lmms-eval model 'tasm' takes pretrained, memory, batch_size, dtype and "
                f"device; {name!r} is none of them."
            )
        self._memory = None if memory is None else TaskMemory.load(memory)
        place = pretrained or (self._memory.model_name if self._memory is not None else None)
        if place is None:
            raise InputError("Give --model_args pretrained=MODEL, memory=FOLDER, or both.")
        self._model = load_model(place, dtype=dtype, device=device)
        self._batch_size = int(batch_size)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Answer requests `(context, settings, doc_to_visual, doc_id, task, split)` greedily."""
        answers: list[str] = []
        for batch in _batches(requests, self._batch_size):
            settings = dict(batch[0].args[1])
            texts = self._ask([self._query(request) for request in batch], settings)
            for request, text in zip(batch, texts, strict=True):
                answer = _until(text, settings.get("until"))
                self.cache_hook.add_partial(  # type: ignore[attr-defined]
                    "generate_until", (request.args[0], settings), answer
                )
                answers.append(answer)
        return answers

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Refuse: tasm answers by generation."""
        raise NotImplementedError(
            "tasm answers by generation; choose tasks whose output_type is generate_until."
        )

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Refuse: a memory is asked one question at a time."""
        raise NotImplementedError("tasm answers one question at a time; multi-round is not there.")

    def _query(self, request: Any) -> Any:
        """The request as a query; lmms-eval's `<image>` marks say where pictures stand."""
        from tasm.demonstrations import make_query

        context, _, doc_to_visual, doc_id, task, split = request.args
        document = self.task_dict[task][split][doc_id]  # type: ignore[attr-defined]
        visuals = [visual for visual in doc_to_visual(document) or () if visual is not None]
        return make_query(context, images=visuals)

    def _ask(self, queries: list[Any], settings: dict[str, Any]) -> list[str]:
        from tasm.answer import ask_all, zero_shot_answers

        backbone = self._model.backbone
        new_tokens = int(settings.get("max_new_tokens") or DEFAULT_NEW_TOKENS)
        if self._memory is None:
            found = zero_shot_answers(backbone, queries, max_new_tokens=new_tokens)
        else:
            size = self._batch_size
            found = ask_all(
                backbone, self._memory, queries, batch_size=size, max_new_tokens=new_tokens
            )
        return [answer.text for answer in found]


def _batches(requests: Sequence[Any], size: int) -> Iterator[list[Any]]:
    """Runs of at most `size` neighbours that share their generation settings."""
    for _, group in groupby(requests, key=lambda request: request.args[1]):
        same = list(group)
        yield from (same[start : start + size] for start in range(0, len(same), size))


def _until(text: str, stops: str | Sequence[str] | None) -> str:
    for stop in [stops] if isinstance(stops, str) else stops or ():
        text = text.split(stop)[0] if stop else text
    return text.strip()
