"""All metrics that the data of a case allow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn3d.arguments import tensor_arguments
from stn3d.evaluation.case import EvaluationCase
from stn3d.evaluation.json_values import json_value
from stn3d.grid import Grid, apply_matrix
from stn3d.io import Image, TransformSource, as_transform
from stn3d.metrics import (
    Determinants,
    dice,
    eroded,
    hd95_mm,
    image_metrics,
    inverse_consistency_error_mm,
    scored_labels,
    tre_mm,
    true_error_mm,
)
from stn3d.transforms import Transform
from stn3d.warp import fov_overlap_fraction, warp_image, warp_labels


@torch.no_grad()
@tensor_arguments()
def evaluate(
    case: EvaluationCase,
    transform: TransformSource,
    inverse: TransformSource | None = None,
    moved: Tensor | None = None,
) -> dict[str, Any]:
    """All metrics that the data of a case allow; docs/metrics.md defines each.

    Args:
        case: the pair and its data.
        transform: fixed points to moving points; a `Transform`, path, matrix or SimpleITK
            transform, see `stn3d.io.as_transform`.
        inverse: moving points to fixed points, likewise, to measure the inverse consistency.
        moved: ``(1, 1, *fixed.shape)`` moved image, if it is known already.

    Returns:
        A dictionary for JSON: ``region``, ``fov_overlap_pct``, ``correlation``,
        ``local_correlation``, ``folding_pct``, ``folding_whole_field_pct``, ``log_jacobian_sd``,
        ``jacobian_min``, ``jacobian_max``, ``abs_log_jacobian_p999``,
        ``log_jacobian_extreme_at_mm``; with labels ``dice``, ``hd95_mm`` and ``labels``; with
        landmarks ``tre_mm``; with a true transform ``true_error_mm``; with an inverse
        ``inverse_consistency_error_mm``. None stands for a metric that is not defined.
    """
    transform = as_transform(transform)
    inverse = None if inverse is None else as_transform(inverse)
    grid, region = case.fixed.grid, case.region
    if moved is None:
        moved = warp_image(case.moving.values, case.moving.grid, transform, grid)
    overlap_pct = 100 * fov_overlap_fraction(case.moving.grid, transform, grid)
    metrics: dict[str, Any] = {"region": region.as_dict(), "fov_overlap_pct": overlap_pct}
    radius_mm = 2 * min(grid.spacing_mm)
    compared = region.voxels & _shown(case, transform)
    similarity = image_metrics(case.fixed.values, moved, grid, compared, radius_mm)
    metrics |= {key: similarity[key] for key in ("correlation", "local_correlation")}
    determinants = Determinants.of(transform, grid, region.voxels)
    metrics |= determinants.metrics() | determinants.deviation()
    if case.fixed_labels is not None and case.moving_labels is not None:
        metrics |= _label_metrics(case.fixed_labels, case.moving_labels, transform)
    if case.fixed_points_mm is not None and case.moving_points_mm is not None:
        metrics["tre_mm"] = tre_mm(transform, case.fixed_points_mm, case.moving_points_mm)
    if case.true_transform is not None:
        metrics["true_error_mm"] = true_error_mm(
            transform, case.true_transform, grid, region.voxels
        )
    if inverse is not None:
        points_mm = _some_points_mm(grid, eroded(region.voxels.numpy()))
        metrics["inverse_consistency_error_mm"] = inverse_consistency_error_mm(
            transform, inverse, points_mm
        )
    return json_value(metrics)


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


def _label_metrics(fixed: Image, moving: Image, transform: Transform) -> dict[str, Any]:
    """Dice and HD95 of each label with at least 100 voxels in both maps, and their means."""
    moved = warp_labels(moving.values, moving.grid, transform, fixed.grid)
    ids = scored_labels(fixed.values, moving.values)
    by_dice = dice(fixed.values, moved, ids)
    by_hd95 = hd95_mm(fixed.values, moved, fixed.grid, ids)
    each = {str(i): {"dice": by_dice[i], "hd95_mm": by_hd95[i]} for i in ids}
    return {"dice": _mean(by_dice), "hd95_mm": _mean(by_hd95), "labels": each}


def _mean(by_label: dict[int, float]) -> float:
    """The mean of the labels whose value is not NaN; NaN if there is none."""
    known = [value for value in by_label.values() if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
