"""What a vision adapter is made for and of: sizes and kind. Knows no tensors."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from tasm.errors import FormatError

Kind = Literal["mema", "plain"]


@dataclass(frozen=True)
class AdapterSettings:
    """The sizes of a vision adapter.

    `kind` is "mema", or "plain" for the control without a memory; `width` is the tower's,
    `text_width` that of the language model's embeddings; `has_class_token` says whether the tower
    has a token of its own for the whole picture; `question_free` leaves the question out;
    `reduction` is how much narrower the update's hidden layer is.

    ```python
    AdapterSettings(width=1024, text_width=4096, has_class_token=True)      # CLIP-L in LLaVA-1.5
    ```
    """

    width: int
    text_width: int
    has_class_token: bool
    kind: Kind = "mema"
    question_free: bool = False
    reduction: int = 4

    @property
    def views(self) -> int:
        """How many pooled vectors describe a layer: mean and maximum, and the class token's where
        there is one."""
        return 3 if self.has_class_token else 2

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Any, where: str) -> "AdapterSettings":
        """Read what `to_json` wrote; raises `FormatError`, which names `where`, on anything
        else."""
        known = {field.name: field.type for field in fields(cls)}
        if not isinstance(document, Mapping) or set(document) != set(known):
            seen = sorted(document) if isinstance(document, Mapping) else type(document).__name__
            raise FormatError(
                f"{where}: the adapter's settings are {seen}; expected {sorted(known)}. Was it "
                "written by a newer tasm?"
            )
        for name, kind in known.items():
            value = document[name]
            fine = type(value) is kind and (kind is not int or value > 0)
            if name == "kind":
                fine = value in get_args(Kind)
            if not fine:
                raise FormatError(f"{where}: {name!r} is {value!r}, which no adapter has.")
        return cls(**document)
