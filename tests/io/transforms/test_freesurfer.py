"""LTA files against nitransforms and by their definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nitransforms.io.lta import FSLinearTransform, FSLinearTransformArray

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import read_transform, write_transform
from tests.io.transforms.cases import GRIDS, MOVING, affine, largest_gap_mm


def written(folder: Path, fixed: Grid, moving: Grid = MOVING) -> Path:
    path = folder / "t.lta"
    write_transform(path, affine(), fixed=fixed, moving=moving)
    return path


@pytest.mark.parametrize("orientation", GRIDS)
def test_nitransforms_reads_the_same(tmp_path: Path, orientation: str) -> None:
    fixed = GRIDS[orientation]
    path = written(tmp_path, fixed)
    theirs = FSLinearTransform.from_filename(path)
    np.testing.assert_allclose(theirs.to_ras(), affine().matrix.numpy(), atol=1e-5)
    for role, grid in (("src", MOVING), ("dst", fixed)):
        np.testing.assert_allclose(
            theirs[role].as_affine(), grid.world_from_index.numpy(), atol=1e-4
        )
    assert FSLinearTransformArray.from_filename(path)["nxforms"] == 1


@pytest.mark.parametrize("orientation", GRIDS)
def test_voxel_matrices(tmp_path: Path, orientation: str) -> None:
    """Type 0 maps voxels of the source (moving) to voxels of the destination (fixed)."""
    fixed = GRIDS[orientation]
    path = written(tmp_path, fixed)
    ras = np.linalg.inv(affine().matrix.numpy())
    vox = fixed.index_from_world.numpy() @ ras @ MOVING.world_from_index.numpy()
    lines = path.read_text().splitlines()
    lines[1] = "type      = 0 # LINEAR_VOX_TO_VOX"
    start = lines.index("1 4 4") + 1
    lines[start : start + 4] = [" ".join(f"{n:.15e}" for n in row) for row in vox]
    path.write_text("\n".join(lines))
    for images in ({}, {"fixed": fixed, "moving": MOVING}):
        assert largest_gap_mm(read_transform(path, **images), affine(), fixed) < 1e-6
    path.write_text("\n".join(lines).replace("valid = 1", "valid = 0"))
    with pytest.raises(InputError, match="geometry is marked as invalid, needs both images"):
        read_transform(path)
    found = read_transform(path, fixed=fixed, moving=MOVING)
    assert largest_gap_mm(found, affine(), fixed) < 1e-6


def test_exchanged_images_are_refused(tmp_path: Path) -> None:
    fixed = GRIDS["oblique"]
    path = written(tmp_path, fixed)
    with pytest.raises(InputError, match="maps the fixed image onto the moving one"):
        read_transform(path, fixed=MOVING, moving=fixed)
    assert read_transform(path, fixed=fixed, moving=MOVING).ndim == 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("type      = 1", "type      = 14", "maps register.dat"),
        ("nxforms   = 1", "nxforms   = 2", "holds 2 transforms"),
        ("1 4 4", "1 4 5", "no valid field '1 4 4'"),
        ("type ", "kind ", "no valid field 'type'"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = written(tmp_path, GRIDS["RAS"])
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        read_transform(path)


def test_morphs_are_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "t.m3z").write_bytes(b"\x1f\x8b0000")
    with pytest.raises(InputError, match="mri_warp_convert --inm3z"):
        read_transform(tmp_path / "t.m3z")
