"""Reading an image at the voxels of a grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from stn3d.grid import apply_matrix
from stn3d.kernels.reference.sampling import inside, points_of, sample_linear


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
