"""Pictures of the MNIST study: the tasks, and what transformers show to their classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scripts.bench.plots import new_figure
from scripts.bench.studies.mnist.rows import ROWS, NetworkRow
from scripts.bench.studies.mnist.training import TEST_SEED, WEIGHTS, restored
from stn3d.data import evaluation_batches
from stn3d.nets import ComposedTransformers, RecurrentTransformer, SpatialTransformer
from stn3d.synth.digits import DISTORTIONS, Digits, read_digits
from stn3d.synth.generator import SeededGenerator
from stn3d.transforms import Transform

PICTURED = (
    "RTS: ST-CNN affine",
    "P: ST-CNN projective",
    "E: ST-CNN tps",
    "TC: ST-CNN affine",
    "sequence: recurrent ST-CNN affine",
)
SHOWN = 10


def slug(name: str) -> str:
    """A row's name as the name of a file or folder."""
    return name.replace(": ", "-").replace(" ", "-")


def pictures_of(folder: Path) -> dict[str, Path]:
    """The files of the pictures: of the tasks, and of each row of `PICTURED`."""
    names = {name: slug(name) for name in ("tasks", *PICTURED)}
    return {name: folder / f"{file}.png" for name, file in names.items()}


def draw(out: Path, work: Path, data: Path) -> None:
    """Draw the tasks, and those rows of `PICTURED` that were trained."""
    digits, paths = read_digits(data, "test"), pictures_of(out)
    tasks_picture(paths["tasks"], digits)
    for name in PICTURED:
        folder, row = work / slug(name), ROWS[name]
        if (folder / WEIGHTS).exists():
            batch = next(evaluation_batches(digits, row.task, 250, TEST_SEED))["image"][:SHOWN]
            transformer_picture(paths[name], row, restored(row, folder), batch)


def tasks_picture(path: Path, digits: Digits) -> None:
    """Each task's first digits."""
    figure = new_figure(SHOWN, 0.95 * len(DISTORTIONS))
    if figure is None:
        return
    for line, (name, distort) in enumerate(DISTORTIONS.items()):
        images, _ = distort(digits, torch.arange(SHOWN), SeededGenerator(0))
        for column, image in enumerate(images):
            axes = figure.add_subplot(len(DISTORTIONS), SHOWN, line * SHOWN + column + 1)
            axes.imshow(torch.cat(list(image), dim=1).numpy(), cmap="gray", vmin=0, vmax=1)
            axes.set_axis_off()
            if column == 0:
                axes.set_title(name, fontsize=8, loc="left")
    figure.savefig(path, dpi=60, metadata={"Software": None})


@torch.no_grad()
def transformer_picture(path: Path, row: NetworkRow, network: nn.Module, images: Tensor) -> None:
    """The input of a row's transformer with the frame of its output, and the output."""
    front: Any = next(m for m in network.modules() if isinstance(m, TRANSFORMERS))
    found = front.localisation(images) if isinstance(front, RecurrentTransformer) else None
    transforms: list[Transform] = found or [front.transform(images)]
    seen = front(images)
    seen = list(seen.unbind(1)) if found else [seen]
    figure = new_figure(SHOWN, 1.0 * (1 + len(seen)))
    if figure is None:
        return
    for column, image in enumerate(images):
        axes = figure.add_subplot(1 + len(seen), SHOWN, column + 1)
        axes.imshow(image[0].numpy(), cmap="gray", vmin=0, vmax=1)
        n, m = image.shape[1:]
        for transform, colour in zip(transforms, COLOURS[: len(transforms)], strict=True):
            for line in frame(n, m):
                at = transform(line.expand(len(images), *line.shape))[column]
                axes.plot(at[:, 1].numpy(), at[:, 0].numpy(), color=colour, linewidth=1)
        axes.set_xlim(-0.5, m - 0.5)
        axes.set_ylim(n - 0.5, -0.5)
        axes.set_axis_off()
        for number, views in enumerate(seen):
            axes = figure.add_subplot(1 + len(seen), SHOWN, (1 + number) * SHOWN + column + 1)
            axes.imshow(views[column, 0].numpy(), cmap="gray", vmin=0, vmax=1)
            axes.set_axis_off()
    figure.suptitle(f"{row.table}: {row.name}", fontsize=9)
    figure.savefig(path, dpi=60, metadata={"Software": None})


COLOURS = ("tab:orange", "tab:cyan", "tab:pink")
TRANSFORMERS = (RecurrentTransformer, ComposedTransformers, SpatialTransformer)


def frame(n: int, m: int, cells: int = 1, points: int = 20) -> list[Tensor]:
    """Lines of an output's frame, ``(points, 2)`` each, in its pixels."""
    rows, columns = torch.linspace(-0.5, n - 0.5, points), torch.linspace(-0.5, m - 0.5, points)
    lines = []
    for k in range(cells + 1):
        row, column = -0.5 + n * k / cells, -0.5 + m * k / cells
        lines.append(torch.stack([torch.full_like(columns, row), columns], dim=1))
        lines.append(torch.stack([rows, torch.full_like(rows, column)], dim=1))
    return lines
