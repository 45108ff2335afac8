"""NIfTI files: stored types, compression, geometry."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from stn3d.errors import InputError
from stn3d.io import (
    GeometryWarning,
    read_image,
    write_image,
)
from tests.io.cases import AFFINE, SHAPE, nifti, numbers


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_values_of_every_stored_type(tmp_path: Path, dtype: type) -> None:
    array = numbers().astype(dtype)
    image = read_image(nifti(tmp_path / "a.nii.gz", array))
    assert image.values.dtype == torch.float32
    assert image.values.shape == (1, 1, *SHAPE)
    np.testing.assert_array_equal(image.values[0, 0].numpy(), array)
    np.testing.assert_allclose(image.grid.world_from_index.numpy(), AFFINE)
    assert image.name.endswith("a.nii.gz")


def test_slope_intercept_and_byte_order(tmp_path: Path) -> None:
    array = numbers()
    image = nib.Nifti1Image(array, AFFINE, nib.Nifti1Header(endianness=">"))
    image.header.set_data_dtype(np.int16)
    image.to_filename(tmp_path / "a.nii")
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[112:120] = np.array([0.5, -3], dtype=">f4").tobytes()  # scl_slope, scl_inter
    (tmp_path / "a.nii").write_bytes(raw)
    np.testing.assert_allclose(read_image(tmp_path / "a.nii").values[0, 0].numpy(), array * 0.5 - 3)


@pytest.mark.parametrize("endianness", "<>")
@pytest.mark.parametrize("volume", [None, 1])
def test_compressed_files_equal_nibabel(
    tmp_path: Path, endianness: str, volume: int | None
) -> None:
    array = numbers(*SHAPE, 3) if volume else numbers()
    image = nib.Nifti1Image(array, AFFINE, nib.Nifti1Header(endianness=endianness))
    image.header.set_slope_inter(0.37, -3)
    image.to_filename(tmp_path / "a.nii.gz")
    expected = np.asanyarray(nib.load(tmp_path / "a.nii.gz").dataobj).astype(np.float32)
    got = read_image(tmp_path / "a.nii.gz", volume=volume).values[0, 0].numpy()
    np.testing.assert_array_equal(got, expected[..., volume] if volume else expected)


def test_compressed_files_with_a_damaged_end_are_read(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii.gz", numbers(30, 30, 30))
    expected, good = read_image(path).values, path.read_bytes()
    for content in (good + b"more", good[:-8], good[:-8] + bytes(8)):
        path.write_bytes(content)
        assert torch.equal(read_image(path).values, expected)


def test_invalid_geometry_is_rejected(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.nii"
    raw = bytearray(nifti(path, numbers()).read_bytes())
    for cut in (slice(280, 328), slice(280, 296)):  # srow_x, y, z; srow_x
        damaged = raw.copy()
        damaged[cut] = bytes(cut.stop - cut.start)
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"a\.nii: the image's affine is singular"):
            read_image(path)
    damaged[280:284] = np.float32(np.nan).tobytes()
    path.write_bytes(damaged)
    with pytest.raises(InputError, match=r"a\.nii: the image's affine holds NaN"):
        read_image(path)
    raw[254:256] = bytes(2)  # sform_code
    for size in (0, -1):
        raw[80:84] = np.float32(size).tobytes()  # pixdim[1]
        path.write_bytes(raw)
        with pytest.raises(InputError, match="voxel sizes are not positive and there is no sform"):
            read_image(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("codes", [(1, 1), (2, 0), (0, 1), (4, 1), (0, 0)])
def test_affines_and_codes_are_kept(tmp_path: Path, codes: tuple[int, int]) -> None:
    model = nib.Nifti1Image(numbers(), AFFINE)
    qform = AFFINE.copy()
    qform[0, 3] += 0.01  # not what stn3d follows, but it must stay
    model.set_qform(qform, codes[1])
    model.set_sform(AFFINE, codes[0])
    model.header.set_xyzt_units("mm", "sec")
    model.to_filename(tmp_path / "a.nii")
    if codes == (0, 0):
        with pytest.warns(GeometryWarning, match="has no orientation"):
            image = read_image(tmp_path / "a.nii")
    else:
        image = read_image(tmp_path / "a.nii")
    write_image(tmp_path / "b.nii.gz", image.values, image)
    a, b = nib.load(tmp_path / "a.nii"), nib.load(tmp_path / "b.nii.gz")
    assert b.get_data_dtype() == np.float32
    assert (int(b.header["sform_code"]), int(b.header["qform_code"])) == codes
    np.testing.assert_array_equal(b.get_sform(), a.get_sform())
    np.testing.assert_array_equal(b.get_qform(), a.get_qform())
    np.testing.assert_array_equal(b.header["pixdim"][:4], a.header["pixdim"][:4])
    assert b.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_array_equal(b.get_fdata(), a.get_fdata())


def test_a_header_without_its_data_file_is_one_sentence(tmp_path: Path) -> None:
    nib.Nifti1Pair(np.ones((4, 3, 2), np.int16), np.eye(4)).to_filename(tmp_path / "a.img")
    (tmp_path / "a.img").unlink()
    with pytest.raises(InputError, match=r"the voxels of .*a\.hdr cannot be read .*a\.img"):
        read_image(tmp_path / "a.hdr")
