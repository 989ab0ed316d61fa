"""Which calls of one model may run at the same time in several threads, and which take turns."""

import threading
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any
from weakref import WeakKeyDictionary

from tasm.backbone.geometry import position_rows
from tasm.backbone.hugging_face import HfModel

_LOCKS: WeakKeyDictionary[Any, threading.RLock] = WeakKeyDictionary()

# Versions before 5.2 record hidden states, which many a vision tower is asked for, by putting other
# `forward`s on the modules while a model runs: two threads would get each other's.
_RECORDS_BY_THREAD = find_spec("transformers.utils.output_capturing") is not None


def alone(core: HfModel, cache: object | None) -> AbstractContextManager[Any]:
    """Return a context for one prompt at a time where threads would disturb each other.

    That is on models that keep an ordinary prompt's positions on themselves (beside a memory the
    cache counts), and in older versions of transformers. `Backbone.run` takes its turn by itself.

    ```python
    with alone(backbone.core, cache):
        backbone.hf.generate(**inputs, past_key_values=cache)
    ```
    """
    keeps_positions = cache is None and position_rows(core.config) > 1
    if _RECORDS_BY_THREAD and not keeps_positions:
        return nullcontext()
    return _LOCKS.setdefault(core, threading.RLock())
