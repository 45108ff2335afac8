"""Picture of synthetic training samples: pairs, images warped by the truth, and single images.

    python -m scripts.bench synth run [--labels ../shared/data/label_maps] [--seed 0] [--columns 6]

Each column is one sample, in the order of the sample indices, without selection. Without a folder
of label maps all samples are random shapes. The study has no numbers: ``report`` writes the page
around the picture that ``run`` drew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from scripts.bench.machine import machine, versions
from scripts.bench.options import RunOptions, command_line, option
from scripts.bench.pages import command, write_page
from scripts.bench.store import RESULTS_FILE, Results, read, write
from stn3d import Grid, kernels
from stn3d.data import load_subjects
from stn3d.io.files import atomic_write
from stn3d.synth import (
    CoordinateSettings,
    PairSettings,
    SeededGenerator,
    Subject,
    SyntheticCoordinates,
    SyntheticPairs,
    random_subject,
)

PICTURE_FILE = "samples.png"
Pixels = np.ndarray[Any, Any]
Rows = dict[str, list[Pixels]]


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of the study."""

    labels: Path | None = option(None, "folder of label maps (*.nii.gz)")
    threads: int = option(1, "CPU threads")
    seed: int = option(0, "random seed")
    columns: int = option(6, "number of samples")


def run(options: Options) -> None:
    """Draw the picture, then report."""
    torch.set_num_threads(options.threads)
    shapes = [random_subject(SeededGenerator(options.seed, i)) for i in range(2)]
    heads = load_subjects(options.labels) if options.labels else shapes
    samples = options.seed, options.columns
    rows = pair_rows(heads, *samples) | chart_rows(heads, *samples) | shape_rows(shapes, *samples)
    options.out.mkdir(parents=True, exist_ok=True)
    draw(rows, options.out / PICTURE_FILE)
    found = {
        "machine": machine(),
        "versions": versions(),
        "command": command_line("synth", options),
    }
    write(options.out / RESULTS_FILE, Results("synth", found, []))
    report(options.out)


def report(folder: Path) -> None:
    """Write README.md."""
    lines = ["# Synthetic training samples", "", *command(read(folder))]
    lines += [
        "Each column is one sample, in the order of the sample indices, without selection.",
        "",
    ]
    write_page(folder, [*lines, f"![Synthetic samples]({PICTURE_FILE})"])


def pair_rows(subjects: Sequence[Subject], seed: int, columns: int) -> Rows:
    """Pairs of one person each, and the moving image warped by the truth."""
    settings = PairSettings(inter_subject_probability=0)
    pairs = SyntheticPairs(subjects, settings, seed)
    rows: Rows = {}
    for sample in (pairs[index] for index in range(columns)):
        u = sample["displacement_vox"]
        matrix = torch.eye(u.ndim).double()
        move = kernels.Displacement(u[None], matrix, torch.eye(u.ndim - 1).double())
        moved = kernels.resample(sample["moving"][None], matrix, u.shape[1:], move)[0]
        for name, pixels in {
            "fixed": gray(sample["fixed"]),
            "moving": gray(sample["moving"]),
            "moving,\nwarped by\nthe truth": gray(moved),
            "checker-\nboard": gray(checkered(sample["fixed"], moved)),
            "fixed labels": coloured(sample["fixed_labels"]),
            "displacement,\n0 to 16 mm": displacement_image(
                u * settings.spacing_mm, settings.spacing_mm, 16, 16
            ),
        }.items():
            rows.setdefault(name, []).append(pixels)
    return rows


def chart_rows(subjects: Sequence[Subject], seed: int, columns: int) -> Rows:
    """Single images in random poses, and the canonical coordinates of their tissue."""
    charts = SyntheticCoordinates(subjects, CoordinateSettings(), seed)
    rows: Rows = {"random pose": [], "canonical\ncoordinates": []}
    for sample in (charts[index] for index in range(columns)):
        rows["random pose"].append(gray(sample["image"]))
        colours = (0.5 + sample["coordinates"] / 2).clamp(0, 1) * sample["coordinates_weight"]
        rows["canonical\ncoordinates"].append(plane(colours).movedim(0, -1).numpy())
    return rows


def shape_rows(subjects: Sequence[Subject], seed: int, columns: int) -> Rows:
    """Pairs of random shapes."""
    pairs = SyntheticPairs(subjects, replace(PairSettings(), inter_subject_probability=0), seed)
    rows: Rows = {"random shapes\nfixed": [], "random shapes\nmoving": []}
    for sample in (pairs[index] for index in range(columns)):
        for role in ("fixed", "moving"):
            rows[f"random shapes\n{role}"].append(gray(sample[role]))
    return rows


# -- from volumes to pixels ------------------------------------------------------------------------


def plane(volume: Tensor) -> Tensor:
    """The middle axial plane ``(C, rows, columns)``, anterior up, of ``(C, *shape)``."""
    return volume[..., volume.shape[-1] // 2].transpose(-1, -2).flip(-2)


def gray(image: Tensor) -> Pixels:
    """``(rows, columns, 3)`` of an image from 0 to about 1."""
    return plane(image.clamp(0, 1)).expand(3, -1, -1).movedim(0, -1).numpy()


def checkered(a: Tensor, b: Tensor, edge_vox: int = 12) -> Tensor:
    """A checkerboard of two images."""
    index = Grid.of_spacing(a.shape[1:]).points_index(dtype=torch.int64) // edge_vox
    return torch.where(index[..., :2].sum(dim=-1) % 2 == 0, a, b)


def coloured(labels: Tensor) -> Pixels:
    """A colour for each label id; black for 0."""
    generator = torch.Generator().manual_seed(3)
    colours = 0.15 + 0.85 * torch.rand(int(labels.max()) + 1, 3, generator=generator)
    colours[0] = 0
    return colours[plane(labels)[0].int()].numpy()


def displacement_image(
    vectors_mm: Tensor, spacing_mm: float, most_mm: float, every_mm: float
) -> Pixels:
    """Lengths of displacements as colours, with the lines of the deformed moving grid."""
    fine = F.interpolate(plane(vectors_mm)[None], scale_factor=3, mode="bilinear")[0]
    pixels: Pixels = matplotlib.colormaps["viridis"](
        (fine.norm(dim=0) / most_mm).clamp(0, 1).numpy()
    )[..., :3]
    index = Grid.of_spacing(fine.shape[1:], spacing_mm / 3).points_mm(dtype=torch.float32)
    for along, at in zip(fine[:2], (index[..., 1], index[..., 0].flip(0)), strict=True):
        pixels[((along + at).numpy() % every_mm) < 0.8] = 1
    return pixels


def draw(rows: Rows, out: Path) -> None:
    """Write the rows of images, one below the other, with a reduced palette."""
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
    canvas: Any = figure.canvas
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[..., :3] // 12 * 12 + 3  # 22 levels
    with atomic_write(out) as path:
        Image.fromarray(drawn).save(path, format="png", optimize=True)
    plt.close(figure)
