"""Resampling by explicit points, in slabs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from stn3d.grid import apply_matrix
from stn3d.kernels.common.points import inside, points_of
from stn3d.kernels.resample.types import Displacement
from stn3d.kernels.sample_linear.reference import sample_linear


def resample(
    image: Tensor,
    matrix: Tensor,
    shape: Sequence[int],
    displacement: Displacement | None = None,
    outside_value: float = 0.0,
    sample: Callable[[Tensor, Tensor], Tensor] = sample_linear,
) -> Tensor:
    """Sample slab by slab; ``sample`` interpolates image and displacement."""
    parts = []
    for slab, points in points_by_slabs(matrix, shape, displacement, image.device, sample):
        values = sample(image, points)
        if outside_value != 0:
            within = inside(points, tuple(image.shape[2:]))[:, None]
            values = torch.where(within, values, values.new_full((), outside_value))
        parts.append(values.reshape(1, image.shape[1], *slab))
    return torch.cat(parts, dim=2)


def points_by_slabs(
    matrix: Tensor,
    shape: Sequence[int],
    displacement: Displacement | None,
    device: torch.device,
    sample: Callable[[Tensor, Tensor], Tensor] = sample_linear,
) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """Shape and sampled points ``(1, N, d)`` of slabs of about a million output voxels."""
    planes, like = max(1, (1 << 20) // math.prod(shape[1:])), torch.empty(0, device=device).double()
    for first in range(0, shape[0], planes):
        slab = min(planes, shape[0] - first), *shape[1:]
        index = points_of(slab, like).reshape(1, -1, len(shape))
        index[..., 0] += first
        points = apply_matrix(matrix, index)
        if displacement is not None:
            vectors = sample(displacement.vectors, apply_matrix(displacement.matrix, index))
            vectors = vectors.transpose(1, 2).to(points)
            points = points + vectors @ displacement.linear.to(points).T
        yield slab, points
