"""DICOM registration objects, by the standard's definition."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch

from stn3d.errors import InputError
from stn3d.io import read_transform, write_transform
from stn3d.transforms import Affine
from tests.io.transforms.cases import GRIDS, MOVING, affine, field, largest_gap_mm, points_in

FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])
LPS = np.array([-1.0, -1.0, 1.0])


def test_a_matrix_maps_moving_to_fixed_points(tmp_path: Path) -> None:
    write_transform(tmp_path / "t.dcm", affine())
    found = pydicom.dcmread(tmp_path / "t.dcm")
    assert found.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.1"
    fixed, moving = found.RegistrationSequence
    assert fixed.FrameOfReferenceUID == found.FrameOfReferenceUID != moving.FrameOfReferenceUID
    matrices = [
        np.reshape(
            item.MatrixRegistrationSequence[0]
            .MatrixSequence[0]
            .FrameOfReferenceTransformationMatrix,
            (4, 4),
        ).astype(float)
        for item in (fixed, moving)
    ]
    np.testing.assert_array_equal(matrices[0], np.eye(4))
    expected = FLIP @ np.linalg.inv(affine().matrix.numpy()) @ FLIP
    np.testing.assert_allclose(matrices[1], expected, atol=1e-9)


@pytest.mark.parametrize("orientation", GRIDS)
def test_a_grid_maps_fixed_to_moving_points(tmp_path: Path, orientation: str) -> None:
    """Positions and vectors at grid points, computed from the attributes."""
    grid = GRIDS[orientation]
    dense = field(grid).then(affine())
    write_transform(tmp_path / "t.dcm", dense)
    item = pydicom.dcmread(tmp_path / "t.dcm").DeformableRegistrationSequence[1]
    one = item.DeformableRegistrationGridSequence[0]
    shape, spacing = list(one.GridDimensions), np.array(one.GridResolution)
    rows = np.reshape(one.ImageOrientationPatient, (2, 3)).astype(float)
    axes = np.stack([*rows, np.cross(*rows)], axis=1)
    vectors = np.frombuffer(one.VectorGridData, "<f4").reshape(*shape[::-1], 3)
    post = item.PostDeformationMatrixRegistrationSequence[0].FrameOfReferenceTransformationMatrix
    matrix = np.reshape(post, (4, 4)).astype(float)
    for index in ((2, 3, 4), (5, 1, 2)):
        start = np.array(one.ImagePositionPatient, float) + axes @ (np.array(index) * spacing)
        end = matrix[:3, :3] @ (start + vectors[index[::-1]]) + matrix[:3, 3]
        ours = dense(torch.from_numpy(start * LPS)[None])[0].numpy()
        np.testing.assert_allclose(end * LPS, ours, atol=1e-4)


def test_a_matrix_before_the_grid(tmp_path: Path) -> None:
    """``post(pre(x) + u(x))``."""
    grid = GRIDS["oblique"]
    path = tmp_path / "t.dcm"
    write_transform(path, field(grid).then(affine()))
    dataset = pydicom.dcmread(path)
    pre = FLIP @ affine().inverse().matrix.numpy() @ FLIP
    item = dataset.DeformableRegistrationSequence[1].PreDeformationMatrixRegistrationSequence[0]
    item.FrameOfReferenceTransformationMatrix = [f"{n:.12g}" for n in pre.ravel()]
    dataset.save_as(path)
    points = points_in(grid)
    u = field(grid)(points) - points
    expected = affine()(affine().inverse()(points) + u)
    assert float((read_transform(path)(points) - expected).norm(dim=-1).max()) < 1e-4


def slice_of(path: Path, frame: str) -> Path:
    """A DICOM file with the identifiers that a registration refers to."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.4")
    meta.MediaStorageSOPInstanceUID = UID(f"{frame}.9")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", f"{frame}.9"
    dataset.FrameOfReferenceUID, dataset.SeriesInstanceUID = frame, f"{frame}.8"
    dataset.StudyInstanceUID, dataset.PatientName = f"{frame}.7", "A^B"
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_series_give_frames_of_reference_and_patient(tmp_path: Path) -> None:
    fixed, moving = slice_of(tmp_path / "f.dcm", "1.2.3"), slice_of(tmp_path / "m.dcm", "1.2.4")
    write_transform(tmp_path / "t.dcm", affine(), fixed=fixed, moving=moving)
    found = pydicom.dcmread(tmp_path / "t.dcm")
    assert (found.FrameOfReferenceUID, found.StudyInstanceUID) == ("1.2.3", "1.2.3.7")
    assert found.PatientName == "A^B"
    item = found.RegistrationSequence[1]
    assert item.FrameOfReferenceUID == "1.2.4"
    assert item.ReferencedImageSequence[0].ReferencedSOPInstanceUID == "1.2.4.9"
    assert {one.SeriesInstanceUID for one in found.ReferencedSeriesSequence} == {
        "1.2.3.8",
        "1.2.4.8",
    }

    # a third frame of reference: the moving series selects its own
    third = copy.deepcopy(item)
    third.FrameOfReferenceUID = "1.2.5"
    found.RegistrationSequence.append(third)
    found.save_as(tmp_path / "three.dcm")
    with pytest.raises(InputError, match="registers 2 images"):
        read_transform(tmp_path / "three.dcm")
    chosen = read_transform(tmp_path / "three.dcm", moving=moving)
    assert largest_gap_mm(chosen, affine(), MOVING) < 1e-6


def test_a_registered_frame_of_its_own(tmp_path: Path) -> None:
    """Fixed points into the registered frame by their matrix, out of it by the moving image's."""
    fixed, moving = slice_of(tmp_path / "f.dcm", "1.2.3"), slice_of(tmp_path / "m.dcm", "1.2.4")
    write_transform(tmp_path / "t.dcm", affine(), fixed=fixed, moving=moving)
    dataset = pydicom.dcmread(tmp_path / "t.dcm")
    dataset.FrameOfReferenceUID = "1.2.9"
    shift = np.eye(4)
    shift[:3, 3] = 7, -4, 2
    for item in dataset.RegistrationSequence:
        one = item.MatrixRegistrationSequence[0].MatrixSequence[0]
        matrix = shift @ np.reshape(one.FrameOfReferenceTransformationMatrix, (4, 4)).astype(float)
        one.FrameOfReferenceTransformationMatrix = [f"{n:.12g}" for n in matrix.ravel()]
    dataset.save_as(tmp_path / "t.dcm")
    found = read_transform(tmp_path / "t.dcm", fixed=fixed, moving=moving)
    assert largest_gap_mm(found, affine(), MOVING) < 1e-6
    with pytest.raises(InputError, match="registers 2 images"):
        read_transform(tmp_path / "t.dcm")


def test_what_is_refused(tmp_path: Path) -> None:
    image = slice_of(tmp_path / "f.dcm", "1.2.3")
    with pytest.raises(InputError, match="is a MR Image Storage, not a transform"):
        read_transform(image)
    path = tmp_path / "t.dcm"
    write_transform(path, field(MOVING))
    dataset = pydicom.dcmread(path)
    grid = dataset.DeformableRegistrationSequence[1].DeformableRegistrationGridSequence[0]
    grid.GridDimensions = [1000, 1000, 1000]
    dataset.save_as(path)
    with pytest.raises(InputError, match=r"its grid of \(1000, 1000, 1000\) vectors has"):
        read_transform(path)
    with pytest.raises(InputError, match="map 3D images"):
        write_transform(tmp_path / "plane.dcm", Affine.identity(2))
