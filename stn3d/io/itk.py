"""Images read and written by SimpleITK: MHA, NRRD, DICOM series and others, converted to RAS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn3d.errors import InputError
from stn3d.io.geometry import Matrix, itk_geometry, matrix_from_itk, plane_in_space
from stn3d.io.nifti import Stored, header_for


def load(path: Path) -> Stored:
    """Read an image file, or a folder that holds one DICOM series.

    Raises:
        InputError: SimpleITK cannot read it, or the voxels are colours, vectors or complex numbers.
    """
    import SimpleITK as sitk

    try:
        with _silent_itk(sitk):
            image = _series(sitk, path) if path.is_dir() else sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise InputError(
            f"{path} cannot be read as an image; check that it is complete, "
            "or convert it to .nii.gz."
        ) from error
    if image.GetNumberOfComponentsPerPixel() > 1:
        kind = "complex numbers" if "complex" in image.GetPixelIDTypeAsString() else "vectors"
        raise InputError(f"{path} holds colours or {kind}; convert it to one scalar per voxel.")
    array = np.transpose(sitk.GetArrayFromImage(image))
    if array.dtype.kind == "c":
        raise InputError(f"{path} holds complex numbers; save its magnitude as an image.")
    affine = _affine(image)
    shape = tuple(int(n) for n in array.shape)
    return Stored(array, shape, affine, header_for(affine, shape[:3]), str(path))


@contextmanager
def _silent_itk(sitk: Any) -> Iterator[None]:
    """Silence ITK's warnings on stderr; errors are raised as exceptions."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def _affine(image: Any) -> Matrix:
    """``(4, 4)`` RAS matrix of an image of 2, 3 or 4 axes."""
    d, size = min(image.GetDimension(), 3), image.GetDimension()
    direction = np.reshape(image.GetDirection(), (size, size))[:d, :d]
    matrix = matrix_from_itk(image.GetOrigin()[:d], image.GetSpacing()[:d], direction.ravel())
    return plane_in_space(matrix) if d == 2 else matrix


def _series(sitk: Any, folder: Path) -> Any:
    """The single DICOM series of a folder."""
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if not series:
        raise InputError(f"the folder {folder} holds no DICOM series; give an image file.")
    if len(series) > 1:
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames
        listing = ", ".join(f"{one} ({len(names(str(folder), one))} files)" for one in series)
        raise InputError(
            f"the folder {folder} holds {len(series)} DICOM series; "
            f"copy the series to use into a separate folder: {listing}."
        )
    reader = sitk.ImageSeriesReader()
    files = reader.GetGDCMSeriesFileNames(str(folder), series[0])
    reader.SetFileNames(files)
    reader.MetaDataDictionaryArrayUpdateOn()
    image = reader.Execute()
    uneven_mm = _unevenness_mm(reader, len(files), image.GetDirection()[2::3])
    if uneven_mm > 0.1 * image.GetSpacing()[2]:
        raise InputError(
            f"slices in {folder} are missing or unevenly spaced by up to {uneven_mm:.3g} mm; "
            "complete the series, or resample it to evenly spaced slices."
        )
    return image


def _unevenness_mm(reader: Any, count: int, normal: tuple[float, ...]) -> float:
    """Largest deviation of the distance between neighbouring slices from its median."""
    key = "0020|0032"  # Image Position (Patient)
    if count < 3 or not all(reader.HasMetaDataKey(n, key) for n in range(count)):
        return 0.0
    texts = [reader.GetMetaData(n, key) for n in range(count)]
    positions = np.array([[float(part) for part in text.split("\\")] for text in texts])
    gaps = np.diff(positions @ np.array(normal))
    return float(np.abs(gaps - np.median(gaps)).max())


def save(path: Path, array: NDArray[Any], matrix: Matrix) -> None:
    """Write an array ``(i, j[, k])`` with its ``(d + 1, d + 1)`` RAS matrix, compressed."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(np.transpose(array)))
    origin, spacing, direction = itk_geometry(matrix)
    image.SetOrigin(origin)
    image.SetSpacing(spacing)
    image.SetDirection(direction)
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise OSError(str(error).strip().splitlines()[-1]) from error
