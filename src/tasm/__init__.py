"""Task memories for frozen vision-language models.

```python
import tasm

model = tasm.load_model("Qwen/Qwen2.5-VL-7B-Instruct")
memory = tasm.build(model, "birds.jsonl", core="20%")
answer = model.ask(memory, images=["x.png"], question="Which bird is this?")
```

This file holds the public names and nothing else. They are loaded when first used, so that
`import tasm` stays quick and does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tasm import errors
from tasm.errors import TasmError
from tasm.version import __version__

if TYPE_CHECKING:
    from tasm.answer import Answer, Model, load_model, wrap
    from tasm.backbone.checkpoint.families import models
    from tasm.check.rebuild import rebuild
    from tasm.check.verify import Verification, verify
    from tasm.compress.api import build
    from tasm.compress.changing import add, merge, remove
    from tasm.compress.plan import plan
    from tasm.compress.recipes.listing import recipes
    from tasm.demonstrations import (
        Demonstration,
        Picture,
        Query,
        make_query,
        read_demonstrations,
        read_queries,
    )
    from tasm.memory import TaskMemory, load
    from tasm.sizing import Tuned, tune

__all__ = [
    "Answer",
    "Demonstration",
    "Model",
    "Picture",
    "Query",
    "TaskMemory",
    "TasmError",
    "Tuned",
    "Verification",
    "__version__",
    "add",
    "build",
    "errors",
    "load",
    "load_model",
    "make_query",
    "merge",
    "models",
    "plan",
    "read_demonstrations",
    "read_queries",
    "rebuild",
    "recipes",
    "remove",
    "tune",
    "verify",
    "wrap",
]

# Where each public name lives.
_HOME = {
    "Answer": "tasm.answer",
    "Model": "tasm.answer",
    "load_model": "tasm.answer",
    "wrap": "tasm.answer",
    "build": "tasm.compress.api",
    "add": "tasm.compress.changing",
    "remove": "tasm.compress.changing",
    "merge": "tasm.compress.changing",
    "plan": "tasm.compress.plan",
    "recipes": "tasm.compress.recipes.listing",
    "models": "tasm.backbone.checkpoint.families",
    "Verification": "tasm.check.verify",
    "verify": "tasm.check.verify",
    "rebuild": "tasm.check.rebuild",
    "Tuned": "tasm.sizing",
    "tune": "tasm.sizing",
    "TaskMemory": "tasm.memory",
    "load": "tasm.memory",
    "Demonstration": "tasm.demonstrations",
    "Picture": "tasm.demonstrations",
    "Query": "tasm.demonstrations",
    "make_query": "tasm.demonstrations",
    "read_demonstrations": "tasm.demonstrations",
    "read_queries": "tasm.demonstrations",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'tasm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
