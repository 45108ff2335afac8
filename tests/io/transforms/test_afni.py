"""AFNI's matrices and fields against nitransforms, oblique images included."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nitransforms.io.afni import AFNIDisplacementsField, AFNILinearTransform

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import read_transform, write_transform
from stn3d.transforms import Affine
from tests.io.transforms.cases import GRIDS, MOVING, affine, field, largest_gap_mm


def image_on(grid: Grid) -> nib.Nifti1Image:
    return nib.Nifti1Image(np.zeros(grid.shape, np.uint8), grid.world_from_index.numpy())


@pytest.mark.parametrize("orientation", GRIDS)
def test_matrices_agree_with_nitransforms(tmp_path: Path, orientation: str) -> None:
    fixed, path = GRIDS[orientation], tmp_path / "t.aff12.1D"
    images = {"reference": image_on(fixed), "moving": image_on(MOVING)}
    write_transform(path, affine(), fixed=fixed, moving=MOVING)
    theirs = AFNILinearTransform.from_filename(path).to_ras(**images)
    np.testing.assert_allclose(theirs, affine().matrix.numpy(), atol=1e-6)
    AFNILinearTransform.from_ras(affine().matrix.numpy(), **images).to_filename(path)
    found = read_transform(path, fixed=fixed, moving=MOVING)
    assert largest_gap_mm(found, affine(), fixed) < 1e-3  # six digits


def test_fields_of_images_along_the_axes_are_in_lps(tmp_path: Path) -> None:
    fixed, moving = GRIDS["LPS"], GRIDS["LAS"]
    dense, path = field(fixed), tmp_path / "t.nii.gz"
    write_transform(path, dense, fixed=fixed, moving=moving, format="afni")
    theirs = AFNIDisplacementsField.from_filename(path)
    ours = dense.displacement_mm[0].movedim(0, -1).numpy()
    np.testing.assert_allclose(np.asarray(theirs.dataobj), ours, atol=1e-5)


def test_a_field_and_a_matrix_place_oblique_voxels_alike(tmp_path: Path) -> None:
    """An affine transform is the same through both kinds of files."""
    fixed = GRIDS["oblique"]
    for name in ("t.1D", "t.nii.gz"):
        write_transform(tmp_path / name, affine(), fixed=fixed, moving=MOVING, format="afni")
    matrix = np.loadtxt(tmp_path / "t.1D").reshape(3, 4)
    cardinal = np.diag([-1.0, -1, 1, 1]) @ _cardinal(fixed)
    index = np.array([3, 2, 4, 1.0])
    vector = np.asarray(nib.load(tmp_path / "t.nii.gz").dataobj)[3, 2, 4, 0]
    point = cardinal @ index
    np.testing.assert_allclose(matrix @ point, point[:3] + vector, atol=1e-3)


def _cardinal(grid: Grid) -> np.ndarray:
    """Affine of the closest cardinal axes with the same first voxel."""
    affine = grid.world_from_index.numpy()
    closest = np.zeros((4, 4))
    for axis, size in enumerate(grid.spacing_mm):
        row = int(np.abs(affine[:3, axis]).argmax())
        closest[row, axis] = np.sign(affine[row, axis]) * round(size, 4)
    closest[:, 3] = affine[:, 3]
    return closest


def test_series_and_other_texts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.1D"
    row = "1 0 0 0 0 1 0 0 0 0 1 0\n"
    path.write_text(row * 3)
    with pytest.raises(InputError, match="holds 3 matrices, one for each volume"):
        read_transform(path, fixed=MOVING, moving=MOVING)
    path.write_text("1 2 3\n")
    with pytest.raises(InputError, match="a text of 12 numbers"):
        read_transform(path, fixed=MOVING, moving=MOVING)
    path.write_text("# comment\n1 0 0 4\n0 1 0 5\n0 0 1 6\n")
    found = read_transform(path, fixed=GRIDS["RAS"], moving=GRIDS["RAS"])
    expected = Affine.from_matrix(
        torch.tensor([[1, 0, 0, -4], [0, 1, 0, -5], [0, 0, 1, 6], [0, 0, 0, 1]]).double()
    )
    assert largest_gap_mm(found, expected, GRIDS["RAS"]) < 1e-9
