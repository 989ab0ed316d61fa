"""A training's folder: where one may begin, and a training under way as one file that is replaced
whole, so that it can be gone on with.

The file holds the adapter, AdamW's moments and the figures so far; no pickle.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as tensor_bytes
from torch import Tensor, nn

from tasm.errors import DamageError, InputError
from tasm.files import naming_work, write_bytes
from tasm.vision_memory.saving import CONFIG, WEIGHTS

CHECKPOINT, CURVES = "checkpoint.safetensors", "curves.csv"
MADE = (CONFIG, WEIGHTS, CHECKPOINT, CURVES)
"""What a training writes into its folder."""
_MOMENTS = ("exp_avg", "exp_avg_sq")


def check_trainable(out: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that a training cannot write to.

    Raises `InputError` where it holds something else, or an adapter or a training that may be
    neither replaced nor gone on with.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out} is a file; expected a folder, or a name that is free.")
    there = {path.name for path in out.iterdir()}
    others = sorted(there - set(MADE))
    if others:
        raise InputError(
            f"{out} also holds {others[0]}, which no training wrote, so it is not written to. Give "
            "another --out."
        )
    if resume or overwrite or not there:
        return
    if CHECKPOINT in there:
        raise InputError(
            f"{out} holds a training that has not ended. Go on with it: --resume; or begin anew: "
            "--overwrite."
        )
    raise InputError(f"{out} exists. Give another --out, or replace it: --overwrite.")


def save_checkpoint(
    folder: Path,
    adapter: nn.Module,
    optimiser: torch.optim.AdamW,
    *,
    settings: Mapping[str, Any],
    steps: int,
    curve: list[dict[str, float]],
) -> None:
    """Write what going on needs; what was there before is replaced whole."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in adapter.named_parameters():
        tensors[f"adapter.{name}"] = parameter.detach().cpu().contiguous()
        for moment in _MOMENTS:
            tensors[f"{moment}.{name}"] = optimiser.state[parameter][moment].cpu().contiguous()
    about = {"settings": dict(settings), "steps": steps, "curve": curve}
    data = tensor_bytes(tensors, metadata={"about": json.dumps(about)})
    with naming_work(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / CHECKPOINT, data)


def load_checkpoint(
    folder: Path,
    adapter: nn.Module,
    optimiser: torch.optim.AdamW,
    settings: Mapping[str, Any],
) -> tuple[int, list[dict[str, float]]]:
    """Put adapter and optimiser where they were; returns the steps done and their figures.

    Raises `InputError` where there is no checkpoint, or one of another training.
    """
    place = folder / CHECKPOINT
    if not place.is_file():
        raise InputError(
            f"{folder} holds no training to go on with: it has no {CHECKPOINT}. Leave --resume out."
        )
    try:
        with safe_open(place, "pt") as file:
            about = json.loads((file.metadata() or {})["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise DamageError(f"{place} is damaged: {error}. Train anew: --overwrite.") from error
    wanted = json.loads(json.dumps(dict(settings)))
    differing = sorted(n for n in wanted if about["settings"].get(n) != wanted[n])
    if differing:
        raise InputError(
            f"{place} is of another training: {', '.join(differing)} differ. Give what it was "
            "begun with, or begin anew: --overwrite."
        )
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            parameter.copy_(tensors[f"adapter.{name}"])
            optimiser.state[parameter] = {
                "step": torch.tensor(float(about["steps"])),
                **{moment: tensors[f"{moment}.{name}"].to(parameter.device) for moment in _MOMENTS},
            }
    return int(about["steps"]), list(about["curve"])
