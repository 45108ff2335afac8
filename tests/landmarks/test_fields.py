"""Splines as displacement fields."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stn3d import InputError, register_landmarks
from stn3d.cli import main
from stn3d.grid import Grid
from stn3d.io import read_image, read_transform
from stn3d.transforms.fit import fit_linear
from tests.helpers.geometry_cases import uniform
from tests.helpers.landmark_cases import GRIDS, make_landmark_files, placed


def test_a_spline_far_outside_the_image_is_the_affine_fit(tmp_path: Path) -> None:
    grid = GRIDS["oblique"]()
    files = [*make_landmark_files(tmp_path, grid), "--like", str(tmp_path / "fixed.nii.gz")]
    out = tmp_path / "out"
    assert main(["landmarks", *files, "--kind", "tps", "--out", str(out)]) == 0
    affine = fit_linear("affine", *placed(grid))
    far = grid.centre_mm + 1000 * torch.eye(3).double()
    found = read_transform(out / "transform.h5")
    torch.testing.assert_close(found(far), affine(far), rtol=0, atol=1e-3)
    back = read_transform(out / "inverse.h5")
    torch.testing.assert_close(back(affine(far)), far, rtol=0, atol=1e-3)


def test_a_folding_spline_is_not_saved(tmp_path: Path) -> None:
    grid = Grid.of_spacing((30, 30), 1.0)
    image = read_image((uniform(0, 1, 1, 1, 30, 30).float(), grid))
    fixed = torch.cartesian_prod(*[torch.tensor([3.0, 10, 18, 26]).double()] * 2)
    moving = fixed.clone()
    moving[[5, 6]] = moving[[6, 5]]
    found = register_landmarks(fixed, moving, "tps")
    with pytest.raises(InputError, match="the spline folds, so it has no inverse"):
        found.on_grid_of(image)
    moving[15] += 4000
    with pytest.raises(InputError, match="the spline folds"):
        register_landmarks(fixed, moving, "tps").on_grid_of(image)
    with pytest.raises(InputError, match=r"sample it with on_grid_of\(image\)"):
        found.save(tmp_path / "out")
    assert not (tmp_path / "out").exists()
