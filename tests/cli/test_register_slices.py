"""Files of three axes with one slice from end to end, with SimpleITK as reference."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from stn3d.cli import main
from stn3d.io import write_transform
from stn3d.transforms import Rigid
from tests.cli.cases import QUICK, metrics_of, printed, write
from tests.helpers.synthetic import known_pair
from tests.registration.test_working_space import OBLIQUE, in_plane_motion, slice_grid


def voxels(path: str | Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("kind", ["rigid", "deformable"])
def test_simpleitk_reads_transform_and_image_in_3d_and_agrees(
    tmp_path: Path, axis: int, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    grid = slice_grid(axis, OBLIQUE)
    known = known_pair(in_plane_motion(grid), grid, slice_grid(axis, OBLIQUE))
    fixed = str(write(tmp_path / "fixed.nii.gz", known.fixed, grid))
    moving = str(write(tmp_path / "moving.nii.gz", known.moving, known.moving_grid))
    out = tmp_path / "out"
    command = ["register", fixed, moving, "-o", str(out), "--kind", kind, "--metric", "lncc"]
    assert main([*command, *QUICK]) == 0
    assert any("single slices" in line for line in printed(capfd)[0])
    transform = sitk.ReadTransform(str(out / "transform.h5"))
    image = sitk.ReadImage(fixed)
    assert (transform.GetDimension(), image.GetDimension()) == (3, 3)
    assert nib.load(out / "moved.nii.gz").shape == grid.shape
    by_itk = sitk.Resample(sitk.ReadImage(moving), image, transform, sitk.sitkLinear, 0.0)
    gap = np.abs(np.transpose(sitk.GetArrayFromImage(by_itk)) - voxels(out / "moved.nii.gz"))
    assert float(gap.max()) < 1e-3
    # The same by `apply`, and no worse measured by `evaluate`.
    again = tmp_path / "again.nii.gz"
    path = str(out / "transform.h5")
    assert main(["apply", path, moving, "--like", fixed, "-o", str(again)]) == 0
    np.testing.assert_allclose(voxels(again), voxels(out / "moved.nii.gz"), atol=1e-5)
    measured = tmp_path / "metrics.json"
    pair = ["--fixed", fixed, "--moving", moving, "--transform", path]
    assert main(["evaluate", *pair, "-o", str(measured)]) == 0
    after = metrics_of(out)["after"]
    assert after["correlation"] > 0.97
    assert json.loads(measured.read_text())["correlation"] == pytest.approx(after["correlation"])


def test_a_2d_transform_still_takes_an_axial_slice_along(tmp_path: Path) -> None:
    grid = slice_grid(2)
    known = known_pair(in_plane_motion(grid), grid, grid)
    image = str(write(tmp_path / "a.nii.gz", known.moving, grid))
    path = tmp_path / "flat.h5"
    flat = Rigid(torch.tensor([0.0, 2.0, -1.0]).double(), torch.zeros(2).double())
    write_transform(path, flat)
    out = tmp_path / "moved.nii.gz"
    assert main(["apply", str(path), image, "--like", image, "-o", str(out)]) == 0
    moved, before = voxels(out), voxels(image)
    assert moved.shape == grid.shape
    np.testing.assert_allclose(moved[2:-2, 2:-2], before[4:, 1:-3], atol=1e-4)
