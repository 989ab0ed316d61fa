"""A loaded model for other processes: its place, not its weights.

Spawned workers, data loaders and Ray pickle what they are given. A model that was loaded by folder
or name is opened again where it arrives, and must be the same; weights themselves never travel.
Knows names and hashes; nothing of how a model is opened.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tasm.backbone.checkpoint.identity import Identity
from tasm.errors import InputError, MismatchError

Reopen = Callable[[str, str, str, dict[str, str]], Any]
"""Opens a model by name, dtype and device, and holds it against the parts of an identity; a
function of a module, so that it can be pickled by its own name."""


def reduced(
    reopen: Reopen | None,
    name: str,
    dtype: torch.dtype,
    device: torch.device,
    identity: Callable[[], Identity],
    is_changed: Callable[[], bool],
) -> tuple[Any, ...]:
    """Return what `pickle` writes of a model; `reopen` is None for one that was wrapped.

    ```python
    pickle.loads(pickle.dumps(model))      # loads the model again
    ```

    Raises `InputError` for a wrapped model, and for one that was changed after loading.
    """
    if reopen is None:
        raise InputError(
            f"The model {name!r} was wrapped, so it cannot be pickled: only its weights say "
            "what it is. In the other process load or wrap it there, or load it with "
            "tasm.load_model(folder), which pickles as the folder."
        )
    if is_changed():
        raise InputError(
            f"The model {name!r} was changed after loading, so it cannot be pickled as the "
            "place it came from. Save it (model.hf.save_pretrained(folder), "
            "model.processor.save_pretrained(folder)) and load that folder."
        )
    place = Path(name).expanduser()
    found = str(place.resolve()) if place.is_dir() else name
    return reopen, (found, str(dtype).removeprefix("torch."), str(device), identity().to_json())


def check_arrived(name: str, parts: dict[str, str], here: Identity) -> None:
    """Raise `MismatchError` where the model opened `here` is not the one that was pickled."""
    differences = Identity.from_json(parts, dict(here.environment)).differences(here)
    if differences:
        raise MismatchError(
            f"The model {name!r} is another one here than where it was pickled: "
            f"{'; '.join(differences)}. Give both processes the same checkpoint."
        )
