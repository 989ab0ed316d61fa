"""Suite cards: accuracy with all, none, or some of the demonstrations' tokens.

An answer is right when greedy decoding gives exactly its tokens and then stops, which is the
case exactly when each of them is the likeliest one after the right ones before it. So one pass
of the stock model over demonstrations and queries, each query blind to the others, settles all.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasm.backbone.loading import reference_folder
from tasm.suites import pictures
from tasm.suites.episodes import Episode
from tasm.suites.suites import PICTURED, episode, suite
from training import layout
from training.bank import patches
from training.curves import plot_shots
from training.layout import Batch

MODEL = reference_folder()
KEPT = ("full", "zero-shot", "shuffled labels", "random fifth", "answers only", "images only")


def shuffled(made: Episode, rng: Random) -> Episode:
    """The demonstrations' answers dealt out anew, and so are the tags before pictures."""
    turns = made.demonstrations
    tagged = isinstance(turns[0].parts[0], str)
    order = rng.sample(range(len(turns)), len(turns))
    dealt = []
    for turn, other in zip(turns, (turns[i] for i in order), strict=True):
        if tagged:
            turn = replace(turn, parts=(other.parts[0], *turn.parts[1:]))
        dealt.append(replace(turn, answer=other.answer))
    return Episode(dealt, made.queries)


def _asked(made: Episode) -> Batch:
    """One row: all demonstrations, then the queries side by side."""
    plain = [replace(t, weight=0.0, hints=[]) for t in made.demonstrations]
    return layout.batch([Episode(plain, [replace(t, weight=1.0, hints=[]) for t in made.queries])])


