"""Masks rendered ahead of training, and batches of pictures painted from them."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import torch
import torch.nn.functional as F

from tasm.suites import fonts, pictures
from tasm.suites.pictures import FRAME, SIDE, Picture

SIZES = (64, 32, 16)
RENDERS = 24


def names() -> list[tuple[str, str]]:
    """Everything training may draw: the training glyphs and the training shapes."""
    glyphs = [("glyph", c) for c in fonts.glyphs("train")]
    shapes = [("shape", s) for s in pictures.SHAPES if s not in pictures.HELD_OUT_SHAPES]
    return glyphs + shapes


class Bank:
    """`RENDERS` masks of every training thing at every size."""

    def __init__(self, folder: Path) -> None:
        self.names = names()
        self.row = {key: i for i, key in enumerate(self.names)}
        file = folder / "bank.npz"
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            np.savez(file, allow_pickle=False, **self._render())
        with np.load(file) as data:
            self.masks = {s: torch.from_numpy(data[f"s{s}"]) for s in SIZES}

        self.grain = torch.randn(16_000_000)

    def _render(self) -> dict[str, np.ndarray]:
        rng = Random(7)
        out = {f"s{s}": np.zeros((len(self.names), RENDERS, s, s), np.uint8) for s in SIZES}
        for row, (kind, name) in enumerate(self.names):
            for size in SIZES:
                for turn in range(RENDERS):
                    how = pictures.look(rng, kind, name, steady=size < SIDE)
                    out[f"s{size}"][row, turn] = np.asarray(pictures.mask(kind, name, how, size))
        return out

    def paint(self, batch: list[Picture], noise: float = 0.02, bent: float = 0.0) -> torch.Tensor:
        """(N, 3, 64, 64) in 0..1; each thing in one of its renders, looks are ignored.

        `bent`: the share of things as large as the picture that are bent, half of these coarse.
        """
        grounds = torch.tensor([p.ground for p in batch], dtype=torch.float32) / 255
        out = grounds[:, None, :].repeat(1, SIDE * SIDE, 1).view(-1, 3)
        for size in SIZES:
            found = [(n, i) for n, p in enumerate(batch) for i in p.items if i.size == size]
            if not found:
                continue
            rows = torch.tensor([self.row[i.kind, i.name] for _, i in found])
            turns = torch.randint(RENDERS, (len(found),))
            ink = self.masks[size][rows, turns].float() / 255
            if bent and size == SIDE:
                some = torch.rand(len(found)) < bent
                ink[some] = bend(ink[some])
                some &= torch.rand(len(found)) < 0.5
                ink[some] = coarsen(ink[some])
            ink = ink.reshape(len(found), -1)
            first = torch.tensor([n * SIDE * SIDE + i.top * SIDE + i.left for n, i in found])
            step = torch.arange(size)
            where = (first[:, None, None] + step[:, None] * SIDE + step).reshape(len(found), -1)
            colour = torch.tensor([i.colour for _, i in found], dtype=torch.float32)[:, None] / 255
            old = out[where]
            out[where] = old + (colour - old) * ink[..., None]
        image = out.view(len(batch), SIDE, SIDE, 3).permute(0, 3, 1, 2)
        frame = torch.tensor(FRAME, dtype=torch.float32)[:, None, None] / 255
        for edge in (slice(0, 2), slice(SIDE - 2, SIDE)):
            image[:, :, edge] = frame
            image[:, :, :, edge] = frame
        if noise:
            start = int(torch.randint(self.grain.numel() - image.numel(), (1,)))
            image = image + noise * self.grain[start : start + image.numel()].view(image.shape)
        return image


def bend(ink: torch.Tensor, by: float = 0.08) -> torch.Tensor:
    """(N, 64, 64) masks, each pulled smoothly in random directions, as a hand does."""
    count = len(ink)
    pull = F.interpolate(by * torch.randn(count, 2, 4, 4), SIDE, mode="bicubic")
    still = F.affine_grid(torch.eye(2, 3).repeat(count, 1, 1), [count, 1, SIDE, SIDE], False)
    at = still + pull.permute(0, 2, 3, 1)
    return F.grid_sample(ink[:, None], at, align_corners=False)[:, 0]


def coarsen(ink: torch.Tensor) -> torch.Tensor:
    """(N, 64, 64) masks as a scan of 9 to 16 pixels a side shows them."""
    small = F.adaptive_avg_pool2d(ink[:, None], int(torch.randint(9, 17, (1,))))
    soft = F.interpolate(small, SIDE, mode="bicubic")[:, 0]
    return ((soft - 0.25) * 2.5).clamp(0, 1)


def patches(image: torch.Tensor, side: int = 8) -> torch.Tensor:
    """(N, 64, 192): the patches in the order of the image processor, scaled to -1..1."""
    count, grid = image.shape[0], SIDE // side // 2
    x = (image * 2 - 1).reshape(count, 3, grid, 2, side, grid, 2, side)
    return x.permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(count, grid * grid * 4, 3 * side * side)
