"""Reading a batch of images through a matrix for each, by the points that it leads to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stn3d.grid import apply_matrix
from stn3d.kernels.reference.sampling import points_of, sample_linear


def sample_affine(image: Tensor, matrix: Tensor, shape: Sequence[int]) -> Tensor:
    """Images ``(B, C, *own)`` at ``matrix x``, ``(B, C, *shape)``. See `stn3d.kernels`."""
    exact = torch.promote_types(matrix.dtype, image.dtype)
    points = points_of(shape, image).to(exact).flatten(0, -2)
    at = apply_matrix(matrix.to(exact), points[None])
    return sample_linear(image, at).unflatten(-1, tuple(shape))
