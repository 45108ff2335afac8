"""Geometry of initial transforms: image moments, alignments of points and axes, distances."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d.grid import Grid, homogeneous
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.reductions import voxel_sum
from stn3d.transforms import Affine, Linear, Transform

_SAME_FIELD = 1.4  # ratio of sizes; a larger one often means another field of view, not size
_MAX_SCALE = 3.0  # of an initial transform

_MAX_MARGIN_VOX = 256  # limits the margin along an axis of thin slices


def volume(grid: Grid) -> float:
    """Volume of a field of view, in mm^d."""
    return math.prod(grid.size_mm)


def padded(image: PreparedImage, margin_mm: float) -> PreparedImage:
    """The image with a margin of zeros, which contribute to the loss."""
    margin = image.grid.margins_vox(margin_mm, _MAX_MARGIN_VOX)
    sides = [m for m in reversed(margin) for _ in range(2)]
    mask = None if image.mask is None else F.pad(image.mask, sides, value=1.0)
    grid = image.grid.padded(margin_mm, _MAX_MARGIN_VOX)
    return replace(image, image=F.pad(image.image, sides), grid=grid, mask=mask)


def slack_mm(a: Grid, b: Grid) -> list[float]:
    """Half the difference of two fields of view along each world axis: from the position with
    common centres the smaller one can move this far within the larger one."""
    sizes = [
        (grid.world_from_index[:-1, :-1].abs() @ torch.tensor(grid.shape, dtype=torch.float64))
        for grid in (a, b)
    ]
    slack: list[float] = (0.5 * (sizes[0] - sizes[1]).abs()).tolist()
    return slack


def alignment(rotation: Tensor | None, fixed_mm: Tensor, moving_mm: Tensor) -> Affine:
    """The transform with this rotation (possibly scaled) that maps one point to the other.

    Args:
        rotation: ``(d, d)`` float64; None for the identity.
        fixed_mm: Point ``(d,)`` in fixed space.
        moving_mm: Point ``(d,)`` in moving space.
    """
    linear = torch.eye(len(fixed_mm), dtype=torch.float64) if rotation is None else rotation
    return Affine.from_matrix(homogeneous(linear, moving_mm - linear @ fixed_mm), fixed_mm)


def moments(image: PreparedImage) -> tuple[Tensor, Tensor]:
    """Centre of mass ``(d,)`` and covariance ``(d, d)``, in mm, of the intensity above the mean."""
    values = image.image[0].mean(0).double().cpu()
    mask = torch.ones_like(values) if image.mask is None else image.mask[0, 0].double().cpu()
    mean = voxel_sum(mask * values) / voxel_sum(mask).clamp(min=1e-12)
    weight = mask * (values - mean).clamp(min=0)
    weight = (weight / voxel_sum(weight).clamp(min=1e-12)).flatten()
    points = image.grid.points_mm().flatten(0, -2).T
    centre = voxel_sum(weight * points, 1)
    offsets = points - centre[:, None]
    return centre, torch.stack([voxel_sum(weight * row * offsets, 1) for row in offsets])


def principal_axes_alignments(
    fixed: PreparedImage, moving: PreparedImage, scaled: bool
) -> list[Affine]:
    """Alignments of the principal axes of intensity, one for each choice of directions that is a
    rotation: four in 3D, two in 2D.

    Args:
        fixed: The fixed image.
        moving: The moving image.
        scaled: Also match the size, by the ratio of the covariances' determinants. A large ratio
            may be that of the fields of view, so there are alignments with a smaller one too.
    """
    (fixed_mm, fixed_cov), (moving_mm, moving_cov) = moments(fixed), moments(moving)
    fixed_axes, moving_axes = torch.linalg.eigh(fixed_cov)[1], torch.linalg.eigh(moving_cov)[1]
    found = []
    for scale in _scales(fixed_cov, moving_cov) if scaled else [1.0]:
        for signs in product((1.0, -1.0), repeat=len(fixed_mm)):
            rotation = moving_axes @ torch.diag(torch.tensor(signs).double()) @ fixed_axes.T
            if torch.linalg.det(rotation) > 0:
                found.append(alignment(scale * rotation, fixed_mm, moving_mm))
    return found


def _scales(fixed_cov: Tensor, moving_cov: Tensor) -> list[float]:
    """The size of the moving relative to the fixed content, within each of two limits."""
    volumes = [float(torch.linalg.det(cov)) for cov in (fixed_cov, moving_cov)]
    ratio = volumes[1] / volumes[0] if min(volumes) > 0 else 1.0
    scale = ratio ** (0.5 / len(fixed_cov))
    limits = _SAME_FIELD, _MAX_SCALE
    return list(dict.fromkeys(min(max(scale, 1 / limit), limit) for limit in limits))


def angle_between(a: Tensor, b: Tensor) -> float:
    """Angle between two rotation matrices, in radians."""
    rotation = a @ b.T
    if len(rotation) == 2:
        return abs(math.atan2(float(rotation[1, 0]), float(rotation[0, 0])))
    return math.acos(min(1.0, max(-1.0, (float(rotation.trace()) - 1) / 2)))


def rotation_rad_of(transform: Linear) -> float:
    """Angle of the rotation that is nearest to the linear part, in radians."""
    linear = transform.matrix[:-1, :-1].detach().cpu().double()
    u, _, vt = torch.linalg.svd(linear)
    return angle_between(u @ vt, torch.eye(len(linear)).double())


def mean_distance_mm(grid: Grid, a: Transform, b: Transform) -> float:
    """Mean distance between two transforms at the centres of a grid's octants (quadrants in 2D)."""
    quarters = torch.tensor([0.25, 0.75], dtype=torch.float64)
    index = torch.cartesian_prod(*[(n - 1) * quarters for n in grid.shape])
    points = index @ grid.world_from_index[:-1, :-1].T + grid.world_from_index[:-1, -1]
    return float(torch.linalg.vector_norm(a(points) - b(points), dim=-1).mean())
