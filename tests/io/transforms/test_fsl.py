"""FSL's matrices against nitransforms, and fields by FSL's definition."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nitransforms.io.fsl import FSLLinearTransform

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import read_transform, write_transform
from tests.io.transforms.cases import GRIDS, MOVING, affine, field, largest_gap_mm, write_volume


def image_on(grid: Grid) -> nib.Nifti1Image:
    return nib.Nifti1Image(np.zeros(grid.shape, np.uint8), grid.world_from_index.numpy())


def in_fsl_mm(grid: Grid, index: np.ndarray) -> np.ndarray:
    """FSL's coordinates by its definition: voxels times their size, x reversed if det > 0."""
    sizes, index = np.array(grid.spacing_mm), index.copy()
    if np.linalg.det(grid.world_from_index.numpy()[:3, :3]) > 0:
        index[..., 0] = grid.shape[0] - 1 - index[..., 0]
    return index * sizes


@pytest.mark.parametrize("orientation", GRIDS)
def test_matrices_agree_with_nitransforms(tmp_path: Path, orientation: str) -> None:
    fixed, path = GRIDS[orientation], tmp_path / "t.mat"
    write_transform(path, affine(), fixed=fixed, moving=MOVING, format="fsl")
    images = {"reference": image_on(fixed), "moving": image_on(MOVING)}
    theirs = FSLLinearTransform.from_filename(path).to_ras(**images)
    np.testing.assert_allclose(theirs, affine().matrix.numpy(), atol=1e-9)
    FSLLinearTransform.from_ras(affine().matrix.numpy(), **images).to_filename(path)
    found = read_transform(path, fixed=fixed, moving=MOVING, format="fsl")
    assert largest_gap_mm(found, affine(), fixed) < 1e-5  # eight decimals


@pytest.mark.parametrize("orientation", GRIDS)
def test_fields_follow_the_definition(tmp_path: Path, orientation: str) -> None:
    fixed, path = GRIDS[orientation], tmp_path / "t.nii.gz"
    dense = field(fixed).then(affine())
    write_transform(path, dense, fixed=fixed, moving=MOVING, format="fsl")
    image = nib.load(path)
    assert image.shape == (*fixed.shape, 3)
    assert image.header["intent_code"] == 2006
    index = fixed.points_index().numpy()
    moved = dense(fixed.points_mm()).numpy()
    from_world = MOVING.index_from_world.numpy()
    moving_index = moved @ from_world[:3, :3].T + from_world[:3, 3]
    relative = in_fsl_mm(MOVING, moving_index) - in_fsl_mm(fixed, index)
    np.testing.assert_allclose(np.asarray(image.dataobj), relative, atol=1e-4)

    absolute = in_fsl_mm(MOVING, moving_index).astype(np.float32)
    header = image.header.copy()
    nib.save(nib.Nifti1Image(absolute, image.affine, header), tmp_path / "abs.nii.gz")
    # FSL takes the convention that varies less, which fails for images that look other ways
    for name in ("t.nii.gz", "abs.nii.gz") if orientation in ("RAS", "LAS") else ("t.nii.gz",):
        found = read_transform(tmp_path / name, fixed=fixed, moving=MOVING)
        assert largest_gap_mm(found, dense, fixed) < 1e-3


def test_coefficients_and_other_grids_are_refused(tmp_path: Path) -> None:
    fixed = GRIDS["LAS"]
    path = tmp_path / "c.nii"
    image = nib.Nifti1Image(np.zeros((*fixed.shape, 3), np.float32), np.eye(4))
    image.header["intent_code"] = 2007
    nib.save(image, path)
    with pytest.raises(InputError, match=r"coefficients of FNIRT .* fnirtfileutils"):
        read_transform(path, fixed=fixed, moving=MOVING)
    write_transform(tmp_path / "t.nii", field(fixed), fixed=fixed, moving=MOVING, format="fsl")
    with pytest.raises(InputError, match="elsewhere than the fixed image"):
        read_transform(tmp_path / "t.nii", fixed=MOVING, moving=fixed)


def test_the_matrix_needs_both_images(tmp_path: Path) -> None:
    (tmp_path / "t.mat").write_text("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    path = write_volume(tmp_path / "f.nii", MOVING)
    expected = r"an FSL matrix needs both images: give --like \(fixed=\) and --moving \(moving=\)"
    with pytest.raises(InputError, match=expected):
        read_transform(tmp_path / "t.mat", fixed=path, format="fsl")
    found = read_transform(tmp_path / "t.mat", fixed=path, moving=path, format="fsl")
    points = torch.randn(5, 3).double()
    torch.testing.assert_close(found(points), points)
