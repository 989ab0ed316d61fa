"""A loaded model for other processes: its place, not its weights.

Spawned workers, data loaders and Ray pickle what they are given. A model that was loaded by folder
or name is opened again where it arrives, and must be the same; weights themselves never travel.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasm.backbone.checkpoint.identity import Identity
from tasm.errors import InputError, MismatchError

if TYPE_CHECKING:
    from tasm.backbone.model import Backbone


def reduced(backbone: "Backbone") -> tuple[Any, tuple[Any, ...]]:
    """Return what `pickle` writes of a backbone.

    ```python
    pickle.loads(pickle.dumps(model))      # loads the model again
    ```

    Raises `InputError` for a wrapped model, and for one that was changed after loading.
    """
    if not backbone.opened_by_name:
        raise InputError(
            f"The model {backbone.name!r} was wrapped, so it cannot be pickled: only its weights "
            "say what it is. In the other process load or wrap it there, or load it with "
            "tasm.load_model(folder), which pickles as the folder."
        )
    if backbone.is_changed:
        raise InputError(
            f"The model {backbone.name!r} was changed after loading, so it cannot be pickled as "
            "the place it came from. Save it (model.hf.save_pretrained(folder), "
            "model.processor.save_pretrained(folder)) and load that folder."
        )
    place = Path(backbone.name).expanduser()
    name = str(place.resolve()) if place.is_dir() else backbone.name
    dtype = str(backbone.dtype).removeprefix("torch.")
    return _opened_again, (name, dtype, str(backbone.device), backbone.identity.to_json())


def _opened_again(name: str, dtype: str, device: str, parts: dict[str, str]) -> "Backbone":
    from tasm.backbone.loading import load_backbone

    backbone = load_backbone(name, dtype=dtype, device=device)
    here = backbone.identity
    differences = Identity.from_json(parts, dict(here.environment)).differences(here)
    if differences:
        raise MismatchError(
            f"The model {name!r} is another one here than where it was pickled: "
            f"{'; '.join(differences)}. Give both processes the same checkpoint."
        )
    return backbone
