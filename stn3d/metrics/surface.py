"""Distances between the surfaces of labels.

A surface is a set of points with weights, in one of two published forms:

* its voxels, each of weight 1: the voxels of a label with a face neighbour outside the label or
  outside the image (MONAI);
* its elements, weighted by their area (in 2D, length), see `stn3d.metrics.surface_elements`
  (DeepMind's surface-distance, Learn2Reg).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.metrics.arrays import Array, on_grid
from stn3d.metrics.labels import whole_numbers
from stn3d.metrics.surface_elements import Surface, surface_elements

_NO_SURFACE = Surface(np.empty((0, 0)), np.empty(0))


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances between the surfaces of one label in two maps; lower is better.

    A and B are the surface voxels in the two maps; distances run between voxel centres. All are NaN
    where either map lacks the label.

    Args:
        hd95_mm: larger of the two directed 95th percentiles of surface distances, percentiles
            interpolated linearly, as in MONAI's ``compute_hausdorff_distance(percentile=95)``
            (Nikolov et al. 2021, doi:10.2196/26151).
        hd95_pooled_mm: 95th percentile of the distances of both directions taken together, which
            some tools report as HD95; never larger than it.
        hausdorff_mm: Hausdorff distance, the largest of all surface distances (Huttenlocher et al.
            1993, doi:10.1109/34.232073), as in MONAI's ``compute_hausdorff_distance``.
        assd_mm: average symmetric surface distance, the mean of the distances of both directions
            taken together (Heimann et al. 2009, doi:10.1109/TMI.2009.2013851), as in MONAI's
            ``compute_average_surface_distance(symmetric=True)``.
    """

    hd95_mm: float = math.nan
    hd95_pooled_mm: float = math.nan
    hausdorff_mm: float = math.nan
    assd_mm: float = math.nan

    @classmethod
    def of(cls, from_a: NDArray[np.float64], from_b: NDArray[np.float64]) -> SurfaceDistances:
        """The statistics of the distances ``(N,)`` from A to B and ``(M,)`` from B to A, in mm."""
        if not len(from_a) or not len(from_b):
            return cls()
        both = np.concatenate([from_a, from_b])
        directed = [float(np.percentile(distances, 95)) for distances in (from_a, from_b)]
        pooled = float(np.percentile(both, 95))
        return cls(max(directed), pooled, float(both.max()), float(both.mean()))


def surface_distances(
    fixed_labels: Array, moved_labels: Array, grid: Grid, labels: Sequence[int]
) -> dict[int, SurfaceDistances]:
    """Distances between the surfaces of each label in two maps.

    Args:
        fixed_labels: label map of the fixed image.
        moved_labels: moving label map on the fixed grid, by nearest neighbour.
        grid: the fixed grid, oblique and sheared ones too.
        labels: labels to measure, without 0.

    Raises:
        InputError: a map does not fit the grid, or a label is not a whole number from 0 upward.
    """
    fixed, moved = (_surface_voxels(values, grid) for values in (fixed_labels, moved_labels))
    return {
        label: SurfaceDistances.of(*_directed(fixed, moved, label)) for label in map(int, labels)
    }


def surface_dice(
    fixed_labels: Array,
    moved_labels: Array,
    grid: Grid,
    labels: Sequence[int],
    tolerance_mm: float,
) -> dict[int, float]:
    """Normalised surface Dice (NSD) of each label, from 0 to 1; higher is better.

    The area of both surfaces that is within a tolerance of the other surface, divided by the area
    of both. Nikolov et al. 2021, doi:10.2196/26151; as in DeepMind's surface-distance and in
    MONAI's ``compute_surface_dice(use_subvoxels=True)``.

    Args:
        fixed_labels: label map of the fixed image.
        moved_labels: moving label map on the fixed grid, by nearest neighbour.
        grid: the fixed grid. On sheared grids areas are those of a grid without shear.
        labels: labels to measure, without 0.
        tolerance_mm: distance up to which surfaces agree, 0 or more.

    Returns:
        NSD of each label; 0 where one map lacks it, NaN where both do.

    Raises:
        InputError: a map does not fit the grid, a label is not a whole number from 0 upward, or the
            tolerance is negative or not finite.
    """
    if not 0 <= tolerance_mm < math.inf:
        raise InputError(f"the tolerance is {tolerance_mm:g} mm; give a length of 0 mm or more.")
    fixed, moved = (surface_elements(values, grid) for values in (fixed_labels, moved_labels))
    found = {}
    for label in map(int, labels):
        areas = [one.get(label, _NO_SURFACE).weights for one in (fixed, moved)]
        near = sum(
            float(weights[distances <= tolerance_mm].sum())
            for weights, distances in zip(areas, _directed(fixed, moved, label), strict=True)
            if len(distances)
        )
        total = float(areas[0].sum() + areas[1].sum())
        found[label] = near / total if total else math.nan
    return found


