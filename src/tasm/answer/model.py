"""`tasm.Model`: a frozen model that answers from task memories.

It joins a backbone with the ways to ask it. It knows neither files nor recipes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from torch import Tensor, device, dtype

from tasm.answer.ask import Settings, ask_all
from tasm.answer.given import as_memory, as_query
from tasm.answer.result import Answer
from tasm.backbone.hugging_face import HfModel, HfProcessor
from tasm.backbone.loading import load_backbone, wrap_backbone
from tasm.backbone.model import Backbone
from tasm.errors import did_you_mean
from tasm.memory import TaskMemory
from tasm.memory.showing import bytes_text, html_table

if TYPE_CHECKING:
    from tasm.vision_memory.attached import VisionMemory


class Model:
    """A loaded vision-language model with its processor; make one with `load_model` or `wrap`.

    ```python
    model = tasm.load_model("Qwen/Qwen2.5-VL-7B-Instruct")
    answer = model.ask(memory, images=["x.png"], question="Which bird is this?")
    ```

    Attributes: `hf` is the transformers model, `processor` its processor, `backbone` what the lower
    rooms work with.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone

    @property
    def hf(self) -> HfModel:
        """The transformers model: `model.hf.generate(**inputs, past_key_values=memory.cache())`."""
        return self.backbone.hf

    @property
    def processor(self) -> HfProcessor:
        """The model's processor."""
        return self.backbone.processor

    @property
    def name(self) -> str:
        """The name or folder that the model was loaded from."""
        return self.backbone.name

    @property
    def vision_memory(self) -> "VisionMemory | None":
        """The vision memory in the model's tower; None where there is none."""
        part: Any = self.backbone.vision
        return part  # type: ignore[no-any-return]

    def attach_vision_memory(self, place: str | Path) -> "VisionMemory":
        """Put a trained vision memory (Mema) into the model's tower, from its folder.

        ```python
        vision = model.attach_vision_memory("birds-mema")
        vision.remove()                 # the model is what it was
        ```

        Raises `MismatchError` where it was trained on another model, and `InputError` where there
        is none at that place or another one is on.
        """
        from tasm.vision_memory.saving import attach_vision_memory

        return attach_vision_memory(self.backbone, place)

    def __repr__(self) -> str:
        facts = dict(self._facts())
        return (
            f"<Model {facts['Name']}: {facts['Class']}, {facts['Parameters']}, {facts['Runs in']}>"
        )

    def _facts(self) -> list[tuple[str, str]]:
        """Names and values of what a person wants to know; hashes no weights."""
        backbone = self.backbone
        parameters = sum(parameter.numel() for parameter in backbone.hf.parameters())
        size = sum(parameter.nbytes for parameter in backbone.hf.parameters())
        longest = backbone.geometry.max_positions
        return [
            ("Name", self.name),
            ("Class", type(backbone.hf).__name__),
            ("Parameters", f"{parameters:,}, {bytes_text(size)}"),
            ("Runs in", f"{str(backbone.dtype).removeprefix('torch.')} on {backbone.device}"),
            ("Positions", "not said" if longest is None else f"{longest:,}"),
        ]

    def _repr_html_(self) -> str:
        return html_table("Model", self._facts())

    def ask(
        self,
        memory: TaskMemory | str | Path,
        *,
        question: str,
        images: Any = (),
        on_text: Callable[[str], None] | None = None,
        **settings: Unpack[Settings],
    ) -> Answer:
        """Answer one question from a memory, greedily.

        `memory` is a task memory or its folder, which is then opened at every call. `images` are
        paths, PIL images or arrays of pixels, one or a list; `<image>` in the question says where
        one stands, otherwise images come first. `explain` adds the share of each demonstration:
        True or "attention" as it was read, "ablation" masks each of them in turn, too.
        `gate` ("missing", "js", "entropy", "always", "never") and `epsilon` (nats) override the
        memory's own; `bank_on` ("auto", "device", "host") says where the bank is searched, as in
        `TaskMemory.cache`; `on_text` receives the answer's text piece by piece. `max_new_tokens`
        defaults to twice the longest demonstration answer and a little more. With `labels`
        (strings, or "demonstrations" for their own answers) the answer is one of them, and each
        has a probability in `answer.labels`; `calibration="contextual"` takes away what the model
        says to a grey picture (without pictures, to the text "N/A").

        ```python
        answer = model.ask(memory, images=["x.png"], question="Which bird is this?", explain=True)
        print(answer.text, answer.nearest(3))
        ```

        Raises `MismatchError` for another model's memory and `InputError` for an image that cannot
        be read or a query that passes the positions the model was trained for.
        """
        _check_names("ask", settings, _SETTINGS - {"batch_size"})
        query = as_query(question, images)
        return ask_all(self.backbone, memory, [query], on_text=on_text, **settings)[0]

    def ask_all(
        self,
        memory: TaskMemory | str | Path,
        queries: Any,
        *,
        on_text: Callable[[str], None] | None = None,
        progress: Callable[[str, int, int], None] | None = None,
        **settings: Unpack[Settings],
    ) -> list[Answer]:
        """Answer many queries in batches, greedily; one `Answer` each, in order.

        `queries` are a file, rows in Python (dicts, a generator, a DataFrame) or `Query`s,
        `batch_size` (8) of them asked together; `progress` is called with a stage's name, steps
        done and steps in all; the rest is as in `ask`.

        ```python
        for answer in model.ask_all("birds.tasm", "queries.jsonl", batch_size=16):
            print(answer.query.id, answer.expected, answer, answer.correct)
        ```
        """
        _check_names("ask_all", settings, _SETTINGS)
        return ask_all(
            self.backbone, memory, queries, on_text=on_text, progress=progress, **settings
        )

    def inputs(
        self, memory: TaskMemory | str | Path, *, question: str, images: Any = ()
    ) -> dict[str, Tensor]:
        """Return a query's own tokens in this memory's layout, for plain transformers.

        ```python
        inputs = model.inputs(memory, images=["x.png"], question="Which bird is this?")
        output = model.hf.generate(**inputs, past_key_values=memory.cache())
        ```

        Raises what `ask` raises.
        """
        query = as_query(question, images)
        memory = as_memory(memory)
        memory.check(self.backbone.identity)
        return self.backbone.query_inputs([query], layout=memory.layout)


