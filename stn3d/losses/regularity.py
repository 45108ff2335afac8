"""Regularisation of displacement fields: lower is better, zero at the identity.

Derivatives are taken with respect to world millimetres for any spacing, rotation or shear of the
grid, and every loss is a mean: a physical field has the same loss on every grid that resolves it.
Masks are weights ``(B or 1, 1, *shape)`` from 0 to 1. A difference has the product of the weights
of its voxels (first differences) or their minimum, so vectors at voxels of weight 0 have no
influence. Along an axis with too few voxels (one, or below three for second derivatives) a field
is treated as constant.
"""

from __future__ import annotations

import math
from itertools import combinations, combinations_with_replacement, product

import torch.nn.functional as F
from torch import Tensor

from stn3d.arguments import tensor_arguments
from stn3d.grid import Grid
from stn3d.losses.masked import masked_mean
from stn3d.transforms import Transform

# Cosine below which axes are treated as perpendicular: headers have float32 precision.
_PERPENDICULAR = 1e-5


@tensor_arguments(["displacement_mm"])
def diffusion(displacement_mm: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
    """Mean squared gradient ``mean |du/dx|^2`` (Frobenius norm), a dimensionless scalar.

    Fischer and Modersitzki 2002, Fast diffusion registration. Differences of neighbouring voxels,
    so that only constant fields give 0.

    Args:
        displacement_mm: ``(B, d, *grid.shape)`` vectors in world millimetres.
        grid: Grid of the vectors.
        mask: Voxel weights.

    Raises:
        ValueError: The field or the mask does not match the grid.
    """
    u, mask = displacement_mm, _check(displacement_mm, grid, mask)
    metric = _metric(grid)
    axes = [a for a, n in enumerate(grid.shape) if n > 1]
    total = u.new_zeros(())
    for a in axes:
        squares = (_step(u, a) ** 2).sum(dim=1, keepdim=True)
        total = total + metric[a][a] * masked_mean(squares, _ends_in(mask, a))
    for a, b in combinations(axes, 2):
        if abs(metric[a][b]) < _PERPENDICULAR * math.sqrt(metric[a][a] * metric[b][b]):
            continue
        by_a, by_b = _midpoint(_step(u, a), b), _midpoint(_step(u, b), a)
        products = (by_a * by_b).sum(dim=1, keepdim=True)
        total = total + 2 * metric[a][b] * masked_mean(products, _ends_in(_ends_in(mask, a), b))
    return total


@tensor_arguments(["displacement_mm"])
def bending(displacement_mm: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
    """Bending energy: mean squared second derivatives, a scalar in 1/mm^2.

    Mixed derivatives have weight 2. Affine displacements give 0. Rueckert et al. 1999,
    doi:10.1109/42.796284.

    Args:
        displacement_mm: ``(B, d, *grid.shape)`` vectors in world millimetres.
        grid: Grid of the vectors.
        mask: Voxel weights.

    Raises:
        ValueError: The field or the mask does not match the grid.
    """
    u, mask = displacement_mm, _check(displacement_mm, grid, mask)
    metric = _metric(grid)
    axes = [a for a, n in enumerate(grid.shape) if n > 2]
    pairs = list(combinations_with_replacement(axes, 2))
    if not pairs:
        return 0 * u.sum()
    second = {pair: _second_difference(u, axes, *pair) for pair in pairs}
    terms = []
    for p, q in combinations_with_replacement(pairs, 2):
        factor = _pair_metric(metric, p, q)
        scale = math.sqrt(_pair_metric(metric, p, p) * _pair_metric(metric, q, q))
        if abs(factor) > _PERPENDICULAR * scale:
            products = (second[p] * second[q]).sum(dim=1, keepdim=True)
            terms.append((factor if p == q else 2 * factor) * products)
    return masked_mean(sum(terms[1:], terms[0]), _all_within(mask, grid.shape, 3))


@tensor_arguments(["displacement_mm"])
def jacobian(
    displacement_mm: Tensor, grid: Grid, mask: Tensor | None = None, floor: float = 0.1
) -> Tensor:
    """Mean squared log-Jacobian determinant of ``x + u(x)``, extended linearly below a floor.

    The loss of a point with determinant J (volume after / volume before) is ``log(J)^2`` for J of
    at least ``floor``, and the tangent ``log(floor)^2 + 2 log(floor) / floor (J - floor)`` below:
    finite and with a gradient that undoes folding. Expansion and contraction by the same factor
    have the same loss (Rohlfing et al. 2003, doi:10.1109/TMI.2003.814791). The square is that of
    NiftyReg; the tangent is an extension of this package.

    J is evaluated at every corner of every cell of the linearly interpolated field. In 2D this
    detects all folding between voxels; central differences miss part of it (Liu et al. 2024,
    arXiv:2212.06060).

    Args:
        displacement_mm: ``(B, d, *grid.shape)`` vectors in world millimetres.
        grid: Grid of the vectors.
        mask: Voxel weights.
        floor: Determinant between 0 and 1 below which the loss is linear.

    Returns:
        A dimensionless scalar.

    Raises:
        ValueError: The field or the mask does not match the grid, or the floor is not in (0, 1).
    """
    if not 0 < floor < 1:
        raise ValueError(f"the floor must be between 0 and 1; got {floor}.")
    u, mask = displacement_mm, _check(displacement_mm, grid, mask)
    shape = grid.shape
    edges = list(
        grid.world_from_index[:-1, :-1].to(u).T.reshape(grid.ndim, 1, -1, *[1] * u[0, 0].ndim)
    )
    mapped = [e + _step(u, a) if shape[a] > 1 else e.expand_as(u) for a, e in enumerate(edges)]
    size = _determinant(edges)
    corners = list(product(*[range(min(n, 2)) for n in shape]))
    costs = [
        _log_squared(_determinant(_at_corner(mapped, shape, corner)) / size, floor)
        for corner in corners
    ]
    return masked_mean(sum(costs[1:], costs[0]) / len(corners), _all_within(mask, shape, 2))


@tensor_arguments(["points_mm"])
def inverse_consistency(
    forward: Transform, backward: Transform, points_mm: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Inverse-consistency error: mean of ``|backward(forward(x)) - x|^2``, a scalar in mm^2.

    Christensen and Johnson 2001, doi:10.1109/42.932742.

    Args:
        forward: Fixed points to moving points.
        backward: Moving points to fixed points.
        points_mm: ``(..., d)`` fixed points; ``(B, ..., d)`` for batched transforms.
        mask: Point weights, ``(...)``.
    """
    return _mean_squared_norm(backward(forward(points_mm)) - points_mm, mask)


@tensor_arguments(["points_mm"])
def identity_deviation(
    transform: Transform, points_mm: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Mean squared displacement ``|transform(x) - x|^2``, a scalar in mm^2.

    Args:
        transform: Fixed points to moving points.
        points_mm: ``(..., d)`` fixed points; ``(B, ..., d)`` for a batched transform.
        mask: Point weights, ``(...)``.
    """
    return _mean_squared_norm(transform(points_mm) - points_mm, mask)


def _mean_squared_norm(vectors: Tensor, mask: Tensor | None) -> Tensor:
    return masked_mean((vectors**2).sum(dim=-1), mask)


def _check(displacement_mm: Tensor, grid: Grid, mask: Tensor | None) -> Tensor | None:
    """The mask in the field's dtype, after checking both against the grid."""
    expected = (grid.ndim, *grid.shape)
    if tuple(displacement_mm.shape[1:]) != expected:
        raise ValueError(
            f"a field on this grid has shape (B, *{expected}); got {tuple(displacement_mm.shape)}."
        )
    if mask is None:
        return None
    if tuple(mask.shape[1:]) != (1, *grid.shape) or mask.shape[0] not in (1, len(displacement_mm)):
        raise ValueError(
            f"a mask on this grid has shape (B or 1, 1, *{grid.shape}); got {tuple(mask.shape)}."
        )
    return mask.to(displacement_mm)


def _metric(grid: Grid) -> list[list[float]]:
    """``(d, d)`` metric of index gradients, 1/mm^2; diagonal on a grid without shear.

    ``<df/dx, dg/dx> = sum_ab metric[a][b] df/di_a dg/di_b`` for world x and index i.
    """
    gradients = grid.index_from_world[:-1, :-1]
    metric: list[list[float]] = (gradients @ gradients.T).tolist()
    return metric


def _pair_metric(metric: list[list[float]], p: tuple[int, int], q: tuple[int, int]) -> float:
    """The coefficient of ``H_p H_q`` in the squared norm of a Hessian, for unordered axis pairs."""
    return sum(metric[a][c] * metric[b][e] for a, b in {p, p[::-1]} for c, e in {q, q[::-1]})


def _halves(field: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """All voxels except the last, and all except the first, along a spatial axis."""
    n = field.shape[axis + 2] - 1
    return field.narrow(axis + 2, 0, n), field.narrow(axis + 2, 1, n)


def _step(field: Tensor, axis: int) -> Tensor:
    """Differences of neighbouring voxels."""
    low, high = _halves(field, axis)
    return high - low


def _midpoint(field: Tensor, axis: int) -> Tensor:
    """Means of neighbouring voxels."""
    low, high = _halves(field, axis)
    return (low + high) / 2


def _ends_in(mask: Tensor | None, axis: int) -> Tensor | None:
    """Products of neighbouring weights."""
    if mask is None:
        return None
    low, high = _halves(mask, axis)
    return low * high


def _all_within(mask: Tensor | None, shape: tuple[int, ...], width: int) -> Tensor | None:
    """The minimum weight in each block of ``width`` voxels along axes with at least as many."""
    if mask is None:
        return None
    kernel = [width if n >= width else 1 for n in shape]
    pool = F.max_pool2d if len(shape) == 2 else F.max_pool3d
    least: Tensor = -pool(-mask, kernel, stride=1)
    return least


def _second_difference(field: Tensor, axes: list[int], a: int, b: int) -> Tensor:
    """Second difference along a and b at the interior voxels of the given axes."""

    def shifted(by_a: int, by_b: int) -> Tensor:
        view = field
        for axis in axes:
            start = 1 + by_a * (axis == a) + by_b * (axis == b)
            view = view.narrow(axis + 2, start, field.shape[axis + 2] - 2)
        return view

    if a == b:
        return shifted(1, 0) - 2 * shifted(0, 0) + shifted(-1, 0)
    return (shifted(1, 1) - shifted(1, -1) - shifted(-1, 1) + shifted(-1, -1)) / 4


def _at_corner(
    edges: list[Tensor], shape: tuple[int, ...], corner: tuple[int, ...]
) -> list[Tensor]:
    """The edges that meet in one corner of every cell, one along each axis."""
    chosen = []
    for a, edge in enumerate(edges):
        for b, n in enumerate(shape):
            if b != a and n > 1:
                edge = edge.narrow(b + 2, corner[b], n - 1)
        chosen.append(edge)
    return chosen


def _determinant(columns: list[Tensor]) -> Tensor:
    """``(B, 1, *shape)`` determinants of 2 or 3 column vectors ``(B, d, *shape)``."""
    if len(columns) == 2:
        (ax, ay), (bx, by) = (c.split(1, dim=1) for c in columns)
        plane: Tensor = ax * by - ay * bx
        return plane
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = (c.split(1, dim=1) for c in columns)
    volume: Tensor = ax * (by * cz - bz * cy) - bx * (ay * cz - az * cy) + cx * (ay * bz - az * by)
    return volume


def _log_squared(determinant: Tensor, floor: float) -> Tensor:
    """``log(J)^2``; below the floor its tangent at the floor."""
    above = determinant.clamp(min=floor)
    return above.log() ** 2 + 2 * math.log(floor) / floor * (determinant - above)
