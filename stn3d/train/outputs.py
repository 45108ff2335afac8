"""Output files of evaluation and inference: metrics and transforms."""

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
from stn3d.train.output_folder import prepare_output_dir
from stn3d.transforms import Affine, DisplacementField, Transform, chain


def write_metrics(path: str | Path, evaluator: Evaluator) -> None:
    """Write an evaluator's metrics as JSON, atomically.

    Raises:
        InputError: The file cannot be written.
    """
    path = Path(path)
    prepare_output_dir(path.parent, writes=False)
    values = {name: float(value) for name, value in evaluator.state.metrics.items()}
    with atomic_write(path) as part:
        part.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


class SaveTransforms:
    """Writes the transform of every pair of an evaluator's output as ``MOVING_to_FIXED.h5``.

    Args:
        folder: Output folder; it is created if it does not exist.
        suffix: File format, see `stn3d.io.write_transform`.
    """

    def __init__(self, folder: str | Path, suffix: str = ".h5") -> None:
        self.folder, self.suffix = Path(folder), suffix

    def __call__(self, output: Mapping[str, Any]) -> dict[str, Any]:
        prepare_output_dir(self.folder, writes=False)
        batch = output["label"]
        for i, name in enumerate(batch["name"]):
            matrices = batch["world_from_index"][i], batch["moving_from_fixed"][i]
            transform = world_transform(output["pred"][i].float(), *matrices)
            write_transform(self.folder / f"{name}{self.suffix}", transform)
        return dict(output)


def world_transform(
    displacement_vox: Tensor, world_from_index: Tensor, moving_from_fixed: Tensor
) -> Transform:
    """The transform in world millimetres of a network's displacement field on a working grid.

    Args:
        displacement_vox: ``(d, *shape)`` in voxels along the axes of the grid.
        world_from_index: ``(d + 1, d + 1)`` matrix of the working grid.
        moving_from_fixed: ``(d + 1, d + 1)`` initial transform through which the moving image was
            resampled.

    Returns:
        Fixed points to moving points.
    """
    grid = Grid(tuple(displacement_vox.shape[1:]), world_from_index.cpu())
    linear = grid.world_from_index[:-1, :-1]
    vectors_mm = torch.einsum("ij,j...->i...", linear, displacement_vox.detach().cpu().double())
    field = DisplacementField(vectors_mm[None].float(), grid)
    return chain(field, Affine.from_matrix(moving_from_fixed.cpu().double(), grid.centre_mm))
