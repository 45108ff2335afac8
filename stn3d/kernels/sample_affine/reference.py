"""Sampling of a batch of images on grids given by one matrix each, through explicit points."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stn3d.grid import apply_matrix
from stn3d.kernels.common.points import points_of
from stn3d.kernels.sample_linear.reference import sample_linear


def sample_affine(image: Tensor, matrix: Tensor, shape: Sequence[int]) -> Tensor:
    """`sample_linear` at all points of the grids."""
    exact = torch.promote_types(matrix.dtype, image.dtype)
    points = points_of(shape, image).to(exact).flatten(0, -2)
    at = apply_matrix(matrix.to(exact), points[None])
    return sample_linear(image, at).unflatten(-1, tuple(shape))
