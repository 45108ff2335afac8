#!/usr/bin/env python3
"""A picture of synthetic samples: pairs, what the truth makes of them, and single images.

    scripts/synth_picture.py [--labels ../shared/data/label_maps] [--out docs/results/synth.png]
        [--seed 0] [--columns 6]

Each column is one sample, in the order of their indices; nothing is chosen by hand. Without a
folder of label maps all samples are random shapes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from stn3d import kernels
from stn3d.data import find_subjects
from stn3d.grid import Grid
from stn3d.io.files import whole
from stn3d.synth import (
    ChartSamples,
    ChartSettings,
    Draws,
    PairSamples,
    PairSettings,
    Subject,
    random_subject,
)

Pixels = np.ndarray[Any, Any]
Rows = dict[str, list[Pixels]]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--labels", type=Path, help="folder of label maps (*.nii.gz)")
    parser.add_argument("--out", type=Path, default=Path("docs/results/synth.png"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--columns", type=int, default=6)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    shapes = [random_subject(Draws(args.seed, i)) for i in range(2)]
    heads = find_subjects(args.labels) if args.labels else shapes
    samples = args.seed, args.columns
    rows = pair_rows(heads, *samples) | chart_rows(heads, *samples) | shape_rows(shapes, *samples)
    draw(rows, args.out)
    print(f"{args.out}: {args.out.stat().st_size / 1e3:.0f} kB")


def pair_rows(subjects: Sequence[Subject], seed: int, columns: int) -> Rows:
    """Pairs of one person each, and the moving image through the truth."""
    settings = PairSettings(other_share=0)
    pairs = PairSamples(subjects, settings, seed)
    rows: Rows = {}
    for sample in (pairs[index] for index in range(columns)):
        u = sample["displacement_vox"]
        matrix = torch.eye(u.ndim).double()
        move = kernels.Displacement(u[None], matrix, torch.eye(u.ndim - 1).double())
        moved = kernels.resample(sample["moving"][None], matrix, u.shape[1:], move)[0]
        for name, pixels in {
            "fixed": grey(sample["fixed"]),
            "moving": grey(sample["moving"]),
            "moving\nby the truth": grey(moved),
            "both in\nsquares": grey(checkered(sample["fixed"], moved)),
            "fixed labels": coloured(sample["fixed_labels"]),
            "truth,\n0 to 16 mm": bent_lines(u * settings.spacing_mm, settings.spacing_mm, 16, 16),
        }.items():
            rows.setdefault(name, []).append(pixels)
    return rows


def chart_rows(subjects: Sequence[Subject], seed: int, columns: int) -> Rows:
    """Single images in any pose, and the canonical coordinates of their tissue."""
    charts = ChartSamples(subjects, ChartSettings(), seed)
    rows: Rows = {"any pose": [], "canonical\ncoordinates": []}
    for sample in (charts[index] for index in range(columns)):
        rows["any pose"].append(grey(sample["image"]))
        colours = (0.5 + sample["coordinates"] / 2).clamp(0, 1) * sample["coordinates_weight"]
        rows["canonical\ncoordinates"].append(plane(colours).movedim(0, -1).numpy())
    return rows


def shape_rows(subjects: Sequence[Subject], seed: int, columns: int) -> Rows:
    """Pairs of random shapes."""
    pairs = PairSamples(subjects, replace(PairSettings(), other_share=0), seed)
    rows: Rows = {"random shapes\nfixed": [], "random shapes\nmoving": []}
    for sample in (pairs[index] for index in range(columns)):
        for role in ("fixed", "moving"):
            rows[f"random shapes\n{role}"].append(grey(sample[role]))
    return rows


# -- from volumes to pixels ------------------------------------------------------------------------


def plane(volume: Tensor) -> Tensor:
    """The middle axial plane ``(C, rows, columns)``, front up, of ``(C, *shape)``."""
    return volume[..., volume.shape[-1] // 2].transpose(-1, -2).flip(-2)


def grey(image: Tensor) -> Pixels:
    """``(rows, columns, 3)`` of an image from 0 to about 1."""
    return plane(image.clamp(0, 1)).expand(3, -1, -1).movedim(0, -1).numpy()


def checkered(a: Tensor, b: Tensor, edge_vox: int = 12) -> Tensor:
    """Squares of two images in turn."""
    index = Grid.of_spacing(a.shape[1:]).points_index(dtype=torch.int64) // edge_vox
    return torch.where(index[..., :2].sum(dim=-1) % 2 == 0, a, b)


def coloured(labels: Tensor) -> Pixels:
    """A colour for each label id; black for 0."""
    generator = torch.Generator().manual_seed(3)
    colours = 0.15 + 0.85 * torch.rand(int(labels.max()) + 1, 3, generator=generator)
    colours[0] = 0
    return colours[plane(labels)[0].int()].numpy()


def bent_lines(vectors_mm: Tensor, spacing_mm: float, most_mm: float, every_mm: float) -> Pixels:
    """Colours for the lengths of vectors, and the moving grid's lines as the truth bends them."""
    fine = F.interpolate(plane(vectors_mm)[None], scale_factor=3, mode="bilinear")[0]
    pixels: Pixels = matplotlib.colormaps["viridis"](
        (fine.norm(dim=0) / most_mm).clamp(0, 1).numpy()
    )[..., :3]
    index = Grid.of_spacing(fine.shape[1:], spacing_mm / 3).points_mm(dtype=torch.float32)
    for along, at in zip(fine[:2], (index[..., 1], index[..., 0].flip(0)), strict=True):
        pixels[((along + at).numpy() % every_mm) < 0.8] = 1
    return pixels


def draw(rows: Rows, out: Path) -> None:
    """One row of pictures under another; written whole, in few shades."""
    columns = len(next(iter(rows.values())))
    heights = [r[0].shape[0] / r[0].shape[1] for r in rows.values()]
    left, gap, width = 0.95, 0.04, 1.15
    size = left + columns * (width + gap), sum(h * width + gap for h in heights)
    figure = plt.figure(figsize=size, dpi=100, facecolor="white")
    top = size[1]
    for (name, row), height in zip(rows.items(), heights, strict=True):
        top -= height * width + gap
        figure.text(
            (left - 0.06) / size[0],
            (top + height * width / 2) / size[1],
            name,
            ha="right",
            va="center",
            fontsize=7,
        )
        for column, pixels in enumerate(row):
            x = left + column * (width + gap)
            box = x / size[0], top / size[1], width / size[0], height * width / size[1]
            axes = figure.add_axes(box)
            axes.imshow(pixels, interpolation="bilinear", aspect="auto")
            axes.set_axis_off()
    figure.canvas.draw()
    drawn = np.asarray(figure.canvas.buffer_rgba())[..., :3] // 12 * 12 + 3  # 22 levels
    with whole(out) as path:
        Image.fromarray(drawn).save(path, format="png", optimize=True)
    plt.close(figure)


if __name__ == "__main__":
    main()
