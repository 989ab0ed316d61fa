"""What the speed rows share: one model, its stock twin, demonstrations and memories made once."""

from functools import cached_property
from typing import Any

import torch

from tasm.backbone.loading import load_backbone
from tasm.backbone.prompt.transcript import Transcript
from tasm.bench.speed.subjects import noise_demonstrations, stock_twin
from tasm.compress.api import build
from tasm.demonstrations import Demonstration

DEMONSTRATIONS = 24
"""About three thousand tokens with 64 a picture."""

FEW = 24
"""About three thousand tokens: more than core, bank and a chunk of a growth row hold."""

GROWTH = 10
CORE, BANK = "512", "1024"


class Bench:
    """A model under test and what is built on it, each thing once and only when asked for.

    ```python
    bench = Bench("random:qwen2_vl-0.15b")
    bench.memory.core_bytes
    ```
    """

    def __init__(self, model: str, *, dtype: str = "auto", device: str = "auto") -> None:
        self.model = model
        self.dtype = dtype
        self.backbone: Any = load_backbone(model, dtype=dtype, device=device)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return torch.device(self.backbone.device)

    @cached_property
    def stock(self) -> Any:
        """The same model with transformers' own attention, to encode with a stock cache."""
        return stock_twin(self.backbone)

    @cached_property
    def demonstrations(self) -> list[Demonstration]:
        """The demonstrations of every row that does not grow them."""
        return noise_demonstrations(DEMONSTRATIONS)

    @cached_property
    def transcript(self) -> Transcript:
        """The same as tokens."""
        return self.backbone.transcript(self.demonstrations)

    @cached_property
    def memory(self) -> Any:
        """The default memory: core 20 %, bank 40 %, joint."""
        return self.build()

    @cached_property
    def small(self) -> Any:
        """A streaming memory of fixed size."""
        return self.build_streaming(noise_demonstrations(FEW))

    @cached_property
    def grown(self) -> Any:
        """A streaming memory of the same size from ten times the demonstrations."""
        return self.build_streaming(noise_demonstrations(GROWTH * FEW))

    def build(self) -> Any:
        """Build the default memory anew."""
        return build(self.backbone, self.demonstrations)

    def build_streaming(self, demonstrations: list[Demonstration]) -> Any:
        """Build a memory of fixed core and bank, chunk after chunk."""
        return build(self.backbone, demonstrations, core=CORE, bank=BANK, mode="streaming")
