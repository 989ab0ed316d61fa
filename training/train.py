"""From nothing to the shipped weights: python -m training.train.

Five stages, each resumable: the tower learns to see; the decoder learns to bind, then to find;
the other tasks join; everything learns together; and once more, longer, on what is hard.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from training import decoder, net, tower
from training import tokenizer as tokens
from training.curves import plot
from training.export import export

MINUTES = {"tower": 14.0, "decoder": 30.0, "tasks": 25.0, "joint": 40.0, "sharpen": 85.0}
ROWS = 1024  # of the embedding: the vocabulary, rounded up
SEED = 0


def fresh() -> Any:
    """The model before its first step."""
    torch.manual_seed(SEED)
    return net.build(ROWS, tokens.special_ids())


def load(model: Any, folder: Path, stage: str) -> None:
    """What a finished stage left."""
    state = torch.load(folder / f"{stage}.pt", weights_only=True)["modules"]
    if stage == "tower":
        model.model.visual.load_state_dict(state["visual"])
    else:
        model.load_state_dict(state["model"])
        model.tie_weights()


def run(folder: Path, stages: list[str], minutes: dict[str, float], budget: int) -> None:
    """Each stage starts from the one before it."""
    every = list(MINUTES)
    for stage in stages:
        model = fresh()
        if stage != every[0]:
            load(model, folder, every[every.index(stage) - 1])
        if stage == "tower":
            tower.train(model, folder, minutes[stage], seed=SEED)
        else:
            decoder.train(model, folder, stage, minutes[stage], SEED + 1, budget)
    load(model, folder, stages[-1])
    if stages[-1] != "tower":
        export(model, folder / "model")
    plot(folder / "curves.csv", folder / "curves.png")
    print(f"weights: {folder / 'model'}, curves: {folder / 'curves.png'}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/reference"))
    parser.add_argument("--stage", choices=list(MINUTES), help="one stage only")
    parser.add_argument("--minutes", type=float, help="for each stage that is run")
    parser.add_argument("--tokens", type=int, default=2600, help="context tokens in a step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    stages = [given.stage] if given.stage else list(MINUTES)
    old = [s for s in stages if (given.out / f"{s}.pt").exists()]
    if old and not given.resume:
        parser.error(
            f"{given.out} holds {', '.join(old)}: --resume goes on, or choose another --out"
        )
    given.out.mkdir(parents=True, exist_ok=True)
    minutes = {s: given.minutes if given.minutes is not None else MINUTES[s] for s in stages}
    run(given.out, stages, minutes, given.tokens)


if __name__ == "__main__":
    main()
