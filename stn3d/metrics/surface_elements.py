"""Surfaces of labels as points with weights; surface elements with their areas."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn3d.grid import Grid
from stn3d.metrics.arrays import Array, on_grid
from stn3d.metrics.labels import whole_numbers


@dataclass(frozen=True, eq=False)
class Surface:
    """The surface of a label.

    Args:
        points: ``(N, d)`` in mm.
        weights: ``(N,)`` weight of each point.
    """

    points: NDArray[np.float64]
    weights: NDArray[np.float64]

    @classmethod
    def by_label(
        cls,
        labels: NDArray[Any],
        index: NDArray[Any],
        weights: NDArray[np.float64],
        grid: Grid,
    ) -> dict[int, Surface]:
        """The surface of each label.

        Args:
            labels: ``(N,)`` label of each point.
            index: ``(N, d)`` position of each point in voxels.
            weights: ``(N,)`` weight of each point.
            grid: points are in mm from its voxel 0.
        """
        order = np.argsort(labels, kind="stable")
        points = index[order] @ grid.world_from_index[:-1, :-1].numpy().T
        values, starts = np.unique(labels[order], return_index=True)
        parts = (np.split(array, starts[1:]) for array in (points, weights[order]))
        return dict(zip(values.tolist(), map(cls, *parts), strict=False))


def surface_elements(labels: Array, grid: Grid) -> dict[int, Surface]:
    """Surface elements of each label, weighted by area in mm² (in 2D, by length in mm).

    There is an element at each corner of voxels where some but not all of the adjacent voxels
    (8, in 2D 4) hold the label. Its area is that of the marching cubes' triangles there. Voxels
    outside the image hold no label, so a label that touches the image's border has a surface there.
    Nikolov et al. 2021, doi:10.2196/26151.

    Args:
        labels: label map.
        grid: its grid.

    Raises:
        InputError: the map does not fit the grid, or a label is not a whole number from 0 upward.
    """
    from monai.metrics.utils import get_code_to_measure_table  # slow to import, needed only here

    array = np.pad(whole_numbers(on_grid(labels, grid)), 1)
    ndim = array.ndim
    offsets = list(product((0, 1), repeat=ndim))
    views = [
        array[tuple(slice(o, n - 1 + o) for o, n in zip(offset, array.shape, strict=True))]
        for offset in offsets
    ]
    mixed = np.any([view != views[0] for view in views[1:]], axis=0)
    around = np.stack([view[mixed] for view in views])  # (2^d, N) labels around each corner
    corners = np.argwhere(mixed) - 0.5
    table, kernel = get_code_to_measure_table(list(grid.spacing_mm))
    areas, bits = np.asarray(table, np.float64), np.asarray(kernel).reshape(-1).astype(np.int64)
    found = []
    for number, here in enumerate(around):
        first = here != 0
        for other in around[:number]:  # each label of a corner once
            first &= other != here
        code = sum(
            bit * (other[first] == here[first]) for bit, other in zip(bits, around, strict=True)
        )
        found.append((here[first], corners[first], areas[code]))
    values, index, weights = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Surface.by_label(values, index, weights, grid)
