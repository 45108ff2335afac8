"""Distances between the surfaces of labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stn3d.grid import Grid
from stn3d.metrics.arrays import Array, on_grid
from stn3d.metrics.labels import whole_numbers


def hd95_mm(
    fixed_labels: Array, moved_labels: Array, grid: Grid, labels: Sequence[int]
) -> dict[int, float]:
    """95th percentile of the Hausdorff distance (HD95) of each label, in mm; lower is better.

    HD95 is the larger of the two directed 95th percentiles of surface distances, as in MONAI's
    ``compute_hausdorff_distance(percentile=95)`` and DeepMind's surface-distance
    (Nikolov et al. 2021, doi:10.2196/26151)::

        max(P95 of min_b |a - b| over a in A, P95 of min_a |b - a| over b in B)

    A and B are the surface voxels of the label in the two maps: voxels of the label with a face
    neighbour outside the label or outside the image. Distances run between voxel centres in world
    millimetres. Each surface voxel has the same weight, as in MONAI (DeepMind weights surface
    elements by area), and percentiles are interpolated linearly.

    Args:
        fixed_labels: label map of the fixed image.
        moved_labels: moving label map on the fixed grid, by nearest neighbour.
        grid: the fixed grid; for distances in voxels give ``Grid.of_spacing(shape)``.
        labels: labels to measure, without 0.

    Returns:
        HD95 of each label; NaN where either map lacks the label.

    Raises:
        InputError: a map does not fit the grid, or a label is not a whole number from 0 upward.
    """
    from scipy.spatial import cKDTree  # slow to import, needed only here

    fixed, moved = _surface_points_mm(fixed_labels, grid), _surface_points_mm(moved_labels, grid)
    distances = dict.fromkeys([int(label) for label in labels], math.nan)
    for label in distances:
        if label in fixed and label in moved:
            to_moved, _ = cKDTree(moved[label]).query(fixed[label])
            to_fixed, _ = cKDTree(fixed[label]).query(moved[label])
            distances[label] = float(max(np.percentile(to_moved, 95), np.percentile(to_fixed, 95)))
    return distances


def _surface_points_mm(labels: Array, grid: Grid) -> dict[int, NDArray[np.float64]]:
    """``(N, d)`` surface voxels of each label, in mm from voxel 0."""
    array = whole_numbers(on_grid(labels, grid))
    edge = np.zeros(array.shape, bool)
    for axis in range(array.ndim):
        along, on_edge = np.moveaxis(array, axis, 0), np.moveaxis(edge, axis, 0)
        changes = along[1:] != along[:-1]
        on_edge[1:] |= changes
        on_edge[:-1] |= changes
        on_edge[[0, -1]] = True
    edge &= array != 0
    order = np.argsort(array[edge], kind="stable")
    points = np.argwhere(edge)[order] @ grid.world_from_index[:-1, :-1].numpy().T
    values, starts = np.unique(array[edge][order], return_index=True)
    return dict(zip(values.tolist(), np.split(points, starts[1:]), strict=False))