_SETTINGS = frozenset(Settings.__annotations__)


def _check_names(function: str, settings: Settings, known: frozenset[str]) -> None:
    for name in settings:
        if name not in known:
            hint = did_you_mean(name, known)
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}.{hint}")


def load_model(
    name: str | Path,
    *,
    dtype: str | dtype = "auto",
    device: str | device = "auto",
    vision_memory: str | Path | None = None,
) -> Model:
    """Load a model folder, a hub name, or `"reference"` for the model that comes with tasm.

    `dtype` is `"auto"` (float32 on a CPU, otherwise the checkpoint's), `"float32"`, `"float16"` or
    `"bfloat16"`, or torch's own; `device` is `"auto"`, `"cpu"`, `"cuda"` and so on.
    `vision_memory` is the folder of one that was trained for this model.

    ```python
    model = tasm.load_model("reference")
    ```

    Raises `ModelError` where there is no such model, no processor, or the family cannot be used,
    and what `Model.attach_vision_memory` raises.
    """
    model = Model(load_backbone(name, dtype=dtype, device=device))
    if vision_memory is not None:
        model.attach_vision_memory(vision_memory)
    return model


def wrap(hf: Any, processor: Any) -> Model:
    """Wrap a transformers model and its processor that are loaded already.

    The text model's attention becomes one that reads memories; without a memory it computes what
    it computed before.

    ```python
    model = tasm.wrap(hf_model, processor)
    ```

    Raises `ModelError` where the model's family cannot be used.
    """
    return Model(wrap_backbone(hf, processor))
