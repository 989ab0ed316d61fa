"""What the speed rows share: one model, its stock twin, demonstrations and memories made once."""

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from tasm.backbone.loading import load_backbone
from tasm.backbone.prompt.transcript import Transcript
from tasm.bench.speed.subjects import noise_demonstrations, stock_twin
from tasm.compress.api import build
from tasm.demonstrations import Demonstration
from tasm.memory import TaskMemory


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    | field | |
    |---|---|
    | `demonstrations` | of the rows that do not grow them |
    | `few`, `growth` | of the growth rows: more than core, bank and a chunk hold, and times what |
    | `core`, `bank`, `chunk_tokens` | of the growth rows' streaming builds |
    | `tokens` | of the decoding rows that do not name a number |
    | `rounds` | that both sides of a ratio take in turn, at most |
    | `starts` | rounds of whole processes |
    | `seconds` | after which a row begins no further round |
    | `long_words` | that a demonstration of the counted builds has more: 30 make 257 tokens |
    """

    demonstrations: int = 12
    few: int = 16
    growth: int = 10
    core: str = "512"
    bank: str = "1024"
    chunk_tokens: int = 512
    tokens: int = 4096
    rounds: int = 15
    starts: int = 3
    seconds: float = 4.0
    long_words: int = 30


FULL = Scale()
"""A few minutes on two cores with a model of 150 million parameters."""

QUICK = Scale(
    demonstrations=3,
    few=4,
    core="64",
    bank="128",
    tokens=256,
    rounds=1,
    starts=1,
    seconds=0.0,
    long_words=0,
)
"""Every row once: whether it runs, not what it costs."""


class Bench:
    """A model under test and what is built on it, each thing once and only when asked for.

    ```python
    bench = Bench("random:qwen2_vl-0.15b")
    bench.memory.core_bytes
    ```
    """

    def __init__(
        self, model: str, *, dtype: str = "auto", device: str = "auto", scale: Scale = FULL
    ) -> None:
        self.model = model
        self.dtype = dtype
        self.scale = scale
        self.backbone: Any = load_backbone(model, dtype=dtype, device=device)

        self.counted_builds: dict[tuple[str, int], Any] = {}

    @cached_property
    def shallow(self) -> Any:
        """A small model of few layers, for counting what builds hold and dispatch."""
        return load_backbone("random:qwen2_vl-shallow", dtype="float32", device="cpu")

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
        return noise_demonstrations(self.scale.demonstrations)

    @cached_property
    def transcript(self) -> Transcript:
        """The same as tokens."""
        return self.backbone.transcript(self.demonstrations)

    @cached_property
    def memory(self) -> Any:
        """The memory of `tasm`: core 20 %, bank 40 %, joint."""
        return self.build()

    @cached_property
    def saved(self) -> Path:
        """The folder of a memory that holds every token, core 60 % and bank 40 %."""
        folder = self.folder / "saved.tasm"
        build(self.backbone, self.demonstrations, recipe="tasm", core="60%", bank="40%").save(
            folder
        )
        return folder

    def streamed(self, name: str) -> Any:
        """Return a streaming memory of fixed size, "small" or "grown": of more demonstrations.

        Measuring its peak has built and saved it already, if that row came first.
        """
        folder = self.folder / f"{name}.tasm"
        if not folder.exists():
            self.build_streaming(noise_demonstrations(self.count(name))).save(folder)
        return TaskMemory.load(folder)

    def count(self, name: str) -> int:
        """Return how many demonstrations "small" or "grown" has."""
        return self.scale.few * (self.scale.growth if name == "grown" else 1)

    @cached_property
    def folder(self) -> Path:
        """A folder that lives as long as the bench."""
        self._parent = tempfile.TemporaryDirectory(prefix="tasm-speed-")
        return Path(self._parent.name)

    def build(self, recipe: str = "tasm", demonstrations: int | None = None) -> Any:
        """Build a memory of the first `demonstrations` anew, by default `tasm` of all."""
        return build(self.backbone, self.demonstrations[:demonstrations], recipe=recipe)

    def build_streaming(self, demonstrations: list[Demonstration]) -> Any:
        """Build a memory of fixed core and bank, chunk after chunk."""
        return build(
            self.backbone,
            demonstrations,
            recipe="tasm",
            core=self.scale.core,
            bank=self.scale.bank,
            mode="streaming",
            chunk_tokens=self.scale.chunk_tokens,
        )
