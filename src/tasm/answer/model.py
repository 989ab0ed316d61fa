"""`tasm.Model`: a frozen model that answers from task memories.

It joins a backbone with the ways to ask it. It knows neither files nor recipes.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from tasm.answer.ask import ask_all, check_memory
from tasm.answer.result import Answer
from tasm.demonstrations import Query, make_query

if TYPE_CHECKING:
    from torch import Tensor

    from tasm.backbone.model import Backbone
    from tasm.memory import TaskMemory

GateKind = Literal["js", "always", "never"]


class Model:
    """A loaded vision-language model with its processor; make one with `load_model` or `wrap`.

    ```python
    model = tasm.load_model("Qwen/Qwen2.5-VL-7B-Instruct")
    answer = model.ask(memory, images=["x.png"], question="Which bird is this?")
    ```

    Attributes: `hf` is the transformers model, `processor` its processor, `backbone` what the lower
    rooms work with.
    """

    def __init__(self, backbone: "Backbone") -> None:
        self.backbone = backbone

    @property
    def hf(self) -> Any:
        """The transformers model: `model.hf.generate(**inputs, past_key_values=memory.cache())`."""
        return self.backbone.hf

    @property
    def processor(self) -> Any:
        """The model's processor."""
        return self.backbone.processor

    @property
    def name(self) -> str:
        """The name or folder that the model was loaded from."""
        return self.backbone.name

    def ask(
        self,
        memory: "TaskMemory",
        *,
        question: str,
        images: Sequence[Any] = (),
        explain: bool = False,
        gate: GateKind | None = None,
        epsilon: float | Literal["calibrated"] | None = None,
        max_new_tokens: int | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Answer:
        """Answer one question from a memory, greedily.

        `images` are paths or PIL images; `<image>` in the question says where one stands, otherwise
        images come first. `explain` adds the share of each demonstration. `gate` and `epsilon`
        override the memory's own; `on_text` receives the answer's text piece by piece.
        `max_new_tokens` defaults to twice the longest demonstration answer and a little more.

        ```python
        answer = model.ask(memory, images=["x.png"], question="Which bird is this?", explain=True)
        print(answer.text, answer.demonstrations[0].id)
        ```

        Raises `MismatchError` for another model's memory and `InputError` for an image that cannot
        be read or a query that passes the positions the model was trained for.
        """
        query = make_query(question, images=images)
        return ask_all(
            self.backbone,
            memory,
            [query],
            explain=explain,
            gate=gate,
            epsilon=epsilon,
            max_new_tokens=max_new_tokens,
            on_text=on_text,
        )[0]

    def ask_all(
        self, memory: "TaskMemory", queries: Sequence[Query], **settings: Any
    ) -> list[Answer]:
        """Answer many queries in batches; the settings are those of `tasm.answer.ask_all`.

        ```python
        answers = model.ask_all(memory, tasm.read_queries("queries.jsonl"), batch_size=16)
        ```
        """
        return ask_all(self.backbone, memory, queries, **settings)

    def inputs(
        self, memory: "TaskMemory", *, question: str, images: Sequence[Any] = ()
    ) -> "dict[str, Tensor]":
        """Return a query's own tokens in this memory's layout, for plain transformers.

        ```python
        inputs = model.inputs(memory, images=["x.png"], question="Which bird is this?")
        output = model.hf.generate(**inputs, past_key_values=memory.cache())
        ```

        Raises what `ask` raises.
        """
        check_memory(self.backbone, memory)
        query = make_query(question, images=images)
        return self.backbone.query_inputs([query], layout=memory.layout)


def load_model(name: str, *, dtype: str = "auto", device: str = "auto") -> Model:
    """Load a model folder, a hub name, or `"reference"` for the model that comes with tasm.

    `dtype` is `"auto"` (float32 on a CPU, otherwise the checkpoint's), `"float32"`, `"float16"` or
    `"bfloat16"`; `device` is `"auto"`, `"cpu"`, `"cuda"` and so on.

    ```python
    model = tasm.load_model("reference")
    ```

    Raises `ModelError` where there is no such model, no processor, or the family cannot be used.
    """
    from tasm.backbone.loading import load_backbone

    return Model(load_backbone(name, dtype=dtype, device=device))


def wrap(hf: Any, processor: Any) -> Model:
    """Wrap a transformers model and its processor that are loaded already.

    The text model's attention becomes one that reads memories; without a memory it computes what
    it computed before.

    ```python
    model = tasm.wrap(hf_model, processor)
    ```

    Raises `ModelError` where the model's family cannot be used.
    """
    from tasm.backbone.loading import wrap_backbone

    return Model(wrap_backbone(hf, processor))