def _keep(batch: Batch, kept: str, rng: Random) -> Tensor:
    """Which demonstration tokens the queries may see."""
    ids, shown = batch.ids[0], batch.segments[0] == 0
    if kept == "zero-shot":
        return torch.zeros_like(shown)
    if kept == "images only":
        return shown & (ids == layout.table()["<|image_pad|>"])
    if kept == "answers only":
        inside, answer = torch.zeros_like(shown), False
        for i, token in enumerate(ids.tolist()):
            inside[i] = answer and token != layout.table()["<|end|>"]
            answer = (answer or token == layout.table()["<|answer|>"]) and (
                token != layout.table()["<|end|>"]
            )
        return shown & inside
    if kept == "random fifth":
        at = torch.nonzero(shown).flatten().tolist()
        chosen = torch.zeros_like(shown)
        chosen[rng.sample(at, len(at) // 5)] = True
        return chosen
    return shown


@torch.no_grad()
def right(model: Any, made: Episode, kept: tuple[str, ...], seed: int = 0) -> dict[str, list[bool]]:
    """For each way of keeping tokens, which queries are answered exactly."""
    found: dict[str, list[bool]] = {}
    rng = Random(seed)
    cache: dict[bool, tuple[Batch, Tensor]] = {}
    for name in kept:
        dealt = name == "shuffled labels"
        if dealt not in cache:
            batch = _asked(shuffled(made, rng) if dealt else made)
            cache[dealt] = batch, _embeds(model, batch)
        batch, embeds = cache[dealt]
        mask = batch.mask()[:, 0].float()
        hidden = (
            (batch.segments[0] > 0)[:, None] & (batch.segments[0] == 0) & ~_keep(batch, name, rng)
        )
        mask = mask.masked_fill(hidden, layout.HIDDEN).to(embeds.dtype)
        out = model.model.language_model(
            inputs_embeds=embeds,
            position_ids=batch.positions.long(),
            attention_mask=mask,
            use_cache=False,
        ).last_hidden_state
        logits = model.lm_head(out[batch.rows[:, 0], batch.rows[:, 1]])
        good = (logits.argmax(-1) == batch.targets).tolist()
        answers: list[bool] = []
        for ok, first in zip(good, batch.asked.tolist(), strict=True):
            if first:
                answers.append(ok)
            else:
                answers[-1] = answers[-1] and ok
        found[name] = answers
    return found


def _embeds(model: Any, batch: Batch) -> Tensor:
    embeds = model.model.language_model.embed_tokens(batch.ids)
    drawn = np.stack([np.asarray(pictures.draw(p)) for p in batch.pictures])
    image = torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 255
    patch = patches(image).to(embeds.dtype)
    grid = torch.tensor([[1, 8, 8]] * len(drawn))
    out = model.model.visual(patch.flatten(0, 1), grid_thw=grid)
    visual = getattr(out, "pooler_output", out)
    embeds[0, batch.ids[0] == layout.table()["<|image_pad|>"]] = visual
    return embeds  # type: ignore[no-any-return]


def card(
    model: Any,
    name: str,
    seeds: int = 10,
    queries: int = 40,
    kept: tuple[str, ...] = KEPT,
    first_seed: int = 0,
    **options: Any,
) -> dict[str, Any]:
    """Accuracy of a suite over seeds, with 95 % intervals that resample seeds."""
    every: dict[str, list[float]] = {k: [] for k in kept}
    for seed in range(first_seed, first_seed + seeds):
        made = episode(name, seed, queries=queries, **options)
        for key, answers in right(model, made, kept, seed).items():
            every[key].append(sum(answers) / len(answers))
    rng = np.random.default_rng(0)
    row: dict[str, Any] = {"suite": name, "seeds": seeds, "queries": queries, **options}
    for key, values in every.items():
        drawn = rng.choice(values, (2000, len(values))).mean(1)
        low, high = np.quantile(drawn, (0.025, 0.975))
        row[key] = {
            "accuracy": round(float(np.mean(values)), 4),
            "ci95": [round(float(low), 4), round(float(high), 4)],
        }
    return row


def load(folder: Path = MODEL) -> Any:
    """The stock model from a folder."""
    from transformers import Qwen2VLForConditionalGeneration

    return Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()


def table(rows: list[dict[str, Any]]) -> str:
    """The cards as a Markdown table."""
    kept = [k for k in KEPT if k in rows[0]]
    lines = ["| suite | " + " | ".join(kept) + " |", "|---" * (len(kept) + 1) + "|"]
    for row in rows:
        cells = [
            f"{row[k]['accuracy']:.2f} ({row[k]['ci95'][0]:.2f}–{row[k]['ci95'][1]:.2f})"
            for k in kept
        ]
        lines.append(f"| {row['suite']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def shots(model: Any, seeds: int, queries: int, out: Path) -> None:
    """Accuracy of bind, 8-way, with ever more demonstrations: shots.json and shots.png."""
    rows = [
        card(model, "bind", seeds, queries, ("full",), demonstrations=8 * each)
        for each in (1, 2, 3, 5)
    ]
    out.mkdir(parents=True, exist_ok=True)
    (out / "shots.json").write_text(json.dumps(rows, indent=1) + "\n")
    plot_shots([(row["demonstrations"], row["full"]) for row in rows], out / "shots.png")
    print(table([{**row, "suite": f"bind, {row['demonstrations']}"} for row in rows]))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--suites", default=",".join(PICTURED))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--kept", default=",".join(KEPT))
    parser.add_argument("--demonstrations", type=int)
    parser.add_argument("--ways", type=int)
    parser.add_argument("--font")
    parser.add_argument("--split", default="held-out")
    parser.add_argument("--out", type=Path, help="where NAME.json and NAME.md go")
    parser.add_argument("--name", default="cards")
    parser.add_argument("--shots", action="store_true", help="bind with 1, 2, 5 a class, plotted")
    given = parser.parse_args()
    options = {
        k: v
        for k in ("demonstrations", "ways", "font", "split")
        if (v := getattr(given, k)) is not None
    }
    model, rows = load(given.model), []
    if given.shots:
        shots(model, given.seeds, given.queries, given.out or Path("."))
        return
    for name in given.suites.split(","):
        suite(name)
        row = card(
            model,
            name,
            given.seeds,
            given.queries,
            tuple(given.kept.split(",")),
            given.first_seed,
            **options,
        )
        rows.append(row)
        print(table([row]).splitlines()[-1], flush=True)
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / f"{given.name}.json").write_text(json.dumps(rows, indent=1) + "\n")
        (given.out / f"{given.name}.md").write_text(table(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
