"""What evaluation and inference leave behind: figures and transforms as files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.engines import Evaluator
from torch import Tensor

from stn3d.grid import Grid
from stn3d.io import atomic_write, write_transform
from stn3d.train.handlers import prepared_folder
from stn3d.transforms import Affine, DisplacementField, Transform, chain


def write_metrics(path: str | Path, evaluator: Evaluator) -> None:
    """Write an evaluator's metrics as JSON, whole or not at all.

    Raises:
        InputError: the file cannot be written here.
    """
    path = Path(path)
    prepared_folder(path.parent, writes=False)
    figures = {name: float(value) for name, value in evaluator.state.metrics.items()}
    with atomic_write(path) as part:
        part.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


class WriteTransforms:
    """Writes the transform of every pair that a network has seen as ``MOVING_to_FIXED.h5``.

    Args:
        folder: where to; it is made if need be.
        suffix: of the files, see `stn3d.io.write_transform`.
    """

    def __init__(self, folder: str | Path, suffix: str = ".h5") -> None:
        self.folder, self.suffix = Path(folder), suffix

    def __call__(self, output: Mapping[str, Any]) -> dict[str, Any]:
        prepared_folder(self.folder, writes=False)
        batch = output["label"]
        for i, name in enumerate(batch["name"]):
            place = batch["world_from_index"][i], batch["moving_from_fixed"][i]
            transform = world_transform(output["pred"][i].float(), *place)
            write_transform(self.folder / f"{name}{self.suffix}", transform)
        return dict(output)


def world_transform(
    displacement_vox: Tensor, world_from_index: Tensor, moving_from_fixed: Tensor
) -> Transform:
    """The transform in world millimetres of what a network says on a working grid.

    Args:
        displacement_vox: ``(d, *shape)`` in voxels along the grid's axes.
        world_from_index: ``(d + 1, d + 1)`` of the working grid.
        moving_from_fixed: ``(d + 1, d + 1)`` through which the moving image was seen on it.

    Returns:
        Fixed points to moving points.
    """
    grid = Grid(tuple(displacement_vox.shape[1:]), world_from_index.cpu())
    turn = grid.world_from_index[:-1, :-1]
    moves = torch.einsum("ij,j...->i...", turn, displacement_vox.detach().cpu().double())
    field = DisplacementField(moves[None].float(), grid)
    return chain(field, Affine.from_matrix(moving_from_fixed.cpu().double(), grid.centre_mm))
