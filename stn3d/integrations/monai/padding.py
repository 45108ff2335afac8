"""Padding by values of the image, as a transform that maps points outside of it into it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stn3d.grid import Grid, apply_matrix
from stn3d.integrations.monai.modes import Fold
from stn3d.transforms import Transform


@dataclass(frozen=True, eq=False, repr=False)
class IntoImage(Transform):
    """Maps points outside of an image to points inside; points inside stay.

    Args:
        grid: grid of the image.
        rule: ``border`` maps to the nearest voxel centre of the outer voxels, ``reflection``
            mirrors at the outer faces.
    """

    grid: Grid
    rule: Fold

    @property
    def ndim(self) -> int:
        return self.grid.ndim

    def _map(self, points_mm: Tensor) -> Tensor:
        index = apply_matrix(self.grid.index_from_world, points_mm)
        size = torch.tensor(self.grid.shape).to(index)
        if self.rule == "reflection":
            index = (index + 0.5).remainder(2 * size)
            index = torch.minimum(index, 2 * size - index) - 0.5
        index = torch.minimum(index.clamp(min=0), size - 1)
        return apply_matrix(self.grid.world_from_index, index)

    def inverse(self) -> Transform:
        raise NotImplementedError("several points outside of the image are mapped to one inside.")
