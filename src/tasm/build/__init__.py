"""Offline: demonstrations in, a task memory out.

`tasm.build` is this room and, called, the function that builds (`tasm.build.api.build`). Recipes
are found without importing torch.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasm.build.api import build as build


class _CallableRoom(ModuleType):
    """`tasm.build(...)` builds a memory, and `tasm.build` is also this room."""

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        from tasm.build.api import build

        return build(*arguments, **settings)


sys.modules[__name__].__class__ = _CallableRoom
