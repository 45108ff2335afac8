"""Images read by SimpleITK: other formats and DICOM series."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from stn3d.errors import InputError
from stn3d.io import (
    read_image,
)
from tests.io.cases import AFFINE, nifti, numbers


def test_other_formats_agree_with_nifti(tmp_path: Path) -> None:
    array = numbers().astype(np.float32)
    expected = read_image(nifti(tmp_path / "a.nii", array))
    nib.MGHImage(array, AFFINE).to_filename(tmp_path / "a.mgz")
    itk = sitk.ReadImage(str(tmp_path / "a.nii"))
    for name in ("a.mha", "a.nrrd"):
        sitk.WriteImage(itk, str(tmp_path / name))
    for name in ("a.mgz", "a.mha", "a.nrrd"):
        image = read_image(tmp_path / name)
        assert torch.equal(image.values, expected.values)
        assert image.grid.same_as(expected.grid)


def dicom_series(folder: Path, heights_mm: list[float], uid: str = "1.2.3") -> None:
    """An axial MR series with slices at these heights."""
    folder.mkdir(exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, z in enumerate(heights_mm, start=1):
        image = sitk.GetImageFromArray(np.full((1, 6, 7), number * 10, dtype=np.int16))
        image.SetSpacing([1.5, 2, 3])
        tags = {
            "0008|0018": f"{uid}.{number}",
            "0008|0060": "MR",
            "0020|000d": "1.2.9",
            "0020|000e": uid,
            "0020|0013": str(number),
            "0020|0032": f"-10\\-20\\{z}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }
        for key, value in tags.items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{uid}_{number}.dcm"))
        writer.Execute(image)


def test_folder_of_one_dicom_series(tmp_path: Path) -> None:
    dicom_series(tmp_path / "scan", [0, 3, 6, 9])
    image = read_image(tmp_path / "scan")
    assert image.grid.shape == (7, 6, 4)
    expected = np.diag([-1.5, -2, 3, 1])
    expected[:3, 3] = (10, 20, 0)
    np.testing.assert_allclose(image.grid.world_from_index.numpy(), expected)
    assert image.values[0, 0, 0, 0].tolist() == [10, 20, 30, 40]


def test_folders_without_a_single_complete_series(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="holds no DICOM series; give an image file"):
        read_image(tmp_path)
    dicom_series(tmp_path / "gap", [0, 3, 9, 12])
    with pytest.raises(InputError, match="are missing or unevenly spaced by up to 3 mm"):
        read_image(tmp_path / "gap")
    dicom_series(tmp_path / "two", [0, 3, 6])
    dicom_series(tmp_path / "two", [0, 3], uid="1.2.4")
    with pytest.raises(InputError, match=r"2 DICOM series.*1\.2\.3\S* \(3 files\), 1\.2\.4\S* \(2"):
        read_image(tmp_path / "two")
    assert capfd.readouterr().err == ""


def test_colours_and_vectors_by_simpleitk(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.zeros((4, 5, 3), np.float32), isVector=True)
    sitk.WriteImage(image, str(tmp_path / "a.tif"))
    with pytest.raises(InputError, match="vectors that are no colours"):
        read_image(tmp_path / "a.tif")


def test_axes_that_nifti_cannot_hold(tmp_path: Path) -> None:
    (tmp_path / "a.nrrd").write_bytes(
        b"NRRD0004\ntype: uint8\ndimension: 2\nsizes: 40000 2\nencoding: raw\n\n" + bytes(80000)
    )
    with pytest.raises(InputError, match=r"a\.nrrd: the image has 40000 x 2 voxels; every axis"):
        read_image(tmp_path / "a.nrrd")
