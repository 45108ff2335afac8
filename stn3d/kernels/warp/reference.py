"""Warping by explicit points; its gradient by autograd."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stn3d.kernels.common.points import points_of
from stn3d.kernels.common.region import Region
from stn3d.kernels.sample_linear.reference import read_clamped
from stn3d.kernels.warp.types import Buffers, Warped


def warp(
    image: Tensor,
    matrix: Tensor,
    displacement_vox: Tensor,
    region: Region | None = None,
    out: Buffers | None = None,
) -> Warped:
    """Values and coverage everywhere, in new tensors."""
    with torch.no_grad():
        moved, inside = _warped(image, matrix, displacement_vox)
    return Warped(moved, None if bool((inside == 1).all()) else inside)


def _warped(image: Tensor, matrix: Tensor, displacement_vox: Tensor) -> tuple[Tensor, Tensor]:
    shape = displacement_vox.shape[2:]
    linear = matrix.to(image)
    mapped = points_of(shape, image) + displacement_vox[0].movedim(0, -1)
    points = mapped @ linear[:-1, :-1].T + linear[:-1, -1]
    moved = read_clamped(image, points.reshape(1, -1, len(shape)))
    inside = coverage(points, image.shape[2:])[None, None]
    return moved.reshape(1, image.shape[1], *shape), inside


def coverage(points_index: Tensor, shape: Sequence[int]) -> Tensor:
    """The coverage of points, ``(...)``: see `Warped`. Along an axis of one voxel it is 1 inside
    the domain and 0 outside."""
    top = torch.tensor(shape).to(points_index) - 1
    depth = (torch.minimum(points_index, top - points_index) + 0.5).clamp(0, 1)
    return torch.where(top > 0, depth, (depth > 0).to(depth)).prod(dim=-1)


def warp_gradient(
    image: Tensor,
    matrix: Tensor,
    displacement_vox: Tensor,
    by_moved: Tensor,
    by_coverage: Tensor | None,
    region: Region | None = None,
) -> Tensor:
    """The gradient by autograd, from all voxels: outside the region the given ones are 0."""
    with torch.enable_grad():
        leaf = matrix.detach().requires_grad_()
        moved, inside = _warped(image, leaf, displacement_vox)
        total = (moved * by_moved).sum()
        if by_coverage is not None:
            total = total + (inside * by_coverage).sum()
        (gradient,) = torch.autograd.grad(total, leaf)
    return gradient[:-1].double().cpu()
