"""From a decoder's final states to what the model says: logits as the model makes them itself.

Families multiply, divide and cap the product with their output embeddings, each under names of
its own (`logit_scale`, `logits_scaling`, `lm_head_multiplier`). So the factor is measured on logits
that the model has just made, and a model that does anything else is refused. Knows tensors only.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tasm.errors import ModelError

_CLOSE = 0.02
"""The largest relative difference to the model's own logits; 16 bits round to a third of it."""


@dataclass(frozen=True)
class Head:
    """What is done to the product of final states and output embeddings.

    ```python
    head = Head.measured(product, output.logits, cap=30.0)
    head.logits(product)          # output.logits, float32
    ```
    """

    scale: float = 1.0
    cap: float | None = None

    @classmethod
    def measured(cls, product: Tensor, logits: Tensor, cap: float | None) -> "Head":
        """Measure the factor from `product` (rows, vocabulary) and the model's own `logits`.

        Raises ModelError where no factor makes one of the other.
        """
        own, product = logits.to(product.device).double(), product.double()
        before, used = own, torch.ones_like(own, dtype=torch.bool)
        if cap:
            used = own.abs() < 0.9 * cap  # beyond, rounding decides
            before = torch.atanh((own / cap).clamp(-0.9, 0.9)) * cap
        square = (product * product)[used].sum()
        scale = float((product * before)[used].sum() / square) if square else 1.0
        found = cls(1.0 if abs(scale - 1) < 1e-3 else scale, cap)
        if not torch.dist(found.logits(product), own) <= _CLOSE * own.norm():
            raise ModelError(
                "The model's logits are not its output embeddings' product with its last states, "
                f"scaled (by {scale:.4g} at best) or capped, so demonstrations cannot be read "
                "again. Take a recipe that reads them once, such as snapkv."
            )
        return found

    def logits(self, product: Tensor) -> Tensor:
        """Return the model's logits, in float32 at least, from the product of its output
        embeddings."""
        scaled = (product if product.dtype == torch.double else product.float()) * self.scale
        return torch.tanh(scaled / self.cap) * self.cap if self.cap else scaled
