"""The literature's frame: d x (d + 1) matrices between coordinates from -1 to 1.

In papers on spatial transformers a theta maps the output's coordinates to the input's, both from
-1 to 1 along each axis, x along columns (an array's last axis), y along rows. stn3d maps world
millimetres, x along the first axis; this module is the one place where the two meet.

Convention: ``ends`` says what -1 and 1 are: the outer voxels' ``centres`` (the literature's worked
examples, torch's ``align_corners=True``) or the image's ``faces`` (torch's default).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from stn3d.grid import Grid, homogeneous
from stn3d.transforms.linear import Affine, Homography, Linear, Projective, rotation_matrix

Ends = Literal["centres", "faces"]


def scaling(*factors: float) -> Tensor:
    """Theta of a scaling by one factor an axis, x first; below 1 the output shows less, larger."""
    return _theta(torch.diag(torch.tensor(factors, dtype=torch.float64)))


def rotation(*angle: float) -> Tensor:
    """Theta of a rotation by an angle from x to y, or a rotation vector in 3D, in radians."""
    return _theta(rotation_matrix(torch.tensor(angle, dtype=torch.float64)))


def shear(*factors: float) -> Tensor:
    """Theta of a shear: the matrix's entries off its diagonal, row by row; 2 in 2D, 6 in 3D."""
    d = 2 if len(factors) == 2 else 3
    matrix = torch.eye(d, dtype=torch.float64)
    matrix[~torch.eye(d, dtype=torch.bool)] = torch.tensor(factors, dtype=torch.float64)
    return _theta(matrix)


def translation(*shift: float) -> Tensor:
    """Theta of a translation, in halves of the input's width; what is seen moves the other way."""
    return _theta(torch.eye(len(shift)).double(), torch.tensor(shift, dtype=torch.float64))


def composed(*thetas: Tensor) -> Tensor:
    """Theta that maps coordinates by the first theta, then by the second, and so on."""
    total = _square(thetas[0])
    for theta in thetas[1:]:
        total = _square(theta) @ total
    return total[..., :-1, :]


def from_theta(
    theta: Tensor, fixed: Grid, moving: Grid | None = None, ends: Ends = "centres"
) -> Homography:
    """The transform of a theta between two images.

    Args:
        theta: ``(d, d + 1)``, or ``(d + 1, d + 1)`` for a projective one; a batch axis may precede.
        fixed: the output's grid.
        moving: the input's grid; the output's by default.
        ends: what -1 and 1 are.

    Returns:
        Fixed to moving points in mm: an `Affine`, or a `Projective` for a square theta.
    """
    to_fixed = _normalised_from_world(fixed, ends)
    from_moving = torch.linalg.inv(_normalised_from_world(moving or fixed, ends))
    matrix = from_moving.to(theta.device) @ _square(theta).double() @ to_fixed.to(theta.device)
    make = Affine if theta.shape[-2] < theta.shape[-1] else Projective
    return make.from_matrix(matrix, fixed.centre_mm.to(theta.device))


def to_theta(
    transform: Homography, fixed: Grid, moving: Grid | None = None, ends: Ends = "centres"
) -> Tensor:
    """The theta of a transform between two images: what `from_theta` reverses.

    Returns:
        ``(..., d, d + 1)`` of a linear transform, else ``(..., d + 1, d + 1)``; float64.
    """
    matrix = transform.matrix
    from_fixed = torch.linalg.inv(_normalised_from_world(fixed, ends)).to(matrix)
    theta = _normalised_from_world(moving or fixed, ends).to(matrix) @ matrix @ from_fixed
    if isinstance(transform, Linear):
        return theta[..., :-1, :]
    return theta / theta[..., -1:, -1:]


def _normalised_from_world(grid: Grid, ends: Ends) -> Tensor:
    """``(d + 1, d + 1)``: coordinates from -1 to 1, last axis first, of world mm; float64."""
    d = grid.ndim
    half = torch.tensor([n - (ends == "centres") for n in grid.shape]).double() / 2
    half = half.clamp(min=0.5)  # an axis of one voxel has no two centres
    middle = (torch.tensor(grid.shape).double() - 1) / 2
    from_index = homogeneous(torch.diag(1 / half), -middle / half)
    reverse = homogeneous(torch.eye(d).double().flip(0), torch.zeros(d).double())
    return reverse @ from_index @ grid.index_from_world


def _theta(linear: Tensor, shift: Tensor | None = None) -> Tensor:
    shift = torch.zeros_like(linear[:, 0]) if shift is None else shift
    return torch.cat([linear, shift[:, None]], dim=1)


def _square(theta: Tensor) -> Tensor:
    """``(..., d + 1, d + 1)`` of a theta."""
    if theta.shape[-2] == theta.shape[-1]:
        return theta
    return homogeneous(theta[..., :-1], theta[..., -1])
