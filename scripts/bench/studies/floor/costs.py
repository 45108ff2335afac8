"""What a call of each kernel must move and compute; the rules are in the study's docstring.

Each ``of_...`` takes the call's result and then its arguments, as `stn3d.kernels` names them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from torch import Tensor

from stn3d import kernels
from stn3d.kernels import Region
from stn3d.kernels.smooth.reference import gaussian_weights


class Cost(NamedTuple):
    """Cost of one call: the level's grid, voxels processed, numbers moved, operations per voxel."""

    shape: tuple[int, ...]
    voxels: int
    numbers: int
    flops: float


def _voxels(region: Region | None, like: Tensor) -> int:
    return like.shape[2:].numel() if region is None else region.num_voxels


def of_warp(
    result: kernels.Warped,
    image: Tensor,
    matrix: Tensor,
    field: Tensor,
    region: Region | None = None,
    out: Any = None,
) -> Cost:
    n, d, c = _voxels(region, field), field.shape[1], image.shape[1]
    covered = 0 if result.coverage is None else 1
    numbers = n * (d + c + covered) + c * min(n, image[0, 0].numel())
    # The matrix, the position, the weights, and c times 2**d corners interpolated.
    return Cost(tuple(field.shape[2:]), n, numbers, 2 * d * d + 8 * d + c * 3 * 2**d)


def of_warp_gradient(
    result: Tensor,
    image: Tensor,
    matrix: Tensor,
    field: Tensor,
    by_moved: Tensor,
    by_coverage: Tensor | None,
    region: Region | None = None,
) -> Cost:
    n, d, c = _voxels(region, field), field.shape[1], image.shape[1]
    numbers = n * (d + c + (by_coverage is not None)) + c * min(n, image[0, 0].numel())
    # As `of_warp`, with derivatives of the weights; then d (d + 1) sums of products.
    flops = 2 * d * d + 8 * d + c * 4 * 2**d + 2 * d * (d + 1)
    return Cost(tuple(field.shape[2:]), n, numbers, flops)


def of_force(result: Tensor, moved: Tensor, by_moved: Tensor, region: Region, out: Tensor) -> Cost:
    n, d, c = _voxels(region, moved), out.shape[1], moved.shape[1]
    return Cost(tuple(moved.shape[2:]), n, n * (2 * c + d), c * (1 + 3 * d))


def of_resample(
    result: Tensor, image: Tensor, matrix: Tensor, shape: Any, moves: Any = None, outside: float = 0
) -> Cost:
    n, d, c = result[0, 0].numel(), result.ndim - 2, image.shape[1]
    numbers = c * (n + min(n, image[0, 0].numel()))
    return Cost(tuple(result.shape[2:]), n, numbers, 6 * d + c * 3 * 2**d)


def of_box_sum(result: Tensor, image: Tensor, radii: Any) -> Cost:
    n, c = _voxels(None, image), image.shape[1]
    return Cost(tuple(image.shape[2:]), n, 2 * c * n, c * sum(2 * r for r in radii))


@lru_cache(maxsize=64)
def reached(windows: Region, radii: tuple[int, ...]) -> int:
    """Number of voxels inside any of the windows."""
    return windows.grown(radii).num_voxels


def of_lncc(
    result: Tensor,
    fixed: Tensor,
    moved: Tensor,
    weight: Tensor | None,
    radii: Any,
    noise_fixed: float,
    noise_moved: float,
    windows: Region | None = None,
) -> Cost:
    n = _voxels(None, fixed) if windows is None else reached(windows, tuple(radii))
    inputs = [x for x in (fixed, moved, weight) if x is not None]
    wanted = sum(x.requires_grad for x in inputs)
    # Sums of five or six products over windows, and of three or six coefficients for the slopes.
    full = weight is not None and weight.requires_grad
    sums = (5 if weight is None else 6) + (6 if full else 3 if wanted else 0)
    taps = sum(2 * r for r in radii)
    flops = (2 if full else 1) * (sums * taps + 40)
    return Cost(tuple(fixed.shape[2:]), n, n * (len(inputs) + wanted), flops)


def of_smooth(
    result: Tensor, image: Tensor, sigma_vox: Any, region: Region | None = None, out: Any = None
) -> Cost:
    shape, n, c = tuple(image.shape[2:]), _voxels(region, image), image.shape[1]
    taps = [len(gaussian_weights(s, m)) - 1 for s, m in zip(sigma_vox, shape, strict=True)]
    return Cost(shape, n, 2 * c * n, c * sum(1 + 3 * t for t in taps))


def of_apply_boundary_window(
    result: float, vectors: Tensor, weights: Any, region: Region | None = None, quantile: float = 1
) -> Cost:
    n, d = _voxels(region, vectors), vectors.shape[1]
    return Cost(tuple(vectors.shape[2:]), n, 2 * d * n, d + 1)


def of_step(
    result: Tensor,
    step: Tensor,
    field: Tensor,
    scale: float,
    limit: float,
    region: Region | None,
    out: Any,
    velocity: Tensor | None = None,
    keep: float = 0.0,
) -> Cost:
    n, d = _voxels(region, step), step.shape[1]
    arrays, flops = (3, 12) if velocity is None else (5, 14)  # a velocity is read and written
    return Cost(tuple(step.shape[2:]), n, arrays * d * n, flops * d + d * 3 * 2**d)


def of_diffuse(
    result: Tensor, field: Tensor, weights: Any, region: Region | None, out: Any
) -> Cost:
    n, d = _voxels(region, field), field.shape[1]
    return Cost(tuple(field.shape[2:]), n, 2 * d * n, d * (5 + 5 * (d - 1)))


COSTS: dict[str, Callable[..., Cost]] = {
    "resample": of_resample,
    "box_sum": of_box_sum,
    "warp": of_warp,
    "lncc": of_lncc,
    "warp_gradient": of_warp_gradient,
    "force": of_force,
    "gaussian_smooth": of_smooth,
    "apply_boundary_window": of_apply_boundary_window,
    "take_step": of_step,
    "diffuse_divergence": of_diffuse,
}
