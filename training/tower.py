"""First stage: the vision tower learns glyphs, shapes, colours and places."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasm.suites import fonts, pictures
from tasm.suites.fonts import NAMED
from tasm.suites.pictures import Item, Picture
from training import net
from training.bank import Bank, patches
from training.stages import Log, optimisers, restore, save

SCALE = 20.0
SHAPES = [s for s in pictures.SHAPES if s not in pictures.HELD_OUT_SHAPES]
COLOURS = [c for c in pictures.COLOURS if c not in pictures.HELD_OUT_COLOURS]


def sample(rng: Random, glyphs: tuple[str, ...]) -> Picture:
    """One glyph, four glyphs, shapes, or small things of any colours."""
    ground, ink = pictures.ground_and_ink(rng)
    kind = rng.random()
    if kind < 0.42:
        return Picture(ground, (Item("glyph", rng.choice(glyphs), 0, 0, 64, ink),))
    if kind < 0.70:
        spots = [(x, y) for x in (0, 32) for y in (0, 32) if rng.random() < 0.9]
        chars = [rng.choice(NAMED if rng.random() < 0.2 else glyphs) for _ in spots]
        found = zip(chars, spots, strict=True)
        return Picture(ground, tuple(Item("glyph", c, x, y, 32, ink) for c, (x, y) in found))
    size = 32 if kind < 0.76 else 16
    places = range(0, 64, size)
    count = rng.randint(1, 3) if size == 32 else rng.randint(2, 10)
    cells = rng.sample([(x, y) for x in places for y in places], count)
    if kind > 0.90:
        return Picture(
            ground, tuple(Item("glyph", rng.choice(NAMED), x, y, 16, ink) for x, y in cells)
        )
    inks = [pictures.shade(rng, name) for name in some_colours(rng)]
    shown = []
    for x, y in cells:
        letter = rng.random() < 0.3
        name = rng.choice(NAMED if letter else SHAPES)
        shown.append(Item("glyph" if letter else "shape", name, x, y, size, rng.choice(inks)))
    return Picture(pictures.ground_for(rng, inks), tuple(shown))


def some_colours(rng: Random) -> list[str]:
    """Two or three colours, named ones or any."""
    if rng.random() < 0.4:
        return rng.sample(COLOURS, rng.randint(2, 3))
    return pictures.free_colours(rng, rng.randint(2, 3))


class Heads(nn.Module):
    """What the tower's tokens must tell; thrown away afterwards."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = nn.Parameter(torch.randn(classes, net.WIDTH) * 0.05)
        self.pixels = nn.Linear(net.WIDTH, 12)
        self.place = nn.Linear(net.WIDTH, net.TOKENS)


def losses(heads: Heads, tokens: Tensor, image: Tensor, batch: list[Picture], bank: Bank) -> Any:
    """Class of every thing, coarse pixels and place of every token."""
    weights, targets, owner = [], [], []
    for n, picture in enumerate(batch):
        for item in picture.items:
            part = torch.zeros(4, 4)
            x, y, s = item.left // 16, item.top // 16, item.size // 16
            part[y : y + s, x : x + s] = 1 / (s * s)
            weights.append(part.flatten())
            targets.append(bank.row[item.kind, item.name])
            owner.append(n)
    pooled = (torch.stack(weights)[:, :, None] * tokens[torch.tensor(owner)]).sum(1)
    scores = SCALE * F.normalize(pooled, dim=-1) @ F.normalize(heads.classes, dim=-1).T
    target = torch.tensor(targets)
    wide = torch.tensor([i.size == 64 for p in batch for i in p.items])
    right = (scores.argmax(1) == target).float()
    coarse = F.avg_pool2d(image, 8).view(-1, 3, 4, 2, 4, 2).permute(0, 2, 4, 1, 3, 5)
    loss = F.cross_entropy(scores, target)
    pixels = F.mse_loss(heads.pixels(tokens), coarse.reshape(len(batch), 16, 12))
    place = F.cross_entropy(heads.place(tokens).flatten(0, 1), torch.arange(16).repeat(len(batch)))
    return loss, pixels, place, right[wide].mean().item(), right[~wide].mean().item()


@torch.no_grad()
def one_shot(visual: Any) -> float:
    """Nearest neighbour among the held-out classes, one example each."""
    rng, views = Random(3), []
    chars = fonts.glyphs("held-out")
    for _ in range(2):
        drawn = []
        for char in chars:
            ground, ink = pictures.ground_and_ink(rng)
            item = Item("glyph", char, 0, 0, 64, ink, pictures.look(rng, "glyph", char))
            drawn.append(pictures.draw(Picture(ground, (item,))))
        image = torch.stack([_tensor(d) for d in drawn])
        views.append(F.normalize(net.tower(visual, patches(image)).mean(1), dim=-1))
    near = (views[0] @ views[1].T).argmax(1)
    return (near == torch.arange(len(chars))).float().mean().item()


def _tensor(image: Any) -> Tensor:
    import numpy as np

    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255


def train(model: Any, folder: Path, minutes: float, batch: int = 192, seed: int = 0) -> None:
    """Until the time is up or the steps are done; continues from its last checkpoint."""
    torch.manual_seed(seed)
    bank = Bank(folder)
    heads, glyphs = Heads(len(bank.names)), fonts.glyphs("train")
    visual = model.model.visual
    modules = {"visual": visual, "heads": heads}
    opts = optimisers(visual.named_parameters(), heads.parameters(), lr=2e-3)
    log, steps = Log(folder, "tower"), 0
    spent = restore(folder / "tower.pt", modules, opts)
    begin, rng = time.time() - spent[0], Random(seed + int(spent[1]))
    steps = int(spent[1])
    while (now := time.time() - begin) < minutes * 60:
        pace = min(1.0, steps / 200) * min(1.0, (1 - now / (minutes * 60)) / 0.5 + 0.02)
        for opt in opts:
            opt.pace(pace)
        chosen = [sample(rng, glyphs) for _ in range(batch)]
        image = bank.paint(chosen)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            tokens = net.tower(visual, patches(image))
        loss, pixels, place, big, small = losses(heads, tokens.float(), image, chosen, bank)
        for opt in opts:
            opt.zero()
        torch.autograd.backward(loss + 2 * pixels + 0.1 * place)
        nn.utils.clip_grad_norm_([p for m in modules.values() for p in m.parameters()], 1.0)
        for opt in opts:
            opt.step()
        log.mean(loss=loss.item(), pixels=pixels.item(), place=place.item(), big=big, small=small)
        steps += 1
        if steps % 100 == 0:
            more = {"one_shot": one_shot(visual)} if steps % 500 == 0 else {}
            log.write(steps, now, **more)
        if steps % 500 == 0:
            save(folder / "tower.pt", modules, opts, now, steps)
    save(folder / "tower.pt", modules, opts, minutes * 60, steps)
    log.write(steps, minutes * 60, one_shot=one_shot(visual))
