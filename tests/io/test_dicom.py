"""DICOM series and multi-frame files: positions of slices, gantry tilt, dcm2niix."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset

from stn3d.errors import InputError
from stn3d.io import GeometryWarning, read_image, write_image
from tests.io.test_itk import dicom_series

Place = tuple[float, float, float]
AXIAL = (1.0, 0, 0, 0, 1, 0)


def series(folder: Path, places: list[Place], orientations: list[tuple[float, ...]]) -> None:
    """A CT series with slices at these LPS positions; every voxel of slice n is n."""
    folder.mkdir(exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, (place, cosines) in enumerate(zip(places, orientations, strict=True)):
        image = sitk.GetImageFromArray(np.full((6, 7), number, dtype=np.int16))
        image.SetSpacing([1.5, 2])
        tags = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"1.2.3.{number + 1}",
            "0008|0060": "CT",
            "0020|000d": "1.2.9",
            "0020|000e": "1.2.3",
            "0020|0032": "\\".join(f"{x:.6f}" for x in place),
            "0020|0037": "\\".join(f"{x:g}" for x in cosines),
        }
        for key, value in tags.items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{number:03d}.dcm"))
        writer.Execute(image)


def multi_frame(path: Path, places: list[Place] | None, frames: int = 4) -> None:
    """An enhanced CT file; every voxel of frame n is n."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    data.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2.1", "1.2.3.4"
    data.StudyInstanceUID, data.SeriesInstanceUID, data.Modality = "1.2.9", "1.2.3", "CT"
    data.Rows, data.Columns, data.NumberOfFrames = 6, 7, frames
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = list(AXIAL)
    measures.PixelSpacing, measures.SliceThickness = [2, 1.5], 3
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    data.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for place in places or []:
        group, position = Dataset(), Dataset()
        position.ImagePositionPatient = list(place)
        group.PlanePositionSequence = [position]
        groups.append(group)
    if groups:
        data.PerFrameFunctionalGroupsSequence = groups
    voxels = np.repeat(np.arange(frames, dtype="<i2"), 42)
    data.PixelData = voxels.tobytes()
    data["PixelData"].VR = "OW"
    data.save_as(path, enforce_file_format=True)


