"""ANTs, greedy, MONAI, X5 and images of vectors: names, directions, odd content."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import read_transform, write_transform
from stn3d.io.ddf import to_ddf
from stn3d.transforms import Affine, BSpline
from tests.io.transforms.cases import GRIDS, MOVING, affine, field, largest_gap_mm, points_in

GRID = GRIDS["oblique"]


def test_ants_files_are_found_by_prefix_or_by_any_of_them(tmp_path: Path) -> None:
    dense = field(GRID).then(affine())
    files = write_transform(tmp_path / "a_", dense, format="ants")
    names = ["a_0GenericAffine.mat", "a_1Warp.nii.gz", "a_1InverseWarp.nii.gz"]
    assert [file.name for file in files] == names
    for path in (tmp_path / "a_", files[0], files[1]):
        assert largest_gap_mm(read_transform(path, format="ants"), dense, GRID) < 1e-3
    assert largest_gap_mm(read_transform(tmp_path / "a_"), dense, GRID) < 1e-3
    assert largest_gap_mm(read_transform(files[1]), field(GRID), GRID) < 1e-3  # the file alone
    fine = GRID.resampled(0.7)
    dense = field(fine, 0.5).then(affine())
    files = write_transform(tmp_path / "fine_", dense, format="ants")
    inverse = read_transform(files[2], format="ants")
    points = points_in(fine)
    assert float((inverse(dense(points)) - points).norm(dim=-1).max()) < 0.1

    # a linear transform must not be mixed with the field that is there
    with pytest.raises(InputError, match="belongs to another transform with this prefix"):
        write_transform(tmp_path / "a_", affine(), format="ants")
    with pytest.raises(InputError, match=r"there are no files .*b_0GenericAffine\.mat"):
        read_transform(tmp_path / "b_", format="ants")


def test_ants_applies_the_last_file_first(tmp_path: Path) -> None:
    for number, x_mm in ((0, 10.0), (1, 0.0)):
        matrix = [2.0 if number else 1.0, 0, 0, 0, 1, 0, 0, 0, 1]
        one = sitk.AffineTransform(matrix, [x_mm, 0, 0])
        sitk.WriteTransform(one, str(tmp_path / f"p{number}GenericAffine.mat"))
    found = read_transform(tmp_path / "p", format="ants")
    assert float(found(torch.tensor([[-1.0, 0, 0]]))[0, 0]) == -12.0  # LPS: 2 * 1 + 10


def test_greedy_matrices_are_ras_from_fixed_to_moving(tmp_path: Path) -> None:
    (tmp_path / "t.mat").write_text("1 0 0 5\n0 1 0 -3\n0 0 1 2\n0 0 0 1\n")
    found = read_transform(tmp_path / "t.mat", format="greedy")
    assert found(torch.zeros(1, 3))[0].tolist() == [5, -3, 2]
    (tmp_path / "plane.mat").write_text("1 0 5\n0 1 -3\n0 0 1\n")
    assert read_transform(tmp_path / "plane.mat").ndim == 2  # only greedy has these


@pytest.mark.parametrize("layout", ["first", "last", "batch", "fortran", "npz"])
def test_layouts_of_monai_and_voxelmorph(tmp_path: Path, layout: str) -> None:
    dense = field(GRID)
    ddf = to_ddf(dense, GRID, MOVING).numpy()
    path = tmp_path / ("t.npz" if layout == "npz" else "t.npy")
    array = {"batch": ddf, "last": np.moveaxis(ddf[0], 0, -1)}.get(layout, ddf[0])
    if layout == "npz":
        np.savez(path, flow=array)
    else:
        np.save(path, np.asfortranarray(array) if layout == "fortran" else array)
    found = read_transform(path, fixed=GRID, moving=MOVING)
    assert largest_gap_mm(found, dense, GRID) < 1e-3


def test_odd_numpy_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.npy"
    np.save(path, np.zeros((3, 4, 4, 4)))
    with pytest.raises(InputError, match=r"displacements for the fixed image have 3 x 9 x 8 x 7"):
        read_transform(path, fixed=GRID, moving=MOVING)
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="holds no displacements"):
        read_transform(path, fixed=GRID, moving=MOVING)
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': "
    shape = b"(3, 30000, 30000, 30000), }"
    path.write_bytes((header + shape).ljust(127) + b"\n")
    with pytest.raises(InputError, match=r"memory|announces"):
        read_transform(path, fixed=GRID, moving=MOVING)
    np.savez(tmp_path / "t.npz", a=np.zeros(3), b=np.zeros(3))
    with pytest.raises(InputError, match="holds 2 arrays"):
        read_transform(tmp_path / "t.npz", fixed=GRID, moving=MOVING)


def test_x5_chains_and_kinds(tmp_path: Path) -> None:
    from nitransforms.manip import TransformChain

    dense = field(GRID).then(affine())
    write_transform(tmp_path / "t.x5", dense)
    theirs = TransformChain.from_filename(tmp_path / "t.x5")
    points = GRID.points_mm()[2:-2, 2:-2, 2:-2].reshape(-1, 3)
    np.testing.assert_allclose(theirs.map(points.numpy()), dense(points).numpy(), atol=1e-4)
    (tmp_path / "no.x5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(500))
    with pytest.raises(InputError, match="give a complete X5 file"):
        read_transform(tmp_path / "no.x5")


def test_images_that_are_no_fields_are_refused(tmp_path: Path) -> None:
    for shape in ((4, 4, 4), (4, 4, 4, 2), (4, 4, 4, 5), (4, 4, 4, 2, 3)):
        path = tmp_path / "t.nii"
        nib.save(nib.Nifti1Image(np.zeros(shape, np.float32), np.eye(4)), path)
        with pytest.raises(InputError, match="a displacement field has one vector"):
            read_transform(path, format="itk")
        with pytest.raises(InputError, match="cannot be read as a transform"):
            read_transform(path)


def test_an_unclear_field_names_the_formats(tmp_path: Path) -> None:
    path = tmp_path / "t.nii"
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 3), np.float32), np.eye(4)), path)
    with pytest.raises(InputError, match=r"name the one that it has: itk:t.nii or fsl:t.nii or"):
        read_transform(path)


def test_other_transforms_are_sampled_on_the_fixed_image(tmp_path: Path) -> None:
    fixed = Grid.of_spacing((12, 11, 10), 2.0)
    spline = BSpline(
        torch.randn(1, 3, 6, 6, 6, generator=torch.Generator().manual_seed(0)),
        fixed.with_shape((6, 6, 6)),
    )
    for name in ("t.h5", "t.mha"):
        with pytest.raises((InputError, ValueError), match=r"give the fixed image|needs the fixed"):
            write_transform(tmp_path / name, spline)
        write_transform(tmp_path / name, spline, fixed=fixed)
        points = fixed.points_mm()
        found = read_transform(tmp_path / name)
        assert float((found(points) - spline(points)).abs().max()) < 1e-4


def test_dimensions_must_agree(tmp_path: Path) -> None:
    plane = Grid.of_spacing((5, 6))
    for format, name in (("fsl", "t.mat"), ("afni", "t.1D"), ("freesurfer", "t.lta")):
        with pytest.raises(InputError):
            write_transform(
                tmp_path / name, Affine.identity(2), fixed=plane, moving=plane, format=format
            )
    with pytest.raises(InputError, match="the fixed image is 2D and the transform 3D"):
        write_transform(tmp_path / "t.mha", affine(), fixed=plane)
