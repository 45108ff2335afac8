"""Landmarks, landmark files and grids that several tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stn3d.grid import Grid, apply_matrix
from stn3d.io import read_image, write_image, write_points
from stn3d.io.points import PointTable
from stn3d.transforms import Rigid
from tests.helpers.geometry_cases import make_grid, oblique, random, uniform

KINDS: tuple[Any, ...] = ("rigid", "similarity", "affine", "tps")


NEEDED = {"rigid": 0, "similarity": 0, "affine": 1, "tps": 1}  # more than d


GRIDS: dict[str, Callable[[], Grid]] = {
    "LAS": lambda: make_grid((24, 22, 20), (3, 3, 4), origin_mm=(36, -40, -35), left_handed=True),
    "oblique": lambda: oblique(3, (40, 24, 18)),
    "2D": lambda: oblique(2, (50, 30)),
}


def some_points(d: int, count: int = 12, seed: int = 1) -> Tensor:
    return 40 * random(count, d, seed=seed) + torch.tensor([20.0, -60, 90][:d])


def noisy(d: int, count: int = 12, noise_mm: float = 1.5) -> tuple[Tensor, Tensor]:
    """Landmarks, and the same after a rotation, a translation and placement errors."""
    fixed = some_points(d, count)
    start = Rigid.identity_parameters(d)
    moved = Rigid(start + 0.3 * random(len(start), seed=2), fixed.mean(0))(fixed)
    return fixed, moved + 15 + noise_mm * random(count, d, seed=3)


def write_landmarks(path: Path, points: Tensor, names: list[str] | None = None) -> str:
    header = ("x", "y", "z")[: points.shape[1]]
    others = tuple((name,) for name in names) if names else ((),) * len(points)
    write_points(path, points, PointTable((*header, "name") if names else header, others))
    return str(path)


def placed(grid: Grid, count: int = 9) -> tuple[Tensor, Tensor]:
    """Landmarks within an image, and the same after a rotation, a translation and noise."""
    d = grid.ndim
    size = torch.tensor(grid.shape).double()
    fixed = apply_matrix(grid.world_from_index, uniform(0, 1, count, d, seed=4) * (size - 1))
    start = Rigid.identity_parameters(d)
    turn = Rigid(start + 0.4 * random(len(start), seed=5), grid.centre_mm)
    return fixed, turn(fixed) + 70 + random(count, d, seed=6)


def make_landmark_files(folder: Path, grid: Grid) -> list[str]:
    fixed, moving = placed(grid)
    image = read_image((uniform(0, 1, 1, 1, *grid.shape).float(), grid))
    write_image(folder / "fixed.nii.gz", image.values, image)
    names = [f"p{row}" for row in range(len(fixed))]
    write_landmarks(folder / "fixed.csv", fixed, names)
    write_landmarks(folder / "moving.csv", moving.flip(0), names[::-1])
    return [str(folder / name) for name in ("fixed.csv", "moving.csv")]
