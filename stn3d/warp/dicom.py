"""A transform applied to an image, written as a DICOM series."""

from __future__ import annotations

import os
from pathlib import Path

from stn3d.choices import ImageInterpolation
from stn3d.errors import InputError
from stn3d.io import ImageSource
from stn3d.io.dicom_output import DicomTags, write_dicom_series
from stn3d.io.dicom_series import series_of
from stn3d.io.files import check_folder
from stn3d.transforms import Transform
from stn3d.warp.apply import apply


def apply_to_dicom(
    transform: Transform,
    image: ImageSource,
    like: ImageSource,
    folder: str | os.PathLike[str],
    interpolation: ImageInterpolation = "auto",
    volume: int | None = None,
    fill: str | float = "auto",
) -> list[Path]:
    """Like `apply`, but write a DICOM series, with patient and study of the image if it is DICOM.

    Args:
        folder: new folder; if ``like`` is a DICOM series, the new one has its frame of reference.

    Returns:
        The files.

    Raises:
        InputError: see `apply` and `stn3d.io.dicom_output.write_dicom_series`; or the image has
            several volumes.
    """
    check_folder(folder, ".dcm")
    moved = apply(transform, image, like, interpolation, volume, fill)
    if moved.values.shape[1] > 1:
        raise InputError(
            f"{moved.name} has {moved.values.shape[1]} volumes; write one DICOM series for each, "
            "with --volume N."
        )
    tags = DicomTags(series_of(image), series_of(like), "stn3d: resampled")
    return write_dicom_series(folder, moved.values, moved.grid, tags)
