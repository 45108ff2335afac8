"""Conversion from and to theta matrices in normalised coordinates from -1 to 1.

In papers on spatial transformers, a theta of d x (d + 1) elements maps output coordinates to input
coordinates. Both range from -1 to 1 along each axis, x along columns (the last axis of an array),
y along rows. stn3d maps world millimetres, with x along the first axis.

Convention: ``ends`` defines the positions -1 and 1: the ``centres`` of the outer voxels (examples
in the literature, torch's ``align_corners=True``) or the ``faces`` of the image (torch's default).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from stn3d.arguments import TensorLike, points_tensor, tensor_arguments
from stn3d.grid import Grid, homogeneous
from stn3d.transforms.linear import Affine, Linear, rotation_matrix
from stn3d.transforms.projective import Homography, Projective

Ends = Literal["centres", "faces"]


def scaling(*factors: float) -> Tensor:
    """Theta of a scaling, one factor per axis, x first; factors below 1 magnify the image."""
    return _theta(torch.diag(torch.tensor(factors, dtype=torch.float64)))


def rotation(*angle: float) -> Tensor:
    """Theta of a rotation, in radians: by an angle from x to y, or a rotation vector in 3D."""
    return _theta(rotation_matrix(torch.tensor(angle, dtype=torch.float64)))


def shear(*factors: float) -> Tensor:
    """Theta of a shear: off-diagonal elements of the matrix, row by row; 2 in 2D, 6 in 3D."""
    d = 2 if len(factors) == 2 else 3
    matrix = torch.eye(d, dtype=torch.float64)
    matrix[~torch.eye(d, dtype=torch.bool)] = torch.tensor(factors, dtype=torch.float64)
    return _theta(matrix)


def translation(*shift: float) -> Tensor:
    """Theta of a translation in half widths of the input; the image moves the opposite way."""
    return _theta(torch.eye(len(shift)).double(), torch.tensor(shift, dtype=torch.float64))


def composed(*thetas: TensorLike) -> Tensor:
    """Theta of several thetas applied in the given order."""
    total = _square(thetas[0])
    for theta in thetas[1:]:
        total = _square(theta) @ total
    return total[..., :-1, :]


@tensor_arguments(["theta"])
def from_theta(
    theta: Tensor, fixed: Grid, moving: Grid | None = None, ends: Ends = "centres"
) -> Homography:
    """Convert a theta between two images to a transform.

    Args:
        theta: ``(d, d + 1)``, or ``(d + 1, d + 1)`` for a projective transform; optionally with a
            leading batch axis.
        fixed: grid of the output image.
        moving: grid of the input image. Default: ``fixed``.
        ends: positions of -1 and 1, ``centres`` or ``faces``.

    Returns:
        The transform from fixed to moving points in mm: an `Affine`, or a `Projective` for a square
        theta.
    """
    to_fixed = _normalised_from_world(fixed, ends)
    from_moving = torch.linalg.inv(_normalised_from_world(moving or fixed, ends))
    matrix = from_moving.to(theta.device) @ _square(theta).double() @ to_fixed.to(theta.device)
    make = Affine if theta.shape[-2] < theta.shape[-1] else Projective
    return make.from_matrix(matrix, fixed.centre_mm.to(theta.device))


def to_theta(
    transform: Homography, fixed: Grid, moving: Grid | None = None, ends: Ends = "centres"
) -> Tensor:
    """Convert a transform between two images to a theta; the inverse of `from_theta`.

    Args:
        transform: fixed to moving points in mm.
        fixed: grid of the output image.
        moving: grid of the input image. Default: ``fixed``.
        ends: positions of -1 and 1, ``centres`` or ``faces``.

    Returns:
        ``(..., d, d + 1)`` for a linear transform, otherwise ``(..., d + 1, d + 1)``; float64.
    """
    matrix = transform.matrix
    from_fixed = torch.linalg.inv(_normalised_from_world(fixed, ends)).to(matrix)
    theta = _normalised_from_world(moving or fixed, ends).to(matrix) @ matrix @ from_fixed
    if isinstance(transform, Linear):
        return theta[..., :-1, :]
    return theta / theta[..., -1:, -1:]


def _normalised_from_world(grid: Grid, ends: Ends) -> Tensor:
    """``(d + 1, d + 1)`` matrix from world mm to -1 to 1, last axis first; float64."""
    d = grid.ndim
    half = torch.tensor([n - (ends == "centres") for n in grid.shape]).double() / 2
    half = half.clamp(min=0.5)  # an axis of one voxel has only one centre
    middle = (torch.tensor(grid.shape).double() - 1) / 2
    from_index = homogeneous(torch.diag(1 / half), -middle / half)
    reverse = homogeneous(torch.eye(d).double().flip(0), torch.zeros(d).double())
    return reverse @ from_index @ grid.index_from_world


def _theta(linear: Tensor, shift: Tensor | None = None) -> Tensor:
    shift = torch.zeros_like(linear[:, 0]) if shift is None else shift
    return torch.cat([linear, shift[:, None]], dim=1)


def _square(theta: TensorLike) -> Tensor:
    """``(..., d + 1, d + 1)`` matrix of a theta."""
    theta = points_tensor(theta)
    if theta.shape[-2] == theta.shape[-1]:
        return theta
    return homogeneous(theta[..., :-1], theta[..., -1])
