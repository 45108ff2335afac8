"""An image through a matrix and a displacement, and how a loss of it changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from stn3d.kernels.reference.sampling import points_of, read_clamped


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
    moved = read_clamped(image, points.reshape(1, -1, len(shape)))
    inside = coverage(points, image.shape[2:])[None, None]
    return moved.reshape(1, image.shape[1], *shape), inside


def coverage(points_index: Tensor, shape: Sequence[int]) -> Tensor:
    """How far points lie inside an image's faces, ``(...)``: see `Warped`.

    An axis of one voxel has no inside to fade from.
    """
    top = torch.tensor(shape).to(points_index) - 1
    depth = (torch.minimum(points_index, top - points_index) + 0.5).clamp(0, 1)
    return torch.where(top > 0, depth, (depth > 0).to(depth)).prod(dim=-1)


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
