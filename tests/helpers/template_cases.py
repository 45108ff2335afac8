"""Images of one anatomy in several known shapes, for templates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

import stn3d
from stn3d.grid import Grid
from stn3d.transforms import Affine, DisplacementField, Rigid, Transform
from tests.helpers.geometry_cases import smooth_field, uniform
from tests.helpers.synthetic import Anatomy, grid_about


@dataclass(frozen=True)
class Shape:
    """An image of the anatomy.

    Args:
        path: file of the image.
        grid: its grid.
        truth: points of the image to points of the anatomy.
    """

    path: Path
    grid: Grid
    truth: Transform


def anatomy(ndim: int) -> Anatomy:
    return Anatomy(torch.zeros(ndim).double(), 3)


def make_group(folder: Path, count: int, ndim: int = 2) -> list[Shape]:
    """Images of different grids, sizes, poses and shapes."""
    made = []
    for n in range(count):
        centre = torch.tensor([5.0 * n, -3.0 * n, 2.0 * n])[:ndim]
        grid = grid_about(centre, [44 - n] * ndim, [1.0, 1.0 + 0.1 * n, 1.1][:ndim])
        linear = torch.eye(ndim + 1).double()
        linear[:ndim, :ndim] += uniform(-0.08, 0.08, ndim, ndim, seed=10 + n)
        linear[:ndim, -1] = (
            uniform(-2, 2, ndim, seed=20 + n) - linear[:ndim, :ndim] @ grid.centre_mm
        )
        field = DisplacementField(smooth_field(grid, 1.5, seed=n), grid)
        truth = field.then(Affine.from_matrix(linear))
        made.append(_written(folder / f"shape{n}.nii.gz", grid, truth, ndim))
    return made


def make_visits(folder: Path, count: int = 2) -> list[Shape]:
    """Visits of one subject: rigid poses, other grids and other brightness."""
    made = []
    for n in range(count):
        grid = grid_about(torch.tensor([3.0 * n, 2.0, -n]), [38] * 3, [1.2, 1.2, 1.6 + 0.4 * n])
        pose = uniform(-3, 3, 6, seed=30 + n)
        pose[:3] = torch.deg2rad(3 * pose[:3])
        truth = Rigid(pose, grid.centre_mm).then(
            Affine.from_matrix(torch.eye(4).double() + _shift(-grid.centre_mm))
        )
        made.append(_written(folder / f"visit{n}.nii.gz", grid, truth, 3, 100.0 * (1 + n)))
    return made


def _shift(shift_mm: torch.Tensor) -> torch.Tensor:
    matrix = torch.zeros(4, 4).double()
    matrix[:3, 3] = shift_mm
    return matrix


def _written(path: Path, grid: Grid, truth: Transform, ndim: int, bright: float = 100.0) -> Shape:
    values = bright * anatomy(ndim)(truth(grid.points_mm()))
    stn3d.as_image((values, grid)).save(path)
    return Shape(path, grid, truth)
