"""From the second stage on: the decoder learns from contexts, then everything learns together."""

from __future__ import annotations

import time
from collections.abc import Callable, Container
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasm.suites import pictures
from tasm.suites.episodes import World
from tasm.suites.pictures import Picture
from training import layout, net
from training.bank import Bank, patches
from training.curriculum import COURSES, Phase, draw
from training.guidance import Guidance, Reading
from training.layout import Batch
from training.stages import Log, optimisers, restore, save

Paint = Callable[[list[Picture]], Tensor]


FACTS = {"colour": 12, "shape": 12, "place": 4, "count": 4, "lighter": 9, "darker": 9}
DECIDED = ("word", "ask")  # which tokens must know what the task turns on
AIDED = 0.8  # the aids end at this share of a stage


def paint_exactly(batch: list[Picture]) -> Tensor:
    """Pictures as the suites draw them."""
    drawn = [np.asarray(pictures.draw(p)) for p in batch]
    return torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).float() / 255


def embed(model: Any, batch: Batch, paint: Paint, frozen: bool) -> Tensor:
    """Word embeddings with the tower's tokens in their places."""
    embeds = model.model.language_model.embed_tokens(batch.ids)
    if not batch.pictures:
        return embeds  # type: ignore[no-any-return]
    patch = patches(paint(batch.pictures))
    with torch.set_grad_enabled(not frozen and torch.is_grad_enabled()):
        tokens = net.tower(model.model.visual, patch).float()
    flat = embeds.reshape(-1, net.WIDTH)
    first = batch.spots[:, 0] * batch.ids.shape[1] + batch.spots[:, 1]
    where = (first[:, None] + torch.arange(net.TOKENS)).flatten()
    return flat.index_copy(0, where, tokens.reshape(-1, net.WIDTH)).view_as(embeds)


def forward(
    model: Any, batch: Batch, paint: Paint, watch: tuple[int, ...] = (), frozen: bool = False
) -> tuple[Tensor, net.Pass]:
    """Logits at the targets, and the pass with the attention of the layers in `watch`."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embeds = embed(model, batch, paint, frozen)
        language = model.model.language_model
        out = net.decoder(language, embeds, batch.positions, batch.mask(), watch)
    states = out.states[batch.rows[:, 0], batch.rows[:, 1]].float()
    return states @ language.embed_tokens.weight.T, out


class Aids(nn.Module):
    """Passing aids: a question's end and its answer tell what the picture shows."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = nn.ModuleList(nn.Linear(net.WIDTH, net.WIDTH) for _ in range(2))
        self.facts = nn.ModuleDict({name: nn.Linear(net.WIDTH, n) for name, n in FACTS.items()})
        self.decides = nn.ModuleDict({name: nn.Linear(net.WIDTH, 14) for name in DECIDED})
        self.marks, self.ink = nn.Linear(net.WIDTH, 3), nn.Linear(net.WIDTH, 3)

    def forward(self, batch: Batch, out: net.Pass, at_layer: Reading) -> Tensor:
        losses, looks = [], out.inner[at_layer.looks]
        if batch.twins:
            losses.append(self.alike(torch.tensor(batch.twins), out, batch.sharp, at_layer))
        told = [(looks, self.facts[name], found) for name, found in batch.facts.items()]
        for name, found in batch.decides.items():
            told.append((out.inner[getattr(at_layer, name)], self.decides[name], found))
        told.append((out.inner[at_layer.marks], self.marks, batch.marks))
        for states, head, found in told:
            if found:
                at = torch.tensor(found)
                losses.append(F.cross_entropy(head(states[at[:, 0], at[:, 1]].float()), at[:, 2]))
        if batch.inks:
            at = torch.tensor(batch.inks)
            shown = self.ink(looks[at[:, 0], at[:, 1]].float())
            losses.append(10 * F.mse_loss(shown, at[:, 2:] / 255))
        return torch.stack(losses).sum()

    def alike(self, at: Tensor, out: net.Pass, sharp: bool, at_layer: Reading) -> Tensor:
        """Things of one class against the others', by the tower's mean features."""
        state = out.inner[at_layer.part if sharp else at_layer.looks][at[:, 0], at[:, 1]].float()
        seen = out.embeds[at[:, :1], at[:, 3:]].float().mean(1).detach()
        seen = F.normalize(seen - seen.mean(0), dim=-1)
        scores = 12 * F.normalize(self.looks[int(sharp)](state), dim=-1) @ seen.T
        same = (at[:, 2, None] == at[None, :, 2]).float()
        return -2 * (same / same.sum(1, keepdim=True) * scores.log_softmax(1)).sum(1).mean()


