"""Metrics of an evaluation in a file, and a network's output as a transform."""

from __future__ import annotations

import json
from pathlib import Path

from monai.engines import Evaluator
from torch import Tensor

from stn3d.arguments import tensor_arguments
from stn3d.evaluation.json_values import json_value
from stn3d.grid import Grid
from stn3d.io import atomic_write
from stn3d.train.output_folder import prepare_output_dir
from stn3d.transforms import Affine, DisplacementField, Transform, chain
from stn3d.transforms.dense import in_mm


def write_metrics(path: str | Path, evaluator: Evaluator) -> None:
    """Write an evaluator's metrics as JSON, atomically; null where a metric is undefined.

    Raises:
        InputError: The file cannot be written.
    """
    path = Path(path)
    prepare_output_dir(path.parent, writes=False)
    values = {name: json_value(float(v)) for name, v in evaluator.state.metrics.items()}
    with atomic_write(path) as part:
        part.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8")


@tensor_arguments(["displacement_vox", "world_from_index", "moving_from_fixed"])
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
    vectors_mm = in_mm(displacement_vox.detach().cpu().double()[None], grid)
    field = DisplacementField(vectors_mm.float(), grid)
    return chain(field, Affine.from_matrix(moving_from_fixed.cpu().double(), grid.centre_mm))
