"""A scorer that wants the tokens of one role: what `tasm bench accuracy --cards` keeps."""

from dataclasses import dataclass

from torch import Tensor

from tasm.backbone.prompt.transcript import Role
from tasm.compress.evidence import Evidence
from tasm.compress.parts.base import Scorer


@dataclass(frozen=True)
class OneRole(Scorer):
    """Scores tokens of `role` (a name of `tasm.backbone.prompt.transcript.Role`) 1, all others 0.

    ```python
    OneRole("ANSWER").score(evidence)      # (kv_heads, entries) float32
    ```
    """

    role: str

    def score(self, evidence: Evidence) -> Tensor:
        """Return (kv_heads, entries) float32."""
        return (evidence.roles == int(Role[self.role])).float()
