"""Identifiers of a DICOM series: patient, study, modality, frame of reference."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stn3d.errors import InputError
from stn3d.io.dicom import series_in
from stn3d.io.dicom_slices import is_dicom

_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_STUDY = ("StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "AccessionNumber")
_OWN = ("SOPClassUID", "SOPInstanceUID", "FrameOfReferenceUID", "SeriesInstanceUID", "Modality")


@dataclass(frozen=True, eq=False)
class DicomSeries:
    """A DICOM series.

    Args:
        headers: patient, study and identifiers of each file.
    """

    headers: tuple[Any, ...]

    @property
    def frame_of_reference(self) -> str:
        """The UID of its frame of reference; empty if it has none."""
        return str(self.headers[0].get("FrameOfReferenceUID", ""))

    @property
    def modality(self) -> str:
        """The modality, such as CT or MR; empty if it is not stated."""
        return str(self.headers[0].get("Modality", ""))

    def copy_patient_and_study(self, target: Any) -> None:
        """Copy what identifies patient and study."""
        for name in (*_PATIENT, *_STUDY):
            if name in self.headers[0]:
                setattr(target, name, getattr(self.headers[0], name))

    def references(self) -> list[Any]:
        """Items of a ReferencedImageSequence."""
        from pydicom.dataset import Dataset

        items = []
        for header in self.headers:
            item = Dataset()
            item.ReferencedSOPClassUID = header.SOPClassUID
            item.ReferencedSOPInstanceUID = header.SOPInstanceUID
            items.append(item)
        return items


def series_of(source: object) -> DicomSeries | None:
    """The series of an image that was given as a DICOM folder or file; None for other images.

    Raises:
        InputError: a file is damaged, or the folder holds several series.
    """
    if not isinstance(source, str | os.PathLike):
        return None
    path = Path(source)
    if os.path.isdir(path):
        files = sorted({one.path for one in series_in(path)})
    elif os.path.isfile(path) and is_dicom(path):
        files = [path]
    else:
        return None
    return DicomSeries(tuple(_header(file) for file in files))


def _header(path: Path) -> Any:
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(
                path, stop_before_pixels=True, specific_tags=[*_PATIENT, *_STUDY, *_OWN]
            )
            _ = header.SOPClassUID, header.SOPInstanceUID
    except Exception as error:  # whatever pydicom may raise for a damaged file
        raise InputError(
            f"{path} cannot be read as a DICOM file; check that it is complete."
        ) from error
    return header
