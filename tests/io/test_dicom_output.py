"""DICOM series that are written, read again by SimpleITK and by stn3d."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch

from stn3d import Grid, InputError, read_image
from stn3d.io.dicom_output import DicomTags, write_dicom_series
from stn3d.io.dicom_series import series_of
from tests.helpers.geometry_cases import oblique

SHAPE = (12, 10, 7)


def by_itk(folder: Path) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


@pytest.mark.parametrize("whole", [True, False])
def test_voxels_and_geometry_are_read_again(tmp_path: Path, whole: bool) -> None:
    grid = oblique(3, SHAPE)
    values = 900 * torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(0)) - 300
    values = values.round() if whole else values
    files = write_dicom_series(tmp_path / "out", values, grid)
    assert [file.name for file in files] == [f"{n:04d}.dcm" for n in range(1, 8)]
    image = read_image(tmp_path / "out")
    back = torch.eye(4, dtype=torch.float64)  # readers stack slices along their normal
    back[2, 2], back[2, 3] = -1, SHAPE[2] - 1
    assert image.grid.same_as(Grid(SHAPE, grid.world_from_index @ back))
    tolerance = 1e-3 if whole else 900 / 65000
    torch.testing.assert_close(image.values.flip(-1), values, atol=tolerance, rtol=0)
    found = by_itk(tmp_path / "out")
    assert found.GetSize() == SHAPE
    point = found.TransformIndexToPhysicalPoint((3, 4, 1))
    expected = grid.world_from_index.numpy() @ [3, 4, 5, 1]
    np.testing.assert_allclose(np.array(point) * [-1, -1, 1], expected[:3], atol=1e-3)


def test_patient_modality_and_frame_of_reference(tmp_path: Path) -> None:
    grid = Grid.of_spacing(SHAPE, 2.0)
    values = torch.arange(float(np.prod(SHAPE))).reshape(1, 1, *SHAPE)
    write_dicom_series(tmp_path / "moving", values, grid)
    write_dicom_series(tmp_path / "fixed", values + 1, grid)
    for path in (tmp_path / "moving").iterdir():
        header = pydicom.dcmread(path)
        header.PatientID, header.Modality = "P7", "CT"
        header.save_as(path)
    tags = DicomTags(series_of(tmp_path / "moving"), series_of(tmp_path / "fixed"), "moved")
    (first, *_) = write_dicom_series(tmp_path / "moved", values, grid, tags)
    found = pydicom.dcmread(first)
    fixed, moving = (pydicom.dcmread(tmp_path / name / "0001.dcm") for name in ("fixed", "moving"))
    assert found.PatientID == "P7"
    assert found.Modality == "CT"
    assert found.SOPClassUID == pydicom.uid.CTImageStorage
    assert found.FrameOfReferenceUID == fixed.FrameOfReferenceUID != moving.FrameOfReferenceUID
    assert found.StudyInstanceUID == moving.StudyInstanceUID
    assert found.SeriesInstanceUID not in (fixed.SeriesInstanceUID, moving.SeriesInstanceUID)


def test_equal_input_gives_equal_files_and_other_folders_stay(tmp_path: Path) -> None:
    grid = Grid.of_spacing(SHAPE, 2.0)
    values = torch.ones(1, 1, *SHAPE)
    first, second = (
        [path.read_bytes() for path in write_dicom_series(tmp_path / "out", values, grid)]
        for _ in range(2)
    )
    assert first == second
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("a")
    with pytest.raises(InputError, match=r"other files, such as a\.txt"):
        write_dicom_series(tmp_path / "notes", values, grid)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_dicom_cannot_store(tmp_path: Path) -> None:
    sheared = torch.eye(4, dtype=torch.float64)
    sheared[0, 1] = 0.3
    values = torch.rand(1, 1, *SHAPE)
    with pytest.raises(InputError, match="not orthogonal"):
        write_dicom_series(tmp_path / "a", values, Grid(SHAPE, sheared))
    with pytest.raises(InputError, match="NaN"):
        write_dicom_series(tmp_path / "a", values / 0 * 0, Grid.of_spacing(SHAPE))
    with pytest.raises(InputError, match="2D"):
        write_dicom_series(tmp_path / "a", values[..., 0], Grid.of_spacing(SHAPE[:2]))
    assert list(tmp_path.iterdir()) == []
