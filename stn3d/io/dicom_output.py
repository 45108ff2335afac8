"""Images written as DICOM series, in the frame of reference of another series.

One file a slice along the third axis, as DICOM MR and CT images (PS3.3 A.3 and A.4): 16-bit pixels
with a rescale slope. Positions are LPS. Patient and study are those of the source series.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io.dicom_series import DicomSeries
from stn3d.io.files import atomic_folder
from stn3d.io.geometry import Matrix, lps_flip

_MR, _CT = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.2"
_STORAGE = {"CT": _CT}  # by modality; MR image storage for all others
_EXPLICIT = "1.2.840.10008.1.2.1"  # explicit VR, little endian
_UID_ROOT = "2.25."
_ORTHOGONAL = 1e-3  # largest cosine of the two axes of a slice
_WHOLE = 1e-4  # largest distance of whole numbers from an integer
_INT16 = 32767


@dataclass(frozen=True, eq=False)
class DicomTags:
    """What the headers of a new series say apart from its voxels.

    Args:
        source: series that the voxels come from: patient, study, modality. None for an anonymous
            one.
        frame: series whose frame of reference the new one shares. None for a new frame.
        description: series description.
    """

    source: DicomSeries | None = None
    frame: DicomSeries | None = None
    description: str = "stn3d"


def write_dicom_series(
    folder: str | os.PathLike[str], values: Tensor, grid: Grid, tags: DicomTags | None = None
) -> list[Path]:
    """Write an image as a DICOM series, all files or none.

    Equal input gives equal files, identifiers included.

    Args:
        folder: new folder, or one that holds nothing but .dcm files, which are replaced.
        values: ``(1, 1, *grid.shape)``; whole numbers up to 16 bits are stored exactly, others with
            a rescale slope.
        grid: 3D grid of the voxels; the slices are stacked along its third axis.
        tags: patient, study and frame of reference.

    Returns:
        The files.

    Raises:
        InputError: the image is 2D, its rows and columns are not orthogonal, it holds NaN, or the
            folder cannot be written.
    """
    tags = tags or DicomTags()
    geometry = _Geometry.of(grid)
    pixels, slope, intercept = _stored(values[0, 0].detach().cpu().double().numpy())
    content = hashlib.sha256(pixels.tobytes()).hexdigest()
    series = _uid(tags.description, grid.world_from_index.tolist(), content)
    names = [f"{number + 1:04d}.dcm" for number in range(grid.shape[2])]
    with atomic_folder(folder, ".dcm") as part:
        for number, name in enumerate(names):
            header = _header(tags, series, number)
            _place(header, geometry, number)
            _fill(header, pixels[:, :, number].T, slope, intercept)
            header.save_as(part / name, enforce_file_format=True)
    return [Path(folder) / name for name in names]


@dataclass(frozen=True, eq=False)
class _Geometry:
    """Positions of the slices, LPS."""

    lps_from_index: Matrix
    spacing: tuple[float, ...]

    @classmethod
    def of(cls, grid: Grid) -> _Geometry:
        if grid.ndim != 3:
            raise InputError("DICOM series are 3D; write this 2D image as .nii.gz or .mha.")
        matrix = lps_flip(3) @ grid.world_from_index.numpy()
        rows, columns = (matrix[:3, a] / grid.spacing_mm[a] for a in (0, 1))
        if abs(float(rows @ columns)) > _ORTHOGONAL:
            raise InputError(
                "rows and columns of the image are not orthogonal, which DICOM cannot store; write "
                ".nii.gz or .mha, or resample to an orthogonal grid."
            )
        return cls(matrix, grid.spacing_mm)

    @property
    def cosines(self) -> list[float]:
        """Directions along a row and along a column."""
        return [float(x) for a in (0, 1) for x in self.lps_from_index[:3, a] / self.spacing[a]]

    @property
    def distance(self) -> float:
        """Distance of two slices along their normal."""
        normal = np.cross(self.cosines[:3], self.cosines[3:])
        return abs(float(normal @ self.lps_from_index[:3, 2]))

    def position(self, number: int) -> list[float]:
        """Position of the first pixel of a slice."""
        return [float(x) for x in (self.lps_from_index @ [0, 0, number, 1])[:3]]


def _stored(values: NDArray[np.float64]) -> tuple[NDArray[np.int16], float, float]:
    """16-bit pixels, and the slope and intercept that turn them into values."""
    if not np.isfinite(values).all():
        raise InputError("DICOM cannot store NaN; give another --fill, such as 0.")
    low, high = float(values.min()), float(values.max())
    if np.abs(values - values.round()).max() < _WHOLE and max(-low, high) <= _INT16:
        return values.round().astype(np.int16), 1.0, 0.0
    slope = float(f"{max((high - low) / (2 * _INT16), 1e-12):.9e}")
    intercept = float(f"{(low + high) / 2:.9e}")
    pixels = ((values - intercept) / slope).round().clip(-_INT16, _INT16)
    return pixels.astype(np.int16), slope, intercept


def _header(tags: DicomTags, series: str, number: int) -> Any:
    """Patient, study, series and identifiers of a slice."""
    from pydicom.dataset import Dataset, FileMetaDataset

    header: Any = Dataset()
    if tags.source is not None:
        tags.source.copy_patient_and_study(header)
    for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate",
                 "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"):  # fmt: skip
        if name not in header:
            setattr(header, name, "")
    modality = "MR" if tags.source is None else tags.source.modality or "MR"
    header.Modality = modality
    header.SOPClassUID = _STORAGE.get(modality, _MR)
    header.SOPInstanceUID = _uid(series, number)
    header.SeriesInstanceUID = series
    if "StudyInstanceUID" not in header:
        header.StudyInstanceUID = _uid(series, "study")
    shared = "" if tags.frame is None else tags.frame.frame_of_reference
    header.FrameOfReferenceUID = shared or _uid(series, "frame")
    header.PositionReferenceIndicator = ""
    header.SeriesDescription, header.SeriesNumber = tags.description[:64], None
    header.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if modality == "CT" else "OTHER"]
    header.DerivationDescription = "Registered and resampled by stn3d"
    header.Manufacturer, header.InstanceNumber = "stn3d", number + 1
    header.file_meta = FileMetaDataset()
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    header.file_meta.TransferSyntaxUID = _EXPLICIT
    return header


def _place(header: Any, geometry: _Geometry, number: int) -> None:
    """The place of a slice in the frame of reference."""
    header.ImageOrientationPatient = [_decimal(x) for x in geometry.cosines]
    header.ImagePositionPatient = [_decimal(x) for x in geometry.position(number)]
    header.PixelSpacing = [_decimal(geometry.spacing[1]), _decimal(geometry.spacing[0])]
    header.SliceThickness = header.SpacingBetweenSlices = _decimal(geometry.distance)


def _fill(header: Any, pixels: NDArray[np.int16], slope: float, intercept: float) -> None:
    """The pixels of a slice, ``(rows, columns)``."""
    header.Rows, header.Columns = pixels.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
    header.PixelRepresentation = 1
    header.RescaleIntercept, header.RescaleSlope = _decimal(intercept), _decimal(slope)
    header.RescaleType = "HU" if header.Modality == "CT" else "US"
    header.PixelData = np.ascontiguousarray(pixels).astype("<i2").tobytes()


def _decimal(value: float) -> str:
    """A number as DICOM's decimal string, of at most 16 characters."""
    from pydicom.valuerep import format_number_as_ds

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return format_number_as_ds(float(value))


def _uid(*parts: object) -> str:
    """A unique identifier made from its parts (UUID-derived, PS3.5 B.2)."""
    import uuid

    name = "\n".join(str(part) for part in parts)
    return _UID_ROOT + str(uuid.uuid5(uuid.NAMESPACE_OID, f"stn3d {name}").int)