def settle_tower(model: Any, bank: Bank, rng: Random) -> None:
    """Scale the merger's output to the size of the word embeddings."""
    from tasm.suites.fonts import glyphs
    from training.tower import sample

    batch = [sample(rng, glyphs("train")) for _ in range(256)]
    with torch.no_grad():
        tokens = net.tower(model.model.visual, patches(bank.paint(batch))).flatten(0, 1)
        last = model.model.visual.merger.mlp[2]
        mean, scale = tokens.mean(0), 0.5 / (tokens - tokens.mean(0)).pow(2).mean().sqrt()
        last.weight.mul_(scale)
        last.bias.sub_(mean).mul_(scale)


@torch.no_grad()
def quick_check(model: Any, names: Container[str], seed: int = 1) -> dict[str, float]:
    """Held-out accuracy of the first answer token, a few episodes a task."""
    rng, found = Random(seed), {}
    trials = {
        "bind": (40, 8, 8),
        "needle": (50, 24, 0),
        "late": (24, 8, 4),
        "rule": (32, 8, 3),
        "locate": (16, 8, 0),
        "count": (16, 8, 4),
        "read": (16, 8, 0),
    }
    for name, (size, queries, ways) in trials.items():
        if name not in names:
            continue
        world = World(rng, "held-out")
        task = COURSES[name].task
        batch = layout.batch([task(world, size, queries, ways) for _ in range(4)])
        logits, _ = forward(model, batch, paint_exactly)
        right = (logits.argmax(1) == batch.targets).float()
        found["held_" + name] = right[batch.asked].mean().item()
    return found


def train(
    model: Any,
    folder: Path,
    stage: str,
    minutes: float,
    seed: int,
    budget: int,
    phase: Phase,
    guidance: Guidance,
) -> None:
    """One phase, until the time is up; continues from its last checkpoint."""
    torch.manual_seed(seed)
    bank, language, aids = Bank(folder), model.model.language_model, Aids()
    named = list((model.model if phase.tower else language).named_parameters())
    modules = {"model": model, "aids": aids}
    opts = optimisers(named, aids.parameters(), lr=phase.rate)
    seconds, steps = restore(folder / f"{stage}.pt", modules, opts)
    if steps == 0 and stage == "decoder":
        settle_tower(model, bank, Random(seed))
    begin, rng, log, told = time.time() - seconds, Random(seed + steps), Log(folder, stage), seconds
    while (now := time.time() - begin) < minutes * 60:
        progress = now / (minutes * 60)
        pace = min(1.0, steps / 100) * min(1.0, (1 - progress) / 0.5 + 0.02)
        for opt in opts:
            opt.pace(pace)
        name, episodes, gap = draw(rng, phase, progress, budget)
        batch = layout.batch(episodes, gap, rng, phase.closer)
        first, last = phase.guidance
        faded = progress / phase.fades
        strength = first + (last - first) * faded if faded < 1 else 0.0
        paint = partial(bank.paint, bent=phase.bent)
        watch = guidance.watch(batch, len(language.layers)) if strength > 0 else ()
        logits, out = forward(model, batch, paint, watch, frozen=not phase.tower)
        each = F.cross_entropy(logits, batch.targets, reduction="none")
        loss = (each * batch.weights).sum() / batch.weights.sum()
        total = loss
        aided = max(first, last) if progress < AIDED else 0.0
        if (batch.twins or batch.facts or batch.decides["ask"]) and aided:
            told_by = aids(batch, out, guidance.reading(rng, len(language.layers)))
            total = total + aided * told_by
            log.mean(**{f"aid_{name}": told_by.item()})
        if strength > 0:
            guide = guidance.loss(batch, out)
            total = total + strength * guide
            log.mean(**{f"guide_{name}": guide.item()})
        for opt in opts:
            opt.zero()
        torch.autograd.backward(total)
        nn.utils.clip_grad_norm_([p for _, p in named], 1.0)
        for opt in opts:
            opt.step()
        right = (logits.argmax(1) == batch.targets).float()
        log.mean(**{f"loss_{name}": loss.item(), name: right[batch.asked].mean().item()})
        steps += 1
        if now - told > 60:
            told = now
            log.write(steps, now, **quick_check(model, phase.shares))
            save(folder / f"{stage}.pt", modules, opts, now, steps)
    save(folder / f"{stage}.pt", modules, opts, minutes * 60, steps)
    log.write(steps, minutes * 60, **quick_check(model, phase.shares))
