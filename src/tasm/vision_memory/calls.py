"""What an adapter at work remembers between the hooks of one call, a thread each."""

import threading
from dataclasses import dataclass, field

from torch import Tensor

from tasm.backbone.prompt.questions import AskedImage
from tasm.vision_memory.grouping import Grouping


@dataclass(eq=False)
class Pass:
    """One pass of a tower over the images it was given."""

    grouping: Grouping
    memory: Tensor
    question: Tensor | None


@dataclass(eq=False)
class State:
    """What one thread's calls know: the pictures of the running prompt (None where no prompt runs,
    or an unknown one), those that `asking` said, the pass under way, and the last memories where
    somebody listens."""

    pictures: list[AskedImage] | None = None
    said: list[AskedImage] | None = None
    running: Pass | None = None
    heard: list[Tensor] | None = None
    prompts: int = 0


@dataclass(eq=False)
class States:
    """One `State` a thread; a copy starts anew."""

    local: threading.local = field(default_factory=threading.local)

    def __deepcopy__(self, memo: object) -> "States":
        return States()

    @property
    def here(self) -> State:
        if not hasattr(self.local, "state"):
            self.local.state = State()
        return self.local.state  # type: ignore[no-any-return]
