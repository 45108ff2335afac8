"""Dense transforms: displacement fields and stationary velocity fields on a grid of their own.

Convention: vectors are world RAS+ millimetres, components (x, y, z) on the channel axis. Between
voxels a field is linear, beyond its grid's outer faces it is zero, as ITK's displacement field
transform has it; so a saved field is exactly the field that was used.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from stn3d.grid import Grid, apply_matrix
from stn3d.sampler import sample
from stn3d.transforms.base import Transform


def _vectors_at(field: Tensor, grid: Grid, points_mm: Tensor) -> Tensor:
    """A field's vectors at world points ``(..., d)``, or ``(B, ..., d)`` for a field of a batch."""
    points = points_mm if field.shape[0] > 1 else points_mm[None]
    index = apply_matrix(grid.index_from_world, points)
    index = index.reshape(index.shape[0], -1, grid.ndim).to(field.device)
    vectors = sample(field, index).transpose(1, 2)
    return vectors.reshape(points_mm.shape).to(points_mm)


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
            max_iterations: at most this many evaluations for a point.

        Returns:
            The inverse field and its residual: the largest ``|w + u(y + w)|`` in millimetres at the
            voxels of the grid. A large residual says that the field folds or leaves its grid.
        """
        grid = grid or self.grid
        batches = [
            _invert_one(
                DisplacementField(one[None].detach(), self.grid), grid, tolerance_mm, max_iterations
            )
            for one in self.displacement_mm
        ]
        inverse = torch.stack([w for w, _ in batches])
        return DisplacementField(inverse, grid), max(residual for _, residual in batches)


def _invert_one(
    field: DisplacementField, grid: Grid, tolerance_mm: float, max_iterations: int
) -> tuple[Tensor, float]:
    """Inverse displacements ``(d, *shape)`` of one field and the largest residual left."""
    u = field.displacement_mm
    guess: Transform | None = None
    if min(grid.shape) >= 16:
        coarse = grid.resampled([2 * s for s in grid.spacing_mm])
        w, _ = _invert_one(field, coarse, 10 * tolerance_mm, max_iterations)
        guess = DisplacementField(w[None], coarse)
    slabs, largest = [], 0.0
    for rows in grid.slabs():
        target = grid.points_mm(rows, dtype=u.dtype, device=u.device)
        start = torch.zeros_like(target) if guess is None else guess.forward(target) - target
        w, left = _solve(
            field, target.flatten(0, -2), start.flatten(0, -2), tolerance_mm, max_iterations
        )
        slabs.append(w.reshape(target.shape))
        largest = max(largest, float(left.max()))
    return torch.cat(slabs).movedim(-1, 0), largest


def _solve(
    field: DisplacementField,
    target: Tensor,
    start: Tensor,
    tolerance_mm: float,
    max_iterations: int,
) -> tuple[Tensor, Tensor]:
    """``w`` with ``w + u(target + w) = 0`` and what is left of it, for points ``(N, d)``."""
    best, w = start.clone(), start.clone()
    left = torch.full_like(target[:, 0], torch.inf)
    active = torch.arange(len(target), device=target.device)
    for iteration in range(max_iterations):
        residual = field.forward(target[active] + w[active]) - target[active]
        size = torch.linalg.vector_norm(residual, dim=-1)
        better = size < left[active]
        best[active[better]], left[active[better]] = w[active[better]], size[better]
        keep = size > tolerance_mm
        active, residual = active[keep], residual[keep]
        if len(active) == 0:
            break
        if iteration >= 4:
            residual = _newton_step(field, target[active] + w[active], residual)
        w[active] -= residual
    return best, left


def _newton_step(field: DisplacementField, at: Tensor, residual: Tensor) -> Tensor:
    """Newton's step where the Jacobian allows it, at most two voxels long."""
    jacobian = field.jacobian(at)
    usable = torch.linalg.det(jacobian) > 0.05
    step = residual.clone()
    step[usable] = torch.linalg.solve(jacobian[usable], residual[usable][..., None])[..., 0]
    length = torch.linalg.vector_norm(step, dim=-1, keepdim=True).clamp(min=1e-12)
    return step * (2 * max(field.grid.spacing_mm) / length).clamp(max=1)


def compose(first: Tensor, second: Tensor, grid: Grid) -> Tensor:
    """Displacements of ``x -> second(first(x))`` for two fields ``(B, d, *shape)`` on one grid."""
    world_from_index = grid.world_from_index[:-1, :-1].to(first)
    index_vectors = torch.einsum("ab,nb...->na...", torch.linalg.inv(world_from_index), first)
    points = grid.points_index(dtype=first.dtype, device=first.device)
    return first + sample(second, points[None] + index_vectors.movedim(1, -1))


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
        u = self.velocity_mm / 2**self.squarings
        for _ in range(self.squarings):
            u = compose(u, u, self.grid)
        return DisplacementField(u, self.grid)

    def forward(self, points_mm: Tensor) -> Tensor:
        return self.displacement.forward(points_mm)

    def inverse(self) -> VelocityField:
        return VelocityField(-self.velocity_mm, self.grid, self.squarings)
