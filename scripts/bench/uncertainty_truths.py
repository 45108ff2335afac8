"""Truths that are known at some points alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stn3d import Grid
from stn3d.grid import apply_matrix


@dataclass(frozen=True, eq=False)
class Landmarks:
    """A truth that is known at some points alone.

    Args:
        fixed: ``(N, 3)`` fixed points.
        moving: their true counterparts.
    """

    fixed: Tensor
    moving: Tensor

    def __call__(self, points: Tensor) -> Tensor:
        """The counterparts of exactly these points."""
        assert torch.equal(points, self.fixed)
        return self.moving


@dataclass(frozen=True, eq=False)
class VoxelShifts:
    """A truth that is known at the centres of voxels.

    Args:
        grid: the grid.
        shifts_vox: ``(1, d, *grid.shape)``.
    """

    grid: Grid
    shifts_vox: Tensor

    def __call__(self, points: Tensor) -> Tensor:
        """The counterparts of points; those of the nearest voxels are shifted."""
        index = apply_matrix(self.grid.index_from_world, points)
        nearest = index.round().long()
        shifts = self.shifts_vox[(0, slice(None), *nearest.T)].T
        return apply_matrix(self.grid.world_from_index, index + shifts)
