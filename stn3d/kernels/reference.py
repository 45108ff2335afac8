"""The hot loops in plain torch: what is right, and what runs where nothing faster does.

Images are ``(B, C, *shape)``, d = 2 or 3; coordinates and vectors are in voxels, along the axes of
the grid that they stand on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stn3d.grid import apply_matrix


def sample_linear(image: Tensor, points_index: Tensor) -> Tensor:
    """Read between voxels; ``(B, C, N)`` at points ``(B, N, d)``. See `stn3d.kernels`."""
    values = _clamped(image, points_index)
    within = inside(points_index, tuple(image.shape[2:]))[:, None]
    return torch.where(within, values, torch.zeros_like(values))


def inside(points_index: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Which points lie in the physical domain of a grid of this shape; ``(...)`` bool.

    As in ITK the lower faces belong to it and the upper faces do not.
    """
    size = torch.tensor(shape, dtype=points_index.dtype, device=points_index.device)
    return ((points_index >= -0.5) & (points_index < size - 0.5)).all(dim=-1)


def _clamped(image: Tensor, points: Tensor) -> Tensor:
    """Linear interpolation by torch's grid_sample, its axes flipped, clamped at the border."""
    d = image.ndim - 2
    batch = max(image.shape[0], points.shape[0])
    points = points.to(torch.promote_types(points.dtype, image.dtype))
    size = torch.tensor(image.shape[2:], dtype=points.dtype, device=points.device)
    grid = (2 * points / (size - 1).clamp(min=1) - 1).flip(-1).to(image.dtype)
    grid = grid.reshape(grid.shape[0], *[1] * (d - 1), -1, d)
    return F.grid_sample(
        image.expand(batch, *image.shape[1:]),
        grid.expand(batch, *grid.shape[1:]),
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    ).reshape(batch, image.shape[1], -1)


