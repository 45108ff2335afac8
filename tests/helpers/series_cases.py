"""Simulated series with known motion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from torch import Tensor

import stn3d
from stn3d.grid import Grid
from stn3d.transforms import Rigid
from tests.helpers.geometry_cases import uniform
from tests.helpers.synthetic import Anatomy, grid_about

SCALE = 4.0  # size of a head relative to the synthetic anatomy
HEADERS = {"oblique": ((12.0, -8.0, 20.0), False), "LAS": ((0.0, 0.0, 0.0), True)}
COUNT = 5


@dataclass(frozen=True)
class Known:
    """A series on disk, its grid, and the true transforms from the middle volume to each volume."""

    path: Path
    grid: Grid
    truths: Sequence[Rigid]

    def error_mm(self, transforms: Sequence[stn3d.Transform], numbers: Sequence[int]) -> float:
        """Mean error over the head and the given volumes."""
        points = head_points(self.grid)
        gaps = [transforms[n](points) - self.truths[n](points) for n in numbers]
        return float(torch.stack(gaps).norm(dim=-1).mean())


def head(points_mm: Tensor) -> Tensor:
    """Brightness at world points."""
    return Anatomy(torch.zeros(points_mm.shape[-1]).double())(points_mm / SCALE)


def head_points(grid: Grid) -> Tensor:
    """``(N, d)`` voxels of the head."""
    points = grid.points_mm().flatten(0, -2)
    return points[Anatomy(torch.zeros(grid.ndim).double()).body(points / SCALE) < 1]


def epi_grid(header: str = "oblique") -> Grid:
    angles_deg, left_handed = HEADERS[header]
    return grid_about(torch.zeros(3), (129, 111, 96), (3, 3, 4), angles_deg, left_handed)


def motions(grid: Grid, count: int = COUNT, most: float = 3.0, seed: int = 0) -> list[Rigid]:
    """Rigid motion of a few degrees and mm; none for the middle volume, the reference."""
    steps = uniform(-most, most, count, Rigid.num_parameters(grid.ndim), seed=seed)
    steps[:, : -grid.ndim] = torch.deg2rad(steps[:, : -grid.ndim])
    steps[count // 2] = 0
    return [Rigid(step, grid.centre_mm) for step in steps]


def simulated_volumes(grid: Grid, truths: Sequence[Rigid], noise: float = 0.02) -> np.ndarray:
    """``(*shape, N)`` 16-bit volumes with Rician noise and a brightness that rises slowly."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for number, truth in enumerate(truths):
        clean = head(truth.inverse()(grid.points_mm())) * (1 + 0.01 * number)
        a, b = (noise * torch.randn(clean.shape, generator=generator) for _ in "ab")
        made.append(1000 * torch.hypot(clean + a, b))
    return torch.stack(made, dim=-1).numpy().astype(np.int16)


def write(path: Path, array: np.ndarray, grid: Grid) -> Path:
    affine = grid.world_from_index.numpy()
    if grid.ndim == 2:
        affine = np.eye(4)
        affine[:2, :2], affine[:2, 3] = grid.world_from_index[:2, :2], grid.world_from_index[:2, 2]
        array = array[:, :, None]
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 2)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4], image.header["toffset"] = 2.5, 1.0
    image.to_filename(path)
    return path


def make_series(folder: Path, header: str = "oblique", name: str = "bold.nii.gz") -> Known:
    grid = epi_grid(header)
    truths = motions(grid)
    return Known(write(folder / name, simulated_volumes(grid, truths), grid), grid, truths)
