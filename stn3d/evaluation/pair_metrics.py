"""All metrics that the data of a case allow."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn3d.arguments import tensor_arguments
from stn3d.evaluation.case import EvaluationCase
from stn3d.evaluation.label_metrics import LabelResults, measure_labels
from stn3d.evaluation.options import EvaluationOptions
from stn3d.evaluation.result import Evaluation
from stn3d.grid import Grid, apply_matrix
from stn3d.io import TransformSource, as_transform
from stn3d.metrics import (
    Determinants,
    EvaluationRegion,
    eroded,
    image_metrics,
    inverse_consistency_error_mm,
    landmark_robustness,
    ndv_metrics,
    tre_mm,
    true_error_mm,
)
from stn3d.transforms import Transform
from stn3d.warp import fov_overlap_fraction, warp_image, warp_labels


@torch.no_grad()
@tensor_arguments()
def evaluate_case(
    case: EvaluationCase,
    transform: TransformSource,
    inverse: TransformSource | None = None,
    moved: Tensor | None = None,
    options: EvaluationOptions | None = None,
) -> Evaluation:
    """All metrics that the data of a case allow; docs/metrics.md defines each.

    Args:
        case: the pair and its data.
        transform: fixed points to moving points; a `Transform`, path, matrix or SimpleITK
            transform, see `stn3d.io.as_transform`.
        inverse: moving points to fixed points, likewise, to measure the inverse consistency.
        moved: ``(1, 1, *fixed.shape)`` moved image, if it is known already.
        options: what is measured, and by which definitions.
    """
    transform = as_transform(transform)
    inverse = None if inverse is None else as_transform(inverse)
    options = EvaluationOptions() if options is None else options
    grid, region = case.fixed.grid, _region(case, options)
    errors: dict[str, Any] = {}
    points = case.fixed_points_mm, case.moving_points_mm
    if points[0] is not None and points[1] is not None:
        errors["tre_mm"] = tre_mm(transform, points[0], points[1])
        errors["landmark_robustness"] = landmark_robustness(transform, points[0], points[1])
    if case.true_transform is not None:
        errors["true_error_mm"] = true_error_mm(transform, case.true_transform, grid, region.voxels)
    if inverse is not None:
        points_mm = _some_points_mm(grid, eroded(region.voxels.numpy()))
        errors["inverse_consistency_error_mm"] = inverse_consistency_error_mm(
            transform, inverse, points_mm
        )
    return Evaluation(
        options,
        _image_metrics(case, transform, region, moved),
        _jacobian_metrics(transform, grid, region, options),
        _label_results(case, transform, options),
        **errors,
    )


def _region(case: EvaluationCase, options: EvaluationOptions) -> EvaluationRegion:
    """The region of the case; with ``l2r`` all voxels unless there is a mask."""
    if options.protocol == "l2r" and case.fixed_mask is None:
        everywhere = torch.ones(case.fixed.grid.shape, dtype=torch.bool)
        return EvaluationRegion("image", everywhere)
    return case.region


def _image_metrics(
    case: EvaluationCase, transform: Transform, region: EvaluationRegion, moved: Tensor | None
) -> dict[str, Any]:
    grid = case.fixed.grid
    if moved is None:
        moved = warp_image(case.moving.values, case.moving.grid, transform, grid)
    compared = region.voxels & _shown(case, transform)
    radius_mm = 2 * min(grid.spacing_mm)
    similarity = image_metrics(case.fixed.values, moved, grid, compared, radius_mm)
    return {
        "region": region.as_dict(),
        "fov_overlap_pct": 100 * fov_overlap_fraction(case.moving.grid, transform, grid),
        **{key: similarity[key] for key in ("correlation", "local_correlation")},
    }


def _jacobian_metrics(
    transform: Transform, grid: Grid, region: EvaluationRegion, options: EvaluationOptions
) -> dict[str, Any]:
    protocol = options.protocol
    determinants = Determinants.of(transform, grid, region.voxels, protocol)
    return {
        **determinants.metrics(protocol),
        **determinants.deviation(),
        **ndv_metrics(transform, grid, region.voxels, protocol),
    }


def _label_results(
    case: EvaluationCase, transform: Transform, options: EvaluationOptions
) -> LabelResults | None:
    fixed, moving = case.fixed_labels, case.moving_labels
    if fixed is None or moving is None:
        return None
    moved = warp_labels(moving.values, moving.grid, transform, fixed.grid)
    return measure_labels(fixed.values, moved, moving.values, fixed.grid, options)


def _shown(case: EvaluationCase, transform: Transform) -> Tensor:
    """Voxels that a moving slice shows, ``fixed.grid.shape`` bool; all for a moving volume."""
    grid, moving = case.fixed.grid, case.moving
    if moving.grid.slice_axis is None:
        return torch.ones(grid.shape, dtype=torch.bool)
    return warp_image(torch.ones_like(moving.values), moving.grid, transform, grid)[0, 0] > 0


def _some_points_mm(grid: Grid, mask: NDArray[np.bool_], count: int = 100_000) -> Tensor:
    """``(N, d)`` voxel centres of a mask at even steps: all of them, or slightly over ``count``."""
    step = max(1, int(mask.sum()) // count)
    chosen, passed = [], 0
    for rows in grid.slabs():
        here = np.flatnonzero(mask[rows])
        passed, first = passed + len(here), -passed % step
        chosen.append(here[first::step] + rows.start * mask[0].size)
    index = np.stack(np.unravel_index(np.concatenate(chosen), grid.shape), axis=-1)
    return apply_matrix(grid.world_from_index, torch.from_numpy(index).double())