def hd95_vox(
    fixed_labels: Array, moved_labels: Array, grid: Grid, labels: Sequence[int]
) -> dict[int, float]:
    """HD95 of each label in voxels as in Learn2Reg; lower is better.

    The larger of the two directed 95th percentiles of the distances between surface elements,
    weighted by their area, with a voxel size of 1 along each axis (DeepMind's surface-distance;
    Hering et al. 2023, doi:10.1109/TMI.2022.3213983).

    Args:
        fixed_labels: label map of the fixed image.
        moved_labels: moving label map on the fixed grid, by nearest neighbour.
        grid: the fixed grid; only its shape matters.
        labels: labels to measure, without 0.

    Returns:
        HD95 of each label; infinite where one map lacks it, NaN where both do.

    Raises:
        InputError: a map does not fit the grid, or a label is not a whole number from 0 upward.
    """
    voxels = Grid.of_spacing(grid.shape)
    fixed, moved = (surface_elements(values, voxels) for values in (fixed_labels, moved_labels))
    found = {}
    for label in map(int, labels):
        present = [label in one for one in (fixed, moved)]
        if not all(present):
            found[label] = math.inf if any(present) else math.nan
            continue
        directed = zip((fixed, moved), _directed(fixed, moved, label), strict=True)
        found[label] = max(_percentile(d, one[label].weights, 0.95) for one, d in directed)
    return found


def _percentile(
    distances: NDArray[np.float64], weights: NDArray[np.float64], share: float
) -> float:
    """The smallest distance up to which the distances have a share of all weights."""
    order = np.argsort(distances, kind="stable")
    cumulated = np.cumsum(weights[order]) / weights.sum()
    return float(distances[order][min(int(np.searchsorted(cumulated, share)), len(order) - 1)])


def _directed(
    first: dict[int, Surface], second: dict[int, Surface], label: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``(N,)`` distances from each point of one surface to the other, and ``(M,)`` back.

    They are infinite where the other surface is empty.
    """
    from scipy.spatial import cKDTree  # slow to import, needed only here

    a, b = (one.get(label, _NO_SURFACE).points for one in (first, second))
    if not len(a) or not len(b):
        return np.full(len(a), math.inf), np.full(len(b), math.inf)
    of_a, of_b = (
        cKDTree(points, leafsize=32, balanced_tree=False, compact_nodes=False) for points in (a, b)
    )  # fast to build, since each is queried once
    return of_b.query(a)[0], of_a.query(b)[0]


def _surface_voxels(labels: Array, grid: Grid) -> dict[int, Surface]:
    """Surface voxels of each label, in mm from voxel 0."""
    array = whole_numbers(on_grid(labels, grid))
    edge = np.zeros(array.shape, bool)
    for axis in range(array.ndim):
        along, on_edge = np.moveaxis(array, axis, 0), np.moveaxis(edge, axis, 0)
        changes = along[1:] != along[:-1]
        on_edge[1:] |= changes
        on_edge[:-1] |= changes
        on_edge[[0, -1]] = True
    edge &= array != 0
    return Surface.by_label(array[edge], np.argwhere(edge), np.ones(int(edge.sum())), grid)
