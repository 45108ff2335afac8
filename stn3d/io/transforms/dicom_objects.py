"""DICOM registration objects to write, made with pydicom."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io.dicom_series import DicomSeries
from stn3d.io.geometry import Matrix, itk_geometry, lps_flip
from stn3d.io.transforms.fields import vectors_of
from stn3d.transforms import DisplacementField

LINEAR_CLASS = "1.2.840.10008.5.1.4.1.1.66.1"
DEFORMABLE_CLASS = "1.2.840.10008.5.1.4.1.1.66.3"
_FLIP = lps_flip(3)
_REGISTRATION = ("125021", "DCM", "Frame of Reference Identity")
_IMAGE_CONTENT = ("125025", "DCM", "Image Content-based Alignment")


def registration_object(
    field: DisplacementField | None,
    matrix: Matrix,
    fixed: DicomSeries | None,
    moving: DicomSeries | None,
) -> Any:
    """A registration object.

    Args:
        field: displacement field that comes first; None for a linear transform.
        matrix: ``(4, 4)`` matrix that follows it, fixed to moving points, RAS+ mm.
        fixed: series of the fixed image. Default: made-up identifiers.
        moving: series of the moving image, likewise.

    Returns:
        A pydicom dataset.

    Raises:
        InputError: the axes of the field's grid are not orthogonal.
    """
    content = matrix.tobytes() + (b"" if field is None else vectors_of(field).tobytes())
    uids = [_uid(content, word) for word in ("fixed", "moving", "study", "series", "instance")]
    frames = [
        (series.frame_of_reference if series else "") or uid
        for series, uid in zip((fixed, moving), uids, strict=False)
    ]
    kind = LINEAR_CLASS if field is None else DEFORMABLE_CLASS
    dataset = _header(kind, uids[2:], fixed)
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = frames[0], ""
    pairs = list(zip(frames, (fixed, moving), strict=True))
    if field is None:
        moving_to_fixed = np.linalg.inv(_FLIP @ matrix @ _FLIP).astype(np.float64)
        dataset.RegistrationSequence = [
            _linear_item(frame, series, one)
            for (frame, series), one in zip(pairs, (np.eye(4), moving_to_fixed), strict=True)
        ]
    else:
        dataset.DeformableRegistrationSequence = [
            _deformable_item(*pairs[0], None, np.eye(4)),
            _deformable_item(*pairs[1], field, _FLIP @ matrix @ _FLIP),
        ]
    _add_references(dataset, fixed, moving)
    return dataset


def _header(kind: str, uids: list[str], fixed: DicomSeries | None) -> Any:
    """Everything but the transform."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(kind), UID(uids[2])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"):
        setattr(dataset, name, "")
    for name in ("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"):
        setattr(dataset, name, "")
    dataset.StudyInstanceUID = uids[0]
    if fixed is not None:
        fixed.copy_patient_and_study(dataset)
    now = datetime.now(timezone.utc)
    dataset.SOPClassUID, dataset.SOPInstanceUID = kind, uids[2]
    dataset.SeriesInstanceUID, dataset.Modality = uids[1], "REG"
    dataset.SeriesNumber, dataset.InstanceNumber = 1, 1
    dataset.ContentDate, dataset.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    dataset.ContentLabel, dataset.ContentDescription = "REGISTRATION", "Registration by stn3d"
    dataset.ContentCreatorName = ""
    dataset.Manufacturer, dataset.ManufacturerModelName = "stn3d authors", "stn3d"
    dataset.DeviceSerialNumber, dataset.SoftwareVersions = "0", "stn3d"
    return dataset


def _linear_item(frame: str, series: DicomSeries | None, matrix: Matrix) -> Any:
    from pydicom.dataset import Dataset

    item, registration = Dataset(), Dataset()
    item.FrameOfReferenceUID = frame
    if series is not None:
        item.ReferencedImageSequence = series.references()
    registration.MatrixSequence = [_matrix_item(matrix)]
    registration.RegistrationTypeCodeSequence = [_code(*_IMAGE_CONTENT)]
    item.MatrixRegistrationSequence = [registration]
    return item


