"""Image pairs with known transforms: an anatomy defined by a formula in world space, on any grid.

The moving image is the anatomy itself; the fixed image is the anatomy read through the true
transform. So nothing is interpolated, and the truth is exact on every pair of grids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stn3d.grid import Grid, homogeneous
from stn3d.preprocessing.intensity import scaled
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.transforms import Affine, DisplacementField, Transform
from tests.helpers.geometry_cases import make_grid, rotation, smooth_field, uniform

# More threads do not speed up small images, and on a busy machine threads wait for each other.
torch.set_num_threads(1)

SEMI_AXES_MM = (14.0, 11.0, 9.0)
"""Semi-axes of the body, an ellipsoid (ellipse) about the centre, with an asymmetric interior."""


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A body with soft edges and random blobs, bright on a background of 0.

    Args:
        centre_mm: ``(d,)`` world position of the centre.
        seed: random seed of the blobs.
    """

    centre_mm: Tensor
    seed: int = 0

    @property
    def ndim(self) -> int:
        return len(self.centre_mm)

    def body(self, points_mm: Tensor) -> Tensor:
        """Normalised distance of points from the centre, ``(...)``; 1 on the surface."""
        axes = torch.tensor(SEMI_AXES_MM[: self.ndim]).to(points_mm)
        return torch.linalg.vector_norm((points_mm - self.centre_mm) / axes, dim=-1)

    def __call__(self, points_mm: Tensor) -> Tensor:
        """Brightness at world points ``(..., d)``, about 0 to 1, float32."""
        d, count = self.ndim, 12 * 2**self.ndim
        axes = torch.tensor(SEMI_AXES_MM[:d]).double()
        centres = self.centre_mm + axes * uniform(-0.9, 0.9, count, d, seed=self.seed)
        width = uniform(1.5, 3.0, count, seed=self.seed + 1)
        height = uniform(-0.5, 0.5, count, seed=self.seed + 2)
        points = points_mm.double()
        total = torch.full(points.shape[:-1], 0.6, dtype=torch.float64)
        for c, w, h in zip(centres, width, height, strict=True):
            total += h * torch.exp(-0.5 * (points - c).square().sum(-1) / w**2)
        total = total.clamp(min=0.1)  # darker than tissue, brighter than background
        return (total * torch.sigmoid((1 - self.body(points)) * 10)).float()


@dataclass(frozen=True, eq=False)
class Known:
    """A pair of images ``(1, 1, *shape)`` on their grids, and the truth from fixed to moving."""

    anatomy: Anatomy
    truth: Transform
    fixed: Tensor
    fixed_grid: Grid
    moving: Tensor
    moving_grid: Grid

    @property
    def sources(self) -> tuple[tuple[Tensor, Grid], tuple[Tensor, Grid]]:
        """Arguments of `stn3d.register`."""
        return (self.fixed, self.fixed_grid), (self.moving, self.moving_grid)

    @property
    def pair(self) -> Pair:
        """The pair for estimators."""
        return Pair(
            PreparedImage(scaled(self.fixed), self.fixed_grid),
            PreparedImage(scaled(self.moving), self.moving_grid),
        )

    @property
    def foreground(self) -> Tensor:
        """``fixed_grid.shape`` bool: the body in the fixed image."""
        return self.anatomy.body(self.truth(self.fixed_grid.points_mm())) < 1

    def error_mm(self, transform: Transform) -> float:
        """Mean distance between the transform and the truth over the body."""
        points = self.fixed_grid.points_mm()[self.foreground]
        gap = transform(points) - self.truth(points)
        return float(torch.linalg.vector_norm(gap, dim=-1).mean())


def known_pair(
    truth: Transform,
    fixed_grid: Grid,
    moving_grid: Grid,
    centre_mm: Tensor | None = None,
    seed: int = 0,
) -> Known:
    """The anatomy on two grids; by default it is centred in the moving one."""
    centre = moving_grid.centre_mm if centre_mm is None else centre_mm
    anatomy = Anatomy(centre, seed)
    fixed = anatomy(truth(fixed_grid.points_mm()))[None, None]
    moving = anatomy(moving_grid.points_mm())[None, None]
    return Known(anatomy, truth, fixed, fixed_grid, moving, moving_grid)


def plain_grid(ndim: int, size_mm: float = 36.0, spacing_mm: float = 1.0) -> Grid:
    """Axis-aligned isotropic grid centred at the world origin."""
    return grid_about(torch.zeros(ndim), [size_mm] * ndim, [spacing_mm] * ndim)


def grid_about(
    centre_mm: Tensor,
    size_mm: Sequence[float],
    spacing_mm: Sequence[float],
    angles_deg: Sequence[float] = (0.0, 0.0, 0.0),
    left_handed: bool = False,
) -> Grid:
    """Grid of any orientation and spacing with a given centre."""
    shape = [max(1, round(a / b)) for a, b in zip(size_mm, spacing_mm, strict=True)]
    grid = make_grid(shape, spacing_mm, angles_deg, left_handed=left_handed)
    matrix = grid.world_from_index.clone()
    matrix[:-1, -1] += centre_mm - grid.centre_mm
    return Grid(grid.shape, matrix)


def reoriented(
    image: Tensor, grid: Grid, axes: Sequence[int], flips: Sequence[int]
) -> tuple[Tensor, Grid]:
    """The same image with permuted and flipped axes and the matching affine."""
    d = grid.ndim
    values = image.permute(0, 1, *[2 + a for a in axes]).flip([2 + a for a in flips])
    step = torch.zeros(d + 1, d + 1, dtype=torch.float64)
    step[d, d] = 1
    for new, old in enumerate(axes):
        step[old, new] = 1
    for new in flips:
        n = grid.shape[axes[new]]
        back = torch.eye(d + 1, dtype=torch.float64)
        back[new, new], back[new, d] = -1, n - 1
        step = step @ back
    shape = [grid.shape[a] for a in axes]
    return values.contiguous(), Grid(tuple(shape), grid.world_from_index @ step)


def linear_truth(kind: str, fixed_mm: Tensor, moving_mm: Tensor, turn_deg: float = 12) -> Affine:
    """A known linear transform that maps one point to another."""
    d = len(fixed_mm)
    linear = rotation(d, (turn_deg, -0.5 * turn_deg, 0.7 * turn_deg))
    if kind == "similarity":
        linear = 1.1 * linear
    if kind == "affine":
        stretch = torch.diag(torch.tensor([1.1, 0.92, 1.05][:d]).double())
        stretch[0, 1] = 0.12
        linear = linear @ stretch
    return Affine.from_matrix(homogeneous(linear, moving_mm - linear @ fixed_mm))


def dense_truth(grid: Grid, amplitude_mm: float = 2.5, seed: int = 3) -> DisplacementField:
    """A smooth diffeomorphism on a grid, zero at its border."""
    return DisplacementField(smooth_field(grid, amplitude_mm, seed=seed), grid)
