"""Dense transforms: displacement fields and stationary velocity fields on a grid of their own.

Convention: vectors are world RAS+ millimetres, components (x, y, z) on the channel axis. Between
voxels a field is linear, beyond its grid's outer faces it is zero, as ITK's displacement field
transform has it; so a saved field is exactly the field that was used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from stn3d import kernels
from stn3d.grid import Grid, apply_matrix
from stn3d.sampler import sample
from stn3d.transforms.base import Transform


def _vectors_at(field: Tensor, grid: Grid, points_mm: Tensor) -> Tensor:
    """A field's vectors at world points ``(..., d)``; for a batch's field ``(B or 1, ..., d)``."""
    points = points_mm if field.shape[0] > 1 else points_mm[None]
    index = apply_matrix(grid.index_from_world, points)
    index = index.reshape(index.shape[0], -1, grid.ndim).to(field.device)
    vectors = sample(field, index).transpose(1, 2)
    batch = vectors.shape[:1] if field.shape[0] > 1 else points_mm.shape[:1]
    return vectors.reshape(*batch, *points_mm.shape[1:]).to(points_mm)


def _check(field: Tensor, grid: Grid) -> None:
    expected = (grid.ndim, *grid.shape)
    if field.ndim != grid.ndim + 2 or tuple(field.shape[1:]) != expected:
        raise ValueError(f"a field on this grid is (B, {expected}); got {tuple(field.shape)}.")


@dataclass(frozen=True, eq=False)
class DisplacementField(Transform):
    """``x -> x + u(x)`` with u given at the voxels of a grid.

    Args:
        displacement_mm: ``(B, d, *grid.shape)`` vectors in world millimetres.
        grid: where the vectors stand.

    Raises:
        ValueError: the field does not fit the grid.
    """

    displacement_mm: Tensor
    grid: Grid

    def __post_init__(self) -> None:
        _check(self.displacement_mm, self.grid)

    @property
    def ndim(self) -> int:
        return self.grid.ndim

    def forward(self, points_mm: Tensor) -> Tensor:
        return points_mm + _vectors_at(self.displacement_mm, self.grid, points_mm)

    def inverse(self) -> DisplacementField:
        """The inverse field on the same grid; `invert` also states its residual."""
        return self.invert()[0]

    def invert(
        self,
        grid: Grid | None = None,
        tolerance_mm: float = 1e-2,
        max_iterations: int = 40,
    ) -> tuple[DisplacementField, float]:
        """Invert the field at the voxels of a grid.

        Fixed-point iteration ``w <- -u(y + w)`` (Chen et al. 2008, doi:10.1118/1.2816107), and
        Newton steps for the points at which that does not contract.

        Args:
            grid: where to give the inverse; the field's own grid by default.
            tolerance_mm: a point is done when ``|w + u(y + w)|`` is below this.
            max_iterations: at most this many evaluations for a point, in each of two trials.

        Returns:
            The inverse field and its residual: the largest ``|w + u(y + w)|`` in millimetres at the
            voxels of the grid. A large residual says that the field folds or leaves its grid.
        """
        grid = grid or self.grid
        w, residual_mm = kernels.invert(
            in_voxels(self.displacement_mm.detach(), self.grid),
            self.grid.index_from_world @ grid.world_from_index,
            grid.shape,
            self.grid.world_from_index[:-1, :-1],
            tolerance_mm,
            max_iterations,
        )
        return DisplacementField(in_mm(w, self.grid), grid), residual_mm


@torch.no_grad()
def sampled(transform: Transform, grid: Grid, max_points: int = 1 << 14) -> DisplacementField:
    """Any transform as a displacement field.

    Args:
        transform: fixed points to moving points, no batch.
        grid: where it is sampled, in 64 bits; between voxels the field is linear.
        max_points: so many points at once, for the sake of memory and caches.
    """
    field = torch.empty(grid.num_voxels, grid.ndim)
    first = 0
    for rows in grid.slabs():
        for points in grid.points_mm(rows).reshape(-1, grid.ndim).split(max_points):
            field[first : first + len(points)] = transform(points) - points
            first += len(points)
    return DisplacementField(field.T.reshape(1, grid.ndim, *grid.shape), grid)


def rounded(field: DisplacementField) -> DisplacementField:
    """The field to a 256th of its smallest voxel edge: fewer random bits, so that files shrink."""
    quantum = 2.0 ** math.floor(math.log2(min(field.grid.spacing_mm) / 256))
    vectors = (field.displacement_mm / quantum).round_().mul_(quantum)
    return DisplacementField(vectors, field.grid)


def compose(first: Tensor, second: Tensor, grid: Grid) -> Tensor:
    """Displacements of ``x -> second(first(x))`` for two fields ``(B, d, *shape)`` on one grid."""
    return in_mm(kernels.compose(in_voxels(first, grid), in_voxels(second, grid)), grid)


def in_voxels(vectors_mm: Tensor, grid: Grid) -> Tensor:
    """Vectors along the axes of a grid, in its voxels, of world vectors ``(B, d, ...)``."""
    matrix = torch.linalg.inv(grid.world_from_index[:-1, :-1])
    return torch.einsum("ab,nb...->na...", matrix.to(vectors_mm), vectors_mm)


def in_mm(vectors_vox: Tensor, grid: Grid) -> Tensor:
    """World vectors of vectors ``(B, d, ...)`` along the axes of a grid, in its voxels."""
    matrix = grid.world_from_index[:-1, :-1]
    return torch.einsum("ab,nb...->na...", matrix.to(vectors_vox), vectors_vox)


@dataclass(frozen=True, eq=False)
class VelocityField(Transform):
    """``exp(v)`` of a stationary velocity field, by scaling and squaring.

    Arsigny et al. 2006, doi:10.1007/11866565_113. The inverse is ``exp(-v)``.

    Args:
        velocity_mm: ``(B, d, *grid.shape)`` vectors in world millimetres.
        grid: where the vectors stand.
        squarings: the field is divided by ``2**squarings`` and composed with itself that often.

    Raises:
        ValueError: the field does not fit the grid.
    """

    velocity_mm: Tensor
    grid: Grid
    squarings: int = 7

    def __post_init__(self) -> None:
        _check(self.velocity_mm, self.grid)

    @property
    def ndim(self) -> int:
        return self.grid.ndim

    @property
    def displacement(self) -> DisplacementField:
        """The displacement field of ``exp(v)`` on the same grid; kept once it is reckoned."""
        if torch.is_grad_enabled() and self.velocity_mm.requires_grad:
            return self._with_gradients
        return self._without_gradients

    @cached_property
    def _with_gradients(self) -> DisplacementField:
        return self._exponential()

    @cached_property
    def _without_gradients(self) -> DisplacementField:
        with torch.no_grad():
            return self._exponential()

    def _exponential(self) -> DisplacementField:
        u = kernels.exponential(in_voxels(self.velocity_mm, self.grid), self.squarings)
        return DisplacementField(in_mm(u, self.grid), self.grid)

    def forward(self, points_mm: Tensor) -> Tensor:
        return self.displacement.forward(points_mm)

    def inverse(self) -> VelocityField:
        return VelocityField(-self.velocity_mm, self.grid, self.squarings)
