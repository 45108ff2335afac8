"""A synthetic pair on disk, and what commands leave behind."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch import Tensor

import stn3d
from stn3d.grid import Grid
from stn3d.io import read_image, read_labels, write_image, write_transform
from tests.helpers.synthetic import Known, dense_truth, grid_about, known_pair, linear_truth

REPORT = {"report.html", "report.png"}
RESULTS = {"moved.nii.gz", "transform.h5", "inverse.h5", "metrics.json"} | REPORT


QUICK = ["--preset", "fast", "--threads", "1"]


def write(path: Path, values: Tensor, grid: Grid, *, labels: bool = False) -> Path:
    image = read_labels((values, grid)) if labels else read_image((values, grid))
    write_image(path, image.values, image)
    return path


def bands(values: Tensor) -> Tensor:
    """Three nested labels by brightness."""
    return (values * 3).round().clamp(0, 3).int()


@dataclass(frozen=True)
class Files:
    """A synthetic pair in a folder, and what is known about it."""

    folder: Path
    known: Known

    def __getattr__(self, name: str) -> str:
        return str(self.folder / f"{name}.nii.gz")

    @property
    def pair(self) -> list[str]:
        return [self.fixed, self.moving]

    @property
    def labels(self) -> list[str]:
        return ["--fixed-labels", self.fixed_labels, "--moving-labels", self.moving_labels]


def make_files(folder: Path, ndim: int) -> Files:
    """Two views of one anatomy on grids that share nothing, bent a little against each other."""
    far = torch.tensor([15.0, -10.0, 5.0][:ndim])
    fixed = grid_about(torch.zeros(ndim), [36.0] * ndim, (1.5, 1.8, 1.5)[:ndim])
    moving = grid_about(far, [40.0] * ndim, (1.6, 1.5, 1.8)[:ndim], (15, -10, 5))
    bent = dense_truth(fixed, 1.5).then(
        linear_truth("affine", fixed.centre_mm, moving.centre_mm, 8)
    )
    known = known_pair(bent, fixed, moving)
    write(folder / "fixed.nii.gz", known.fixed, fixed)
    write(folder / "moving.nii.gz", known.moving, moving)
    write(folder / "fixed_labels.nii.gz", bands(known.fixed), fixed, labels=True)
    write(folder / "moving_labels.nii.gz", bands(known.moving), moving, labels=True)
    write_transform(folder / "truth.h5", known.truth)
    return Files(folder, known)


def printed(capfd: pytest.CaptureFixture[str]) -> tuple[list[str], list[str]]:
    """The lines on stdout and on stderr, those of C++ libraries too, without the opening line."""
    out, err = capfd.readouterr()
    return out.splitlines(), without_opening(err.splitlines())


def without_opening(lines: list[str]) -> list[str]:
    """The lines on stderr without the first one, which says what the command does, and without the
    note of the first run on a machine, which compiles."""
    is_opening = lines and lines[0].startswith(f"stn3d {stn3d.__version__}: ")
    rest = lines[1:] if is_opening else lines
    return [line for line in rest if not line.startswith("note: compiling stn3d's numba kernels")]


def metrics_of(folder: Path) -> dict[str, Any]:
    """metrics.json without what differs from run to run."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return {key: value for key, value in metrics.items() if key != "timings_s"}


def resampled(moving: str, fixed: str, transform: Path, how: int = sitk.sitkLinear) -> np.ndarray:
    """The moving image by SimpleITK alone, float32, in nibabel's axis order."""
    images = [sitk.ReadImage(path, sitk.sitkFloat32) for path in (moving, fixed)]
    moved = sitk.Resample(*images, sitk.ReadTransform(str(transform)), how, 0.0)
    return np.transpose(sitk.GetArrayFromImage(moved))


def voxels(path: str | Path) -> np.ndarray:
    return np.squeeze(np.asanyarray(nib.load(path).dataobj))
