"""Channel-first MetaTensors of a body in any orientation, and how far apart two of them are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from stn3d.grid import Grid
from stn3d.io.geometry import plane_in_space
from stn3d.transforms import DisplacementField, Transform
from tests.helpers.geometry_cases import make_grid, rotation
from tests.helpers.image_pairs import body

SIZE_MM = 64.0
WORLD_AXES = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


def body_grid(
    shape: Sequence[int] = (32, 28, 26),
    axes: str = "RAS",
    angles_deg: Sequence[float] = (0.0, 0.0, 0.0),
    size_mm: float = SIZE_MM,
) -> Grid:
    """A grid over a cube about the world origin, its axes named as nibabel does."""
    linear = torch.zeros(3, 3, dtype=torch.float64)
    for axis, (world, sign) in enumerate(WORLD_AXES[name] for name in axes):
        linear[world, axis] = sign * size_mm / shape[axis]
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = rotation(3, angles_deg) @ linear
    matrix[:3, 3] = -matrix[:3, :3] @ ((torch.tensor(shape).double() - 1) / 2)
    return Grid(tuple(shape), matrix)


def metatensor(values: Tensor, grid: Grid, **meta: object) -> MetaTensor:
    """``(C, *shape)`` values as a MetaTensor on a grid."""
    matrix = grid.world_from_index.numpy()
    affine = plane_in_space(matrix) if grid.ndim == 2 else matrix
    return MetaTensor(values, affine=torch.from_numpy(np.array(affine)), meta=dict(meta))


def image(grid: Grid, by: Transform | None = None) -> MetaTensor:
    """The body, at points moved by a transform, ``(1, *shape)``."""
    points = grid.points_mm()
    return metatensor(body(points if by is None else by(points))[None], grid)


def labels(grid: Grid, by: Transform | None = None) -> MetaTensor:
    """Three labels of the body, float32 as LoadImaged gives them."""
    values = image(grid, by).as_tensor()
    return metatensor(((values > 30).int() + (values > 70)).float(), grid)


def bump(grid: Grid, amplitude_mm: float = 4.0) -> DisplacementField:
    """A smooth field that vanishes at the border of a grid."""
    points = grid.points_mm()
    falling = torch.exp(-((points - grid.centre_mm) ** 2).sum(-1) / (2 * 12.0**2))
    u = torch.stack([falling * (points[..., 1] / 12).cos(), falling, -falling * 0.7])
    return DisplacementField((amplitude_mm * u[: grid.ndim]).float()[None], grid)


def plane(shape: Sequence[int] = (24, 20)) -> Grid:
    """A 2D grid."""
    return make_grid(shape, (1.5, 2.0), (25,), (-12, 7))


def dice(first: Tensor, second: Tensor, label: int) -> float:
    """Overlap of a label in two maps."""
    a, b = first.as_subclass(Tensor) == label, second.as_subclass(Tensor) == label
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def mean_difference(first: Tensor, second: Tensor) -> float:
    """Mean absolute difference as a fraction of the first image's range."""
    a, b = first.as_subclass(Tensor), second.as_subclass(Tensor)
    return float((a - b).abs().mean() / (a.max() - a.min()))