def points_of(shape: Sequence[int], like: Tensor) -> Tensor:
    """Index coordinates of all voxels, ``(*shape, d)``."""
    axes = [torch.arange(n, dtype=like.dtype, device=like.device) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


def whole_shift(matrix: Tensor, shape: Sequence[int]) -> list[int] | None:
    """The whole voxels by which a matrix shifts a grid, if it does nothing else."""
    if matrix.requires_grad:
        return None
    shift = matrix[:-1, -1].round()
    gap = matrix[:-1].clone()
    gap[:, :-1] -= torch.eye(len(shape)).to(gap)
    gap[:, -1] -= shift
    far = torch.tensor([*shape, 1.0]).to(gap)
    return shift.int().tolist() if float((gap.abs() @ far).max()) < 1e-6 else None


class Moves(NamedTuple):
    """How a field, on a grid of its own, moves the points at which an image is read.

    Args:
        vectors: ``(1, d, *own)``; 0 beyond its faces.
        matrix: ``(d + 1, d + 1)`` homogeneous, the field's indices from the wanted grid's indices.
        linear: ``(d, d)``, the image's voxels from the vectors' unit.
    """

    vectors: Tensor
    matrix: Tensor
    linear: Tensor


def resample(
    image: Tensor,
    matrix: Tensor,
    shape: Sequence[int],
    moves: Moves | None = None,
    outside_value: float = 0.0,
    read: Callable[[Tensor, Tensor], Tensor] = sample_linear,
) -> Tensor:
    """An image at the voxels of a grid; ``read`` reads it at points. See `stn3d.kernels`."""
    planes, parts = max(1, (1 << 20) // math.prod(shape[1:])), []
    for first in range(0, shape[0], planes):
        slab = min(planes, shape[0] - first), *shape[1:]
        index = points_of(slab, image.new_empty((), dtype=torch.float64)).reshape(1, -1, len(shape))
        index[..., 0] += first
        points = apply_matrix(matrix, index)
        if moves is not None:
            vectors = read(moves.vectors, apply_matrix(moves.matrix, index))
            points = points + vectors.transpose(1, 2).to(points) @ moves.linear.to(points).T
        values = read(image, points)
        if outside_value != 0:
            within = inside(points, tuple(image.shape[2:]))[:, None]
            values = torch.where(within, values, values.new_full((), outside_value))
        parts.append(values.reshape(1, image.shape[1], *slab))
    return torch.cat(parts, dim=2)


class Warped(NamedTuple):
    """An image read through a transform.

    Args:
        moved: ``(1, C, *out)`` values; beyond the image's faces its outer voxels go on.
        coverage: ``(1, 1, *out)`` 1 well inside the image, fading over its last voxel to 0 at its
            faces; None where all is 1.
    """

    moved: Tensor
    coverage: Tensor | None


Buffers = tuple[Tensor, Tensor]


def buffers(image: Tensor, displacement_vox: Tensor) -> Buffers:
    """Zeros for the two results of `warp`."""
    shape = displacement_vox.shape[2:]
    return image.new_zeros(1, image.shape[1], *shape), image.new_zeros(1, 1, *shape)


def warp(image: Tensor, matrix: Tensor, displacement_vox: Tensor) -> Warped:
    """The moved image and how far inside it was read. See `stn3d.kernels`."""
    with torch.no_grad():
        moved, inside = _warped(image, matrix, displacement_vox)
    return Warped(moved, None if bool((inside == 1).all()) else inside)


def _warped(image: Tensor, matrix: Tensor, displacement_vox: Tensor) -> tuple[Tensor, Tensor]:
    shape = displacement_vox.shape[2:]
    linear = matrix.to(image)
    mapped = points_of(shape, image) + displacement_vox[0].movedim(0, -1)
    points = mapped @ linear[:-1, :-1].T + linear[:-1, -1]
    moved = _clamped(image, points.reshape(1, -1, len(shape)))
    inside = coverage(points, image.shape[2:])[None, None]
    return moved.reshape(1, image.shape[1], *shape), inside


def warp_slope(
    image: Tensor,
    matrix: Tensor,
    displacement_vox: Tensor,
    by_moved: Tensor,
    by_coverage: Tensor | None,
) -> Tensor:
    """A loss's derivative by the matrix of `warp`. See `stn3d.kernels`."""
    with torch.enable_grad():
        held = matrix.detach().requires_grad_()
        moved, inside = _warped(image, held, displacement_vox)
        total = (moved * by_moved).sum()
        if by_coverage is not None:
            total = total + (inside * by_coverage).sum()
        (slope,) = torch.autograd.grad(total, held)
    return slope[:-1].double().cpu()


def force(moved: Tensor, by_moved: Tensor) -> Tensor:
    """Where a loss falls most steeply. See `stn3d.kernels`."""
    along = []
    for axis in range(2, moved.ndim):
        slope = torch.zeros_like(moved)
        if moved.shape[axis] > 2:
            inner = slice(1, moved.shape[axis] - 1)
            ahead, behind = moved.movedim(axis, 0)[2:], moved.movedim(axis, 0)[:-2]
            slope.movedim(axis, 0)[inner] = 0.5 * (ahead - behind)
        along.append(-(by_moved * slope).sum(dim=1))
    return torch.stack(along, dim=1)


def coverage(points_index: Tensor, shape: Sequence[int]) -> Tensor:
    """How far points lie inside an image's faces, ``(...)``: see `Warped`.

    An axis of one voxel has no inside to fade from.
    """
    top = torch.tensor(shape).to(points_index) - 1
    depth = (torch.minimum(points_index, top - points_index) + 0.5).clamp(0, 1)
    return torch.where(top > 0, depth, (depth > 0).to(depth)).prod(dim=-1)


def compose(first_vox: Tensor, second_vox: Tensor) -> Tensor:
    """Displacements of ``x -> second(first(x))``. See `stn3d.kernels`."""
    shape = first_vox.shape[2:]
    points = points_of(shape, first_vox) + first_vox.movedim(1, -1)
    values = sample_linear(second_vox, points.reshape(points.shape[0], -1, len(shape)))
    return first_vox + values.reshape(first_vox.shape)


def take_step(step_vox: Tensor, field_vox: Tensor, limit: float) -> Tensor:
    """Compose with a step of limited length. See `stn3d.kernels`."""
    length = torch.linalg.vector_norm(step_vox, dim=1, keepdim=True)
    return compose(step_vox * (limit / length.clamp(min=limit)), field_vox)


def jacobian_determinant(displacement_vox: Tensor) -> Tensor:
    """Determinants of ``I + du/dx``. See `stn3d.kernels`."""
    moved = displacement_vox.movedim(1, -1)
    d = moved.shape[-1]
    columns = [
        torch.gradient(moved, dim=axis)[0] if moved.shape[axis] > 1 else torch.zeros_like(moved)
        for axis in range(1, d + 1)
    ]
    result: Tensor = torch.linalg.det(torch.stack(columns, dim=-1) + torch.eye(d).to(moved))
    return result


def invert(
    displacement_vox: Tensor,
    matrix: Tensor,
    shape: Sequence[int],
    mm_from_vox: Tensor,
    tolerance_mm: float,
    max_iterations: int,
) -> tuple[Tensor, float]:
    """The inverse field and its largest residual. See `stn3d.kernels`."""
    d, linear, largest = len(shape), matrix.to(displacement_vox), 0.0
    goal = points_of(shape, displacement_vox) @ linear[:-1, :-1].T + linear[:-1, -1]
    metric, out = mm_from_vox.to(displacement_vox), []
    for field in displacement_vox.detach().split(1):
        parts = []
        for points in goal.reshape(-1, d).split(1 << 20):
            w, left = _solve(field, points, metric, tolerance_mm, max_iterations)
            parts.append(w)
            largest = max(largest, float(left.max()))
        out.append(torch.cat(parts).T.reshape(d, *shape))
    return torch.stack(out), largest


def _solve(
    field: Tensor, goal: Tensor, metric: Tensor, tolerance_mm: float, max_iterations: int
) -> tuple[Tensor, Tensor]:
    """``w`` with ``w + u(goal + w) = 0`` and what is left in mm, for points ``(N, d)``."""
    best, w = torch.zeros_like(goal), torch.zeros_like(goal)
    left = torch.full_like(goal[:, 0], math.inf)
    active = torch.arange(len(goal), device=goal.device)
    for iteration in range(max_iterations):
        at = goal[active] + w[active]
        residual = w[active] + sample_linear(field, at[None])[0].T
        size = torch.linalg.vector_norm(residual @ metric.T, dim=-1)
        better = size < left[active]
        best[active[better]], left[active[better]] = w[active[better]], size[better]
        keep = size > tolerance_mm
        active, at, residual = active[keep], at[keep], residual[keep]
        if len(active) == 0:
            break
        w[active] -= residual if iteration < 4 else _newton_step(field, at, residual)
    return best, left


def _newton_step(field: Tensor, at: Tensor, residual: Tensor) -> Tensor:
    """Newton's step where the Jacobian allows it, else the residual; at most two voxels long."""
    with torch.enable_grad():
        points = at.detach().requires_grad_()
        values = sample_linear(field, points[None])[0]
        rows = [torch.autograd.grad(v.sum(), points, retain_graph=True)[0] for v in values]
    jacobian = torch.stack(rows, dim=-2) + torch.eye(at.shape[-1]).to(at)
    usable = torch.linalg.det(jacobian) > 0.05
    step = residual.clone()
    step[usable] = torch.linalg.solve(jacobian[usable], residual[usable][..., None])[..., 0]
    return step * (2 / torch.linalg.vector_norm(step, dim=-1, keepdim=True)).clamp(max=1)


def box_sum(image: Tensor, radii: Sequence[int]) -> Tensor:
    """Sums over windows of ``2 r + 1`` voxels along each axis; nothing lies beyond the faces."""
    result: Tensor = _BoxSum.apply(image, tuple(radii))
    return result


class _BoxSum(torch.autograd.Function):
    """Separable box sums by shifted additions; its own adjoint."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, radii: tuple[int, ...]) -> Tensor:
        ctx.radii = radii
        for axis, radius in enumerate(radii, start=2):
            n = image.shape[axis]
            total = image.clone()
            for shift in range(1, min(radius, n - 1) + 1):
                total.narrow(axis, shift, n - shift).add_(image.narrow(axis, 0, n - shift))
                total.narrow(axis, 0, n - shift).add_(image.narrow(axis, shift, n - shift))
            image = total
        return image

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return box_sum(gradients[0], ctx.radii), None


def window_sizes(n: int, radius: int, like: Tensor) -> Tensor:
    """How many voxels each window holds along an axis of n; fewer at the faces."""
    i = torch.arange(n, device=like.device)
    return ((i + radius).clamp(max=n - 1) - (i - radius).clamp(min=0) + 1).to(like)


def lncc(
    fixed: Tensor,
    moved: Tensor,
    weight: Tensor | None,
    radii: Sequence[int],
    noise_fixed: float,
    noise_moved: float,
) -> Tensor:
    """One minus the mean squared local correlation. See `stn3d.kernels`."""
    if weight is None:
        a, b = fixed, moved
        count = torch.ones((), dtype=fixed.dtype, device=fixed.device)
        for n, radius in zip(fixed.shape[2:], radii, strict=True):
            count = count[..., None] * window_sizes(n, radius, fixed)
    else:
        a, b = fixed * weight, moved * weight
        count = box_sum(weight, radii).clamp(min=1e-6)
    mean_a, mean_b = box_sum(a, radii) / count, box_sum(b, radii) / count
    var_a = (box_sum(a * fixed, radii) / count - mean_a**2).clamp(min=0)
    var_b = (box_sum(b * moved, radii) / count - mean_b**2).clamp(min=0)
    cross = box_sum(a * moved, radii) / count - mean_a * mean_b
    likeness = cross**2 / ((var_a + noise_fixed) * (var_b + noise_moved))
    texture = var_a / (var_a + 10 * noise_fixed)
    share = texture if weight is None else weight * texture
    return 1 - (share * likeness).sum() / share.sum().clamp(min=1e-12)


def gaussian_smooth(image: Tensor, sigma_vox: Sequence[float]) -> Tensor:
    """Convolve with a Gaussian along each axis. See `stn3d.kernels`."""
    with torch.no_grad():
        for axis, sigma in enumerate(sigma_vox, start=2):
            weights = gaussian_weights(sigma, image.shape[axis])
            if len(weights) > 1:
                image = _smooth_axis(image, axis, weights)
    return image


def gaussian_weights(sigma: float, n: int) -> list[float]:
    """Weights of the voxels at distances 0, 1, ..., cut off at three sigmas, that sum to 1.

    One alone, which changes nothing, below a sigma of 0.1 voxel or on an axis of one voxel.
    """
    if sigma < 0.1 or n == 1:
        return [1.0]
    weights = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(max(1, math.ceil(3 * sigma)) + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    return [w / total for w in weights]


def _smooth_axis(image: Tensor, axis: int, weights: Sequence[float]) -> Tensor:
    n = image.shape[axis]
    first, last = image.narrow(axis, 0, 1), image.narrow(axis, n - 1, 1)
    result = image * weights[0]
    for k, w in enumerate(weights[1:], start=1):
        inner = max(n - k, 0)
        if inner:
            result.narrow(axis, k, inner).add_(image.narrow(axis, 0, inner), alpha=w)
            result.narrow(axis, 0, inner).add_(image.narrow(axis, n - inner, inner), alpha=w)
        result.narrow(axis, 0, n - inner).add_(first, alpha=w)
        result.narrow(axis, inner, n - inner).add_(last, alpha=w)
    return result


def joint_histogram(fixed: Tensor, moved: Tensor, weight: Tensor, bins: int) -> Tensor:
    """How much weight each pair of intensities has. See `stn3d.kernels`."""
    batch, channels = moved.shape[:2]
    fixed, moved = fixed.nan_to_num(), moved.nan_to_num()
    at = 1 + moved.clamp(0, 1) * (bins - 3)
    start = at.detach().floor().clamp(max=bins - 3)
    row = (fixed * bins).floor().clamp(0, bins - 1).long()
    count = weight.expand_as(moved)
    joint = moved.new_zeros(batch, channels, bins * bins)
    for t, share in enumerate(_spline_window(at - start)):
        index = row * bins + start.long() - 1 + t
        joint = joint.scatter_add(2, index.flatten(2), (count * share).flatten(2))
    return joint.unflatten(2, (bins, bins))


def _spline_window(t: Tensor) -> list[Tensor]:
    """The cubic B-spline at the four bins around, ``t`` from 0 to 1 past the second."""
    s = 1 - t
    return [s**3 / 6, 2 / 3 - t**2 + t**3 / 2, 2 / 3 - s**2 + s**3 / 2, t**3 / 6]


def diffuse_divergence(field_vox: Tensor, weights: Sequence[float]) -> Tensor:
    """Add a weighed gradient of the divergence. See `stn3d.kernels`."""
    shape = field_vox.shape[2:]
    padded = F.pad(field_vox, [1, 1] * len(shape), mode="replicate")

    def moved(component: int, shifts: dict[int, int]) -> Tensor:
        view = padded[:, component]
        for axis, n in enumerate(shape):
            view = view.narrow(axis + 1, 1 + shifts.get(axis, 0), n)
        return view

    components = []
    for a, weight in enumerate(weights):
        total = moved(a, {a: 1}) - 2 * moved(a, {}) + moved(a, {a: -1})
        for b in range(len(shape)):
            if b != a:
                corners = [p * q * moved(b, {a: p, b: q}) for p in (1, -1) for q in (1, -1)]
                total = total + sum(corners[1:], corners[0]) / 4
        components.append(field_vox[:, a] + weight * total)
    return torch.stack(components, dim=1)


def taper(vectors: Tensor, weights: Sequence[Tensor], quantile: float) -> float:
    """Weigh a field's vectors in place; a quantile of their lengths. See `stn3d.kernels`."""
    for axis, weight in enumerate(weights, start=2):
        shape = [-1 if a == axis else 1 for a in range(vectors.ndim)]
        vectors.mul_(weight.to(vectors).reshape(shape))
    shape = [1] * (5 - vectors.ndim) + list(vectors.shape[2:])
    stride = length_stride(shape)
    few = vectors[0].reshape(-1, *shape)[:, ::stride, ::stride]
    lengths = torch.linalg.vector_norm(few, dim=0).cpu().numpy()
    return length_quantile(lengths[lengths > 0], quantile)


def length_stride(shape: Sequence[int]) -> int:
    """Every how many planes and rows of a volume vectors are measured: about a hundred thousand."""
    return max(1, math.isqrt(math.prod(shape) // 100_000))


def length_quantile(lengths: NDArray[Any], quantile: float) -> float:
    """A quantile of some lengths; the longest where a thousandth of them is no number of voxels."""
    if len(lengths) < 1000:
        return float(lengths.max(initial=0))
    rank = math.ceil(quantile * len(lengths)) - 1
    return float(np.partition(lengths, rank)[rank])