def _deformable_item(
    frame: str, series: DicomSeries | None, field: DisplacementField | None, post: Matrix
) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.SourceFrameOfReferenceUID = frame
    if series is not None:
        item.ReferencedImageSequence = series.references()
    item.RegistrationTypeCodeSequence = [_code(*(_IMAGE_CONTENT if field else _REGISTRATION))]
    item.PreDeformationMatrixRegistrationSequence = [_matrix_item(np.eye(4))]
    item.PostDeformationMatrixRegistrationSequence = [_matrix_item(post)]
    if field is not None:
        item.DeformableRegistrationGridSequence = [_grid_item(field)]
    return item


def _grid_item(field: DisplacementField) -> Any:
    """The grid; its third axis is reversed where that makes it right-handed, as DICOM needs."""
    from pydicom.dataset import Dataset

    vectors, grid = vectors_of(field), field.grid
    lps = _FLIP @ grid.world_from_index.numpy()
    if np.linalg.det(lps) < 0:
        vectors, grid = vectors[:, :, ::-1], _reversed(grid)
    origin, spacing, direction = itk_geometry(grid.world_from_index.numpy())
    cosines = np.reshape(direction, (3, 3))
    if not np.allclose(cosines.T @ cosines, np.eye(3), atol=1e-5):
        raise InputError(
            "a DICOM deformation grid has orthogonal axes, and the transform's grid is sheared; "
            "give a --like without shear."
        )
    item = Dataset()
    item.ImagePositionPatient = [_decimal(n) for n in origin]
    item.ImageOrientationPatient = [_decimal(n) for n in cosines.T[:2].ravel().tolist()]
    item.GridDimensions = list(grid.shape)
    item.GridResolution = [float(n) for n in spacing]
    numbers: NDArray[Any] = np.transpose(vectors * np.array([-1, -1, 1]), (2, 1, 0, 3))
    item.VectorGridData = np.ascontiguousarray(numbers, "<f4").tobytes()
    return item


def _reversed(grid: Grid) -> Grid:
    flip = torch.eye(4, dtype=torch.float64)
    flip[2, 2], flip[2, 3] = -1, grid.shape[2] - 1
    return Grid(grid.shape, grid.world_from_index @ flip)


def _matrix_item(matrix: Matrix) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.FrameOfReferenceTransformationMatrix = [_decimal(n) for n in matrix.ravel().tolist()]
    item.FrameOfReferenceTransformationMatrixType = _matrix_type(matrix)
    return item


def _matrix_type(matrix: Matrix) -> str:
    gram = matrix[:3, :3].T @ matrix[:3, :3]
    if np.linalg.det(matrix[:3, :3]) > 0 and np.allclose(gram, np.eye(3), atol=1e-6):
        return "RIGID"
    diagonal = np.allclose(gram, np.diag(gram.diagonal()), atol=1e-6)
    return "RIGID_SCALE" if diagonal and np.linalg.det(matrix[:3, :3]) > 0 else "AFFINE"


def _decimal(number: float) -> Any:
    """A DICOM decimal string: at most 16 characters."""
    from pydicom.valuerep import format_number_as_ds

    return format_number_as_ds(float(number))


def _code(value: str, scheme: str, meaning: str) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _add_references(dataset: Any, *series: DicomSeries | None) -> None:
    """The Common Instance Reference module: the images that the object refers to."""
    from pydicom.dataset import Dataset

    items = []
    for one in series:
        if one is not None:
            item = Dataset()
            item.ReferencedInstanceSequence = one.references()
            item.SeriesInstanceUID = one.headers[0].get("SeriesInstanceUID", "")
            items.append(item)
    if items:
        dataset.ReferencedSeriesSequence = items


def _uid(content: bytes, word: str) -> str:
    """A UID that depends on the transform only (ISO/IEC 9834-8: 2.25 and a number)."""
    digest = hashlib.sha256(word.encode() + content).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"
