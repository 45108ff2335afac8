"""Damaged headers of NIfTI, Analyze and MGH files: one sentence, and the right value if defined."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from stn3d.errors import InputError
from stn3d.io import GeometryWarning, read_image, write_image
from tests.io.cases import AFFINE, nifti, numbers


def changed(path: Path, header: str, value: Any) -> Path:
    """The NIfTI file with another value in a field of its header."""
    raw = bytearray(path.read_bytes())
    dtype, offset = nib.Nifti1Header.template_dtype.fields[header]
    raw[offset : offset + dtype.itemsize] = np.asarray(value, dtype.base).tobytes()
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("code", [*range(8), 64 + 10, 128, 56, 255])
def test_units_of_every_code(tmp_path: Path, code: int) -> None:
    """ITK ignores bits 6 and 7 and takes unknown units as millimetres."""
    path = changed(nifti(tmp_path / "a.nii", numbers()), "xyzt_units", code)
    if code & 7 > 3:
        with pytest.warns(GeometryWarning, match="the unknown unit of length . in xyzt_units"):
            image = read_image(path)
    else:
        image = read_image(path)
    scale = {1: 1000, 3: 0.001}.get(code & 7, 1)
    expected = AFFINE * np.array([[scale], [scale], [scale], [1]])
    np.testing.assert_allclose(image.grid.world_from_index.numpy(), expected, rtol=1e-6)
    by_itk = np.array(sitk.ReadImage(str(path)).GetSpacing())
    np.testing.assert_allclose(image.grid.spacing_mm, by_itk, rtol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GeometryWarning)
        write_image(tmp_path / "b.nii", image.values, image)
        again = read_image(tmp_path / "b.nii")
    assert again.grid.same_as(image.grid)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("vox_offset", np.inf, "its voxels begin at byte inf, not at 352 or beyond"),
        ("vox_offset", np.nan, "its voxels begin at byte nan"),
        ("vox_offset", 0, "its voxels begin at byte 0, not at 352 or beyond"),
        ("vox_offset", 348, "its voxels begin at byte 348"),
        ("vox_offset", 1e6, "is truncated, or its header is damaged"),
        ("dim", [3, -7, 6, 5, 1, 1, 1, 1], "its size is -7 x 6 x 5"),
        ("dim", [3, 0, 6, 5, 1, 1, 1, 1], "its size is 0 x 6 x 5"),
        ("dim", [7, *[32767] * 7], "its size is 32767 x 32767"),
        ("dim", [3, 32767, 32767, 32767, 1, 1, 1, 1], "is truncated, or its header is damaged"),
        ("datatype", 77, "its data type 77 is unknown"),
        ("datatype", 1, "its data type 1 is unknown|cannot be read"),
        ("scl_inter", np.nan, "cannot be read as an image"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_damaged_fields(tmp_path: Path, field: str, value: Any, message: str, packed: bool) -> None:
    path = changed(nifti(tmp_path / "a.nii", numbers()), field, value)
    if field == "scl_inter":
        changed(path, "scl_slope", 2)
    if packed and "truncated" in message:
        message = "truncated"
    if packed:
        (tmp_path / "b.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
        path = tmp_path / "b.nii.gz"
    with pytest.raises(InputError, match=message) as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["quatern_b", "qoffset_x"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38, 2.0])
def test_damaged_qforms(tmp_path: Path, field: str, value: float) -> None:
    """With a sform, the qform is ignored; without one, the file has no geometry."""
    model = nib.Nifti1Image(numbers(), AFFINE)
    model.set_qform(AFFINE, 1)
    model.set_sform(AFFINE, 2)
    model.to_filename(tmp_path / "a.nii")
    path = changed(tmp_path / "a.nii", field, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GeometryWarning)
        image = read_image(path)
        np.testing.assert_allclose(image.grid.world_from_index.numpy(), AFFINE)
        write_image(tmp_path / "b.nii.gz", image.values, image)
        assert read_image(tmp_path / "b.nii.gz").grid.same_as(image.grid)
    changed(path, "sform_code", 0)
    if field == "quatern_b" or not np.isfinite(value):
        with pytest.raises(InputError, match=r"cannot be read|no usable geometry|NaN or Inf"):
            read_image(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1, 0, 3e38])
def test_voxel_sizes_beside_a_sform_do_not_matter(tmp_path: Path, value: float) -> None:
    path = changed(nifti(tmp_path / "a.nii", numbers()), "pixdim", [1, value, 1, 1, value, 1, 1, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GeometryWarning)
        image = read_image(path)
    np.testing.assert_allclose(image.grid.world_from_index.numpy(), AFFINE)


def test_mgh_files(tmp_path: Path) -> None:
    nib.MGHImage(numbers(), AFFINE).to_filename(tmp_path / "a.mgz")
    good = gzip.decompress((tmp_path / "a.mgz").read_bytes())
    for offset, value, message in (
        (20, 2, "its data type 2 is not supported"),
        (20, 77, "its data type 77 is not supported"),
        (4, 0, "its size is 0 x"),
        (4, -5, "its size is -5 x"),
        (4, 2**31 - 1, "needs|voxels|truncated"),
        (0, 9, "cannot be read as an image"),
    ):
        raw = bytearray(good)
        raw[offset : offset + 4] = np.array(value, ">i4").tobytes()
        for name, content in (("b.mgz", gzip.compress(raw)), ("b.mgh", bytes(raw))):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(InputError, match=message):
                read_image(tmp_path / name)
    (tmp_path / "b.mgz").write_bytes(gzip.compress(good[:100]))
    with pytest.raises(InputError, match="it is shorter than a header"):
        read_image(tmp_path / "b.mgz")


@pytest.mark.parametrize("kind", [nib.AnalyzeImage, nib.Spm99AnalyzeImage])
def test_analyze_files_without_orientation_agree_with_itk(tmp_path: Path, kind: Any) -> None:
    image = kind(numbers(), None)
    image.header.set_zooms((2, 1.5, 3))
    image.to_filename(tmp_path / "a.hdr")
    (tmp_path / "a.mat").unlink(missing_ok=True)  # SPM's affine
    by_itk = sitk.ReadImage(str(tmp_path / "a.hdr"))
    for name in ("a.hdr", "a.img"):
        with pytest.warns(GeometryWarning, match="has no orientation .* an Analyze file"):
            got = read_image(tmp_path / name)
        for index in ((0, 0, 0), (3, 0, 1), (0, 5, 4)):
            point = got.grid.world_from_index.numpy() @ np.array([*index, 1.0])
            lps = np.array(by_itk.TransformIndexToPhysicalPoint(index))
            np.testing.assert_allclose(point[:3], lps * (-1, -1, 1))
            assert got.values[(0, 0, *index)] == by_itk[index]
    for offset in (100, 200):
        (tmp_path / "a.img").write_bytes(bytes(offset))
        with pytest.raises(InputError, match="is truncated"):
            read_image(tmp_path / "a.hdr")


def test_analyze_files_with_spms_affine(tmp_path: Path) -> None:
    nib.Spm99AnalyzeImage(numbers(), AFFINE).to_filename(tmp_path / "a.hdr")
    assert (tmp_path / "a.mat").exists()
    np.testing.assert_allclose(read_image(tmp_path / "a.hdr").grid.world_from_index.numpy(), AFFINE)