def test_gantry_tilt_shears_the_affine(tmp_path: Path) -> None:
    tilt = np.tan(np.deg2rad(18))
    places = [(0.0, 3 * k * tilt, 3.0 * k) for k in (3, 0, 2, 1, 4)]
    series(tmp_path / "ct", places, [AXIAL] * 5)
    with pytest.warns(GeometryWarning, match=r"ct shear by 18 degrees \(gantry tilt\)"):
        image = read_image(tmp_path / "ct")
    expected = [[-1.5, 0, 0, 0], [0, -2, -3 * tilt, 0], [0, 0, 3, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(image.grid.world_from_index.numpy(), expected, atol=1e-5)
    assert image.values[0, 0, 0, 0].tolist() == [1, 3, 2, 0, 4]
    for name in ("a.nii.gz", "a.mha", "a.nrrd"):  # the shear survives writing
        write_image(tmp_path / name, image.values, image)
        with pytest.warns(GeometryWarning) if name == "a.nii.gz" else np.errstate():
            again = read_image(tmp_path / name)
        np.testing.assert_allclose(again.grid.world_from_index.numpy(), expected, atol=1e-5)
    by_itk = sitk.ReadImage(str(tmp_path / "a.nrrd"))
    last = by_itk.TransformIndexToPhysicalPoint((0, 0, 4))
    np.testing.assert_allclose(last, (0, 12 * tilt, 12), atol=1e-4)


def test_oblique_slices_agree_with_simpleitk(tmp_path: Path) -> None:
    c, s = np.cos(0.3), np.sin(0.3)
    cosines = (c, s, 0.0, 0.0, 0.0, -1.0)
    normal = np.cross(cosines[:3], cosines[3:])
    places = [tuple(np.array([5.0, 6, 7]) + 2.5 * k * normal) for k in range(4)]
    series(tmp_path / "mr", places, [cosines] * 4)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "mr")))
    expected = reader.Execute()
    image = read_image(tmp_path / "mr")
    for index in ((0, 0, 0), (6, 0, 0), (0, 5, 0), (1, 2, 3)):
        point = image.grid.world_from_index.numpy() @ np.array([*index, 1.0])
        lps = np.array(expected.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose(point[:3], lps * (-1, -1, 1), atol=1e-4)
        assert image.values[(0, 0, *index)] == expected[index]


def test_slices_without_one_regular_grid_are_rejected(tmp_path: Path) -> None:
    coronal = (1.0, 0, 0, 0, 0, -1)
    stacks: dict[str, tuple[list[Place], list[tuple[float, ...]], str]] = {
        "same": ([(0, 0, 5)] * 3, [AXIAL] * 3, "all 3 slices of .*same have the same position"),
        "times": (
            [(0, 0, z) for z in (0.0, 3, 6)] * 2,
            [AXIAL] * 6,
            r"times has 2 slices at each of 3 positions, and no attribute divides them into",
        ),
        "twice": (
            [(0, 0, z) for z in (0.0, 3, 3, 6)],
            [AXIAL] * 4,
            "twice has up to 2 slices at the same position, but 1 at another one; complete the",
        ),
        "mixed": (
            [(0, 0, 0), (0, 0, 3), (0, 0, 6)],
            [AXIAL, AXIAL, coronal],
            r"mixed have different orientations \(002.dcm against 000.dcm\)",
        ),
        "gap": (
            [(0, 0, z) for z in (0.0, 3, 9, 12)],
            [AXIAL] * 4,
            r"unevenly spaced by up to 3 mm \(between 001.dcm and 002.dcm\)",
        ),
        "crooked": (
            [(x, 0, z) for x, z in ((0, 0), (0, 3), (4, 6), (0, 9.0))],
            [AXIAL] * 4,
            "missing or unevenly spaced",
        ),
    }
    for name, (places, orientations, message) in stacks.items():
        series(tmp_path / name, places, orientations)
        with pytest.raises(InputError, match=message):
            read_image(tmp_path / name)


def test_slices_keep_their_own_rescaling(tmp_path: Path) -> None:
    dicom_series(tmp_path / "pet", [0, 3, 6])
    for number, path in enumerate(sorted((tmp_path / "pet").iterdir())):
        data = pydicom.dcmread(path)
        data.RescaleSlope, data.RescaleIntercept = (1, 1.5, 2.25)[number], 0
        data.save_as(path)
    image = read_image(tmp_path / "pet")
    assert image.values[0, 0, 0, 0].tolist() == [10, 30, 67.5]


def test_multi_frame_files_by_the_positions_of_their_frames(tmp_path: Path) -> None:
    multi_frame(tmp_path / "a.dcm", [(1, 2, z) for z in (9.0, 0, 6, 3)])
    image = read_image(tmp_path / "a.dcm")
    expected = [[-1.5, 0, 0, -1], [0, -2, 0, -2], [0, 0, 3, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(image.grid.world_from_index.numpy(), expected)
    assert image.values[0, 0, 0, 0].tolist() == [1, 3, 2, 0]
    multi_frame(tmp_path / "b.dcm", [(0, 0, z) for z in (0.0, 3, 3, 6)])
    with pytest.raises(InputError, match=r"b\.dcm has up to 2 slices at the same position"):
        read_image(tmp_path / "b.dcm")
    multi_frame(tmp_path / "c.dcm", None)
    with pytest.warns(GeometryWarning, match=r"4 frames of .*c\.dcm have no positions"):
        assert read_image(tmp_path / "c.dcm").grid.shape == (7, 6, 4)


def test_dcm2niix_converts_what_simpleitk_cannot_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dicom_series(tmp_path / "scan", [0, 3, 6])
    for path in (tmp_path / "scan").iterdir():
        data = pydicom.dcmread(path)
        data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.201"  # HTJ2K
        del data.PixelData
        data.save_as(path)
    with pytest.raises(InputError, match=r"cannot be read .* \(for example with dcm2niix\)"):
        read_image(tmp_path / "scan")
    array = np.arange(60, dtype=np.int16).reshape(5, 4, 3)
    nib.Nifti1Image(array, np.diag([2, 2, 3, 1.0])).to_filename(tmp_path / "converted.nii")
    program = tmp_path / "bin" / "dcm2niix"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\nwhile [ $# -gt 0 ]; do [ $1 = -o ] && out=$2; shift; done\n"
        f"cp {tmp_path}/converted.nii $out/image.nii\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    with pytest.warns(GeometryWarning, match="was converted by dcm2niix"):
        image = read_image(tmp_path / "scan")
    np.testing.assert_array_equal(image.values[0, 0].numpy(), array)


def test_damaged_headers_are_rejected(tmp_path: Path) -> None:
    multi_frame(tmp_path / "a.dcm", [(0, 0, z) for z in (0.0, 3, 6, 9)])
    whole = (tmp_path / "a.dcm").read_bytes()
    for cut in (150, 300, 500, len(whole) - 100):
        (tmp_path / "a.dcm").write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"a\.dcm cannot be read|the slice .* has no"):
            read_image(tmp_path / "a.dcm")
