"""The same number of tokens in every layer and head."""

from dataclasses import dataclass

from torch import Tensor

from tasm.compress.evidence import Stage
from tasm.compress.parts.base import Budget


@dataclass(frozen=True)
class Uniform(Budget):
    """Every layer and KV head keep `stage.tokens` tokens: TASM, SnapKV, H2O.

    ```python
    Uniform().allocate(stage)      # [tensor([512, 512]), tensor([512, 512]), …]
    ```
    """

    def allocate(self, stage: Stage) -> list[Tensor | None]:
        """Return (kv_heads,) counts by layer."""
        return [None if one is None else one.each_head(stage.tokens) for one in stage.evidence]
