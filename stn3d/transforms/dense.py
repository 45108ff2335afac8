"""Dense transforms: displacement fields and stationary velocity fields, each on its own grid.

Convention: vectors are in world RAS+ millimetres, components (x, y, z) on the channel axis. A field
is interpolated linearly and is zero beyond the outer faces of its grid, as in ITK's displacement
field transform, so a saved field equals the field in memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from stn3d import kernels
from stn3d.arguments import TensorLike, points_tensor, tensor_arguments
from stn3d.display import number
from stn3d.grid import Grid, apply_matrix
from stn3d.sampler import sample
from stn3d.transforms.base import Transform, chain

_TOLERANCE_VOX = 1e-2  # of an inverse
_ROUNDING_VOX = 1e-4  # by which rounding may move the edge of a grid
_MAX_GROWTH = 8  # largest grid of an inverse relative to that of the field, in voxels


def _vectors_at(field: Tensor, grid: Grid, points_mm: Tensor) -> Tensor:
    """Vectors of a field at world points ``(..., d)``; ``(B or 1, ..., d)`` for a batch."""
    points = points_mm if field.shape[0] > 1 else points_mm[None]
    index = apply_matrix(grid.index_from_world, points)
    index = index.reshape(index.shape[0], -1, grid.ndim).to(field.device)
    vectors = sample(field, index).transpose(1, 2)
    batch = vectors.shape[:1] if field.shape[0] > 1 else points_mm.shape[:1]
    return vectors.reshape(*batch, *points_mm.shape[1:]).to(points_mm)


def _largest(field: Tensor) -> float:
    """Length of the longest vector of a field ``(B, d, ...)``."""
    return max(float(one.norm(dim=0).max()) for one in field.detach())


def _batch(field: Tensor) -> list[tuple[str, str]]:
    return [("batch", f"{len(field)} fields")] if len(field) > 1 else []


def _check(field: Tensor, grid: Grid) -> None:
    expected = (grid.ndim, *grid.shape)
    if field.ndim != grid.ndim + 2 or tuple(field.shape[1:]) != expected:
        raise ValueError(
            f"a field on this grid has the shape (B, {expected}); got {tuple(field.shape)}."
        )


@dataclass(frozen=True, eq=False, repr=False)
class DisplacementField(Transform):
    """Displacement field, ``x -> x + u(x)`` with u at the voxels of a grid.

    Args:
        displacement_mm: ``(B, d, *grid.shape)`` vectors in world millimetres.
        grid: grid of the vectors.

    Raises:
        ValueError: the field does not fit the grid.

    Examples:
        A displacement along x that grows by 0.5 mm per voxel:

        >>> u = torch.zeros(1, 2, 4, 4)
        >>> u[0, 0] = 0.5 * torch.arange(4)[:, None]
        >>> field = DisplacementField(u, Grid.of_spacing((4, 4)))
        >>> field(torch.tensor([[2.0, 1.0], [2.5, 1.0], [9.0, 1.0]]))
        tensor([[3.0000, 1.0000],
                [3.7500, 1.0000],
                [9.0000, 1.0000]])
        >>> field.inverse()(torch.tensor([[3.0, 1.0]]))
        tensor([[2., 1.]])
    """

    displacement_mm: Tensor
    grid: Grid

    def __post_init__(self) -> None:
        object.__setattr__(self, "displacement_mm", points_tensor(self.displacement_mm))
        _check(self.displacement_mm, self.grid)

    @property
    def ndim(self) -> int:
        return self.grid.ndim

    def _rows(self) -> list[tuple[str, str]]:
        largest = ("largest displacement", number(_largest(self.displacement_mm), "mm"))
        return [largest, *_batch(self.displacement_mm), *self.grid.description().rows]

    def _map(self, points_mm: Tensor) -> Tensor:
        return points_mm + _vectors_at(self.displacement_mm, self.grid, points_mm)

    def inverse(self) -> DisplacementField:
        """The inverse field on the same grid; `invert` also returns its residual."""
        return self.invert()[0]

    def invert(
        self,
        grid: Grid | None = None,
        tolerance_mm: float | None = None,
        max_iterations: int = 40,
    ) -> tuple[DisplacementField, float]:
        """Invert the field at the voxels of a grid.

        Fixed-point iteration ``w <- -u(y + w)`` (Chen et al. 2008, doi:10.1118/1.2816107), with
        Newton steps at points where it does not converge.

        Args:
            grid: grid of the inverse field. Default: the grid of the field.
            tolerance_mm: iterations at a point end when ``|w + u(y + w)|`` is below this. Default:
                a hundredth of the field's smallest voxel edge.
            max_iterations: maximum number of evaluations per point, in each of two attempts.

        Returns:
            The inverse field and its residual, the maximum of ``|w + u(y + w)|`` over the voxels of
            the grid, in mm. A large residual means that the field folds or points out of its grid.
        """
        grid = grid or self.grid
        if tolerance_mm is None:
            tolerance_mm = _TOLERANCE_VOX * min(self.grid.spacing_mm)
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
    """Sample any transform as a displacement field, in float64.

    Args:
        transform: fixed points to moving points, not a batch.
        grid: grid of the field.
        max_points: number of points mapped at a time, which limits memory use.
    """
    field = torch.empty(grid.num_voxels, grid.ndim)
    first = 0
    for rows in grid.slabs():
        for points in grid.points_mm(rows).reshape(-1, grid.ndim).split(max_points):
            field[first : first + len(points)] = transform(points) - points
            first += len(points)
    return DisplacementField(field.T.reshape(1, grid.ndim, *grid.shape), grid)


def rounded(field: DisplacementField) -> DisplacementField:
    """Round a field to 1/256 of its smallest voxel edge, so that files compress better."""
    quantum = 2.0 ** math.floor(math.log2(min(field.grid.spacing_mm) / 256))
    vectors = (field.displacement_mm / quantum).round_().mul_(quantum)
    return DisplacementField(vectors, field.grid)


def covering(field: DisplacementField, points_mm: TensorLike) -> DisplacementField:
    """A field that covers given points, with zeros around what it covered before.

    Other tools differ in what they do outside a field. A field whose outermost vectors are 0, as
    registrations return it, is the same transform with these zeros. A field that does not vanish
    at its border gets at least one voxel of zeros on each side.

    Args:
        field: the field.
        points_mm: ``(n, d)`` points to cover.
    """
    d, shape = field.ndim, field.grid.shape
    index = apply_matrix(field.grid.index_from_world, points_tensor(points_mm).double())
    edges = [index.amin(0) + _ROUNDING_VOX, index.amax(0) - _ROUNDING_VOX]
    ring = 0 if _vanishes_at_border(field.displacement_mm) else 1
    low = [min(-ring, math.floor(v)) for v in edges[0].tolist()]
    high = [max(n + ring, math.ceil(v) + 1) for n, v in zip(shape, edges[1].tolist(), strict=True)]
    if low == [0] * d and high == list(shape):
        return field
    grid = field.grid.cropped(low, high)
    vectors = field.displacement_mm.new_zeros(*field.displacement_mm.shape[:2], *grid.shape)
    inside = (slice(-a, n - a) for a, n in zip(low, shape, strict=True))
    vectors[(slice(None), slice(None), *inside)] = field.displacement_mm
    return DisplacementField(vectors, grid)


def _vanishes_at_border(vectors: Tensor) -> bool:
    """Whether the outermost vectors along each axis of several voxels are 0."""
    axes = [axis for axis in range(2, vectors.ndim) if vectors.shape[axis] > 1]
    return not any(bool(vectors.select(axis, end).any()) for axis in axes for end in (0, -1))


def invert_fields(transform: Transform) -> tuple[Transform, float]:
    """Invert a transform part by part: fields as fields, all other parts by their own inverse.

    The inverse of a field that is 0 at its border lies on the grid of the field; that of any other
    field covers all points that the field maps to. Fields are rounded like saved ones.

    Args:
        transform: fixed points to moving points.

    Returns:
        The inverse, and the largest residual of its fields in mm; see `DisplacementField.invert`.
    """
    found: list[Transform] = []
    residual_mm = 0.0
    for part in reversed(transform.parts):
        field = part.displacement if isinstance(part, VelocityField) else part
        if isinstance(field, DisplacementField):
            inverse, left = field.invert(_grid_of_inverse(field))
            found.append(rounded(inverse))
            residual_mm = max(residual_mm, left)
        else:
            found.append(part.inverse())
    return chain(*found), residual_mm


def _grid_of_inverse(field: DisplacementField) -> Grid:
    """The grid of the field, extended to all points that its border maps to."""
    grid, vectors = field.grid, field.displacement_mm[0].detach()
    faces = [
        (axis, end) for axis, n in enumerate(grid.shape) for end in ((0, n - 1) if n > 1 else ())
    ]
    border = [vectors.select(axis + 1, end).reshape(grid.ndim, -1).T for axis, end in faces]
    if _vanishes_at_border(field.displacement_mm[:1]):
        return grid
    points = grid.points_mm()
    ends = [points.select(axis, end).reshape(-1, grid.ndim) for axis, end in faces]
    wider = grid.covering(torch.cat([*(a + b for a, b in zip(ends, border, strict=True)), *ends]))
    return wider if wider.num_voxels <= _MAX_GROWTH * grid.num_voxels else grid


@tensor_arguments(["first", "second"])
def compose(first: Tensor, second: Tensor, grid: Grid) -> Tensor:
    """Displacement of ``x -> second(first(x))`` for two fields ``(B, d, *shape)`` on one grid."""
    return in_mm(kernels.compose(in_voxels(first, grid), in_voxels(second, grid)), grid)


def in_voxels(vectors_mm: Tensor, grid: Grid) -> Tensor:
    """Convert world vectors ``(B, d, ...)`` in mm to voxels along the axes of a grid."""
    matrix = torch.linalg.inv(grid.world_from_index[:-1, :-1])
    return torch.einsum("ab,nb...->na...", matrix.to(vectors_mm), vectors_mm)


def in_mm(vectors_vox: Tensor, grid: Grid) -> Tensor:
    """Convert vectors ``(B, d, ...)`` in voxels along the axes of a grid to world vectors in mm."""
    matrix = grid.world_from_index[:-1, :-1]
    return torch.einsum("ab,nb...->na...", matrix.to(vectors_vox), vectors_vox)


@dataclass(frozen=True, eq=False, repr=False)
class VelocityField(Transform):
    """Exponential ``exp(v)`` of a stationary velocity field v, by scaling and squaring.

    Arsigny et al. 2006, doi:10.1007/11866565_113. The inverse is ``exp(-v)``.

    Args:
        velocity_mm: ``(B, d, *grid.shape)`` vectors in world millimetres.
        grid: grid of the vectors.
        squarings: number of squarings after division of the field by ``2**squarings``.

    Raises:
        ValueError: the field does not fit the grid.
    """

    velocity_mm: Tensor
    grid: Grid
    squarings: int = 7

    def __post_init__(self) -> None:
        object.__setattr__(self, "velocity_mm", points_tensor(self.velocity_mm))
        _check(self.velocity_mm, self.grid)

    @property
    def ndim(self) -> int:
        return self.grid.ndim

    def _rows(self) -> list[tuple[str, str]]:
        largest = ("largest velocity", number(_largest(self.velocity_mm), "mm"))
        return [largest, *_batch(self.velocity_mm), *self.grid.description().rows]

    @property
    def displacement(self) -> DisplacementField:
        """Displacement field of ``exp(v)`` on the same grid, cached."""
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

    def _map(self, points_mm: Tensor) -> Tensor:
        return self.displacement.forward(points_mm)

    def inverse(self) -> VelocityField:
        return VelocityField(-self.velocity_mm, self.grid, self.squarings)
