"""From nothing to the shipped weights: python -m training.train.

Five stages, each resumable: the tower learns to see; the decoder learns to bind, then to find;
the other tasks join; everything learns together; and once more, longer, on what is hard.
Options give other weights of the same kind: another shape, seed, choice of tasks or guidance.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from training import decoder, net, tower
from training import tokenizer as tokens
from training.curriculum import COURSES, PHASES, Phase
from training.curves import plot
from training.evaluate import load as load_folder
from training.export import export
from training.guidance import GUIDANCE

MINUTES = {"tower": 14.0, "decoder": 30.0, "tasks": 25.0, "joint": 40.0, "sharpen": 85.0}
ROWS = 1024  # of the embedding: the vocabulary, rounded up


def load(model: Any, folder: Path, stage: str) -> None:
    """What a finished stage left."""
    state = torch.load(folder / f"{stage}.pt", weights_only=True)["modules"]
    if stage == "tower":
        model.model.visual.load_state_dict(state["visual"])
    else:
        model.load_state_dict(state["model"])
        model.tie_weights()


def fresh(given: argparse.Namespace, stage: str) -> Any:
    """The model before a stage's first step: as the stage before left it."""
    torch.manual_seed(given.seed)
    model, every = net.build(ROWS, tokens.special_ids(), shape_of(given)), list(MINUTES)
    if stage == "decoder" and given.tower:
        seeing = load_folder(given.tower).model.visual.state_dict()
        model.model.visual.load_state_dict(seeing)
    elif stage != every[0]:
        load(model, given.out, every[every.index(stage) - 1])
    return model


def shape_of(given: argparse.Namespace) -> net.Shape:
    """The decoder's shape that was asked for."""
    return net.Shape(given.layers, given.heads, given.kv_heads, given.mlp)


def phase_of(given: argparse.Namespace, stage: str) -> Phase:
    """A stage's phase, with what was asked for otherwise."""
    phase = PHASES[stage]
    if given.suites:
        shares = {name: share or phase.shares[name] for name, share in given.suites.items()}
        phase = replace(phase, shares=shares)
    if given.fades is not None:
        phase = replace(phase, fades=given.fades)
    return replace(phase, tower=False) if given.tower else phase


def run(given: argparse.Namespace, stages: list[str]) -> None:
    """Each stage starts from the one before it."""
    for stage in stages:
        model = fresh(given, stage)
        minutes = given.minutes if given.minutes is not None else MINUTES[stage]
        if stage == "tower":
            tower.train(model, given.out, minutes, seed=given.seed)
        else:
            decoder.train(
                model,
                given.out,
                stage,
                minutes,
                given.seed + 1,
                given.tokens,
                phase_of(given, stage),
                GUIDANCE[given.guidance](shape_of(given), given.seed),
            )
    load(model, given.out, stages[-1])
    if stages[-1] != "tower":
        export(model, given.out / "model")
    plot(given.out / "curves.csv", given.out / "curves.png")
    print(f"weights: {given.out / 'model'}, curves: {given.out / 'curves.png'}")


def _shares(text: str) -> dict[str, float | None]:
    """Task by task, how often it comes; None for as often as the stage has it."""
    pairs = [part.partition("=") for part in text.split(",")]
    return {name: float(share) if share else None for name, _, share in pairs}


def parse(arguments: list[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """What was asked for, and the stages to run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/reference"))
    parser.add_argument("--stage", choices=list(MINUTES), help="one stage only")
    parser.add_argument("--minutes", type=float, help="for each stage that is run")
    parser.add_argument("--tokens", type=int, default=2600, help="context tokens in a step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layers", type=int, default=net.BUNDLED.layers)
    parser.add_argument("--heads", type=int, default=net.BUNDLED.heads)
    parser.add_argument("--kv-heads", type=int, default=net.BUNDLED.kv_heads)
    parser.add_argument("--mlp", type=int, default=net.BUNDLED.mlp)
    parser.add_argument("--suites", type=_shares, help="these tasks only: NAME or NAME=SHARE, …")
    parser.add_argument("--guidance", choices=list(GUIDANCE), default="pinned")
    parser.add_argument("--fades", type=float, help="when guidance ends, as a share of a stage")
    parser.add_argument("--tower", type=Path, help="weights whose tower is used, frozen")
    given = parser.parse_args(arguments)
    stages = (
        [given.stage] if given.stage else [s for s in MINUTES if s != "tower" or not given.tower]
    )
    for name in given.suites or ():
        if name not in COURSES:
            parser.error(f"--suites: {name!r} is not one of {', '.join(COURSES)}")
    if net.WIDTH % given.heads or given.heads % given.kv_heads or net.WIDTH // given.heads < 32:
        parser.error(
            f"--heads {given.heads} --kv-heads {given.kv_heads}: heads must divide {net.WIDTH} "
            "into at least 32 channels each, and KV heads must divide heads"
        )
    if given.guidance != "spread" and (
        given.kv_heads < 2 or given.heads < 2 * given.kv_heads or given.layers < 5
    ):
        parser.error(
            f"--guidance {given.guidance} names two heads of two groups in four layers: choose at "
            "least 5 layers, 2 KV heads and twice as many heads, or --guidance spread"
        )
    if given.layers < 4:
        parser.error(f"--layers {given.layers}: the aids read between layers; expected 4 or more")
    old = [s for s in stages if (given.out / f"{s}.pt").exists()]
    if old and not given.resume:
        parser.error(
            f"{given.out} holds {', '.join(old)}: --resume goes on, or choose another --out"
        )
    return given, stages


def main() -> None:
    """The command line."""
    given, stages = parse()
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    run(given, stages)


if __name__ == "__main__":
    main()
