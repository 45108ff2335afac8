"""Images of other formats than NIfTI and MGH, converted to RAS.

MetaImage and NRRD files are read in Python, all others by SimpleITK in a process of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stn3d.errors import InputError
from stn3d.io import dicom, isolated, metaimage, nrrd
from stn3d.io.colours import colours_of
from stn3d.io.geometry import Matrix, itk_geometry, matrix_from_itk, plane_in_space
from stn3d.io.limits import check_memory
from stn3d.io.nifti import Stored, in_memory

if TYPE_CHECKING:
    import SimpleITK as sitk


def load(path: Path) -> Stored:
    """Read an image file, or a folder that holds one DICOM series.

    Raises:
        InputError: it cannot be read, or the voxels are vectors or complex numbers.
    """
    if path.is_dir():
        slices = dicom.series_in(path)
        return dicom.load(slices, path) or _by_itk(slices[0].path)
    try:
        with open(path, "rb") as file:
            beginning = file.read(132)
    except OSError as error:
        raise InputError(f"{path} cannot be read as an image ({error.strerror}).") from error
    if beginning.startswith(nrrd.MAGIC):
        return _nrrd(path)
    if path.name.lower().endswith(metaimage.SUFFIXES):
        return _metaimage(path)
    if beginning[128:] == b"DICM":
        slices = dicom.slices_of(path)
        dicom.note_single_slice(slices, path)
        return dicom.load(slices, path) or _by_itk(path)
    return _by_itk(path)


def _metaimage(path: Path) -> Stored:
    header = metaimage.read_header(path)
    array = header.payload.read(str(path))
    if header.components > 1:
        array = _colours(np.moveaxis(array, 0, -1), path)
    affine = plane_in_space(header.matrix) if header.matrix.shape == (3, 3) else header.matrix
    return in_memory(array, affine, str(path))


def _nrrd(path: Path) -> Stored:
    header = nrrd.read_header(path)
    array = header.payload.read(str(path))
    order = (*header.spatial, *header.volumes)
    if header.components:
        array = np.transpose(array, (*order, *(n for n in range(array.ndim) if n not in order)))
        array = _colours(array.reshape(*array.shape[: len(order)], -1), path)
        order = tuple(range(len(order)))
    rest = [n for n in range(array.ndim) if n not in order]  # axes of length 1
    array = np.transpose(array, (*order, *rest))
    array = array.reshape(array.shape[: len(order)])
    if header.volumes:
        spatial = (*array.shape[: len(header.spatial)], 1)[:3]
        array = array.reshape(*spatial, -1)
    affine, planar = header.affine, bool(header.volumes) and len(header.spatial) == 2
    return in_memory(array, affine, str(path), planar)


def _by_itk(path: Path) -> Stored:
    """Any other file."""
    file_bytes = path.stat().st_size
    with isolated.reader(str(path), file_bytes) as reader:
        header = reader.ask("header", str(path))
        components = header["components"]
        if header["kind"] == "complex numbers":
            raise InputError(f"{path} holds complex numbers; save its magnitude as an image.")
        if components > 4:
            raise _several(path)
        check_memory(str(path), header["shape"], components * header["bytes"] + 4, file_bytes)
        answer = reader.ask("image", str(path))
        array = reader.array(answer)
    if components > 1:
        array = _colours(array, path)
    array = np.transpose(array)
    if array.dtype.kind == "c":
        raise InputError(f"{path} holds complex numbers; save its magnitude as an image.")
    affine = _affine(answer)
    return in_memory(array, affine, str(path))


def _colours(channels: NDArray[Any], path: Path) -> NDArray[Any]:
    """Colours of an array with a last axis of channels."""
    colours = colours_of(channels)
    if colours is None:
        raise _several(path)
    return colours


def _several(path: Path) -> InputError:
    return InputError(
        f"{path} holds vectors that are no colours (3 or 4 channels of 8 or 16 bits); convert it "
        "to one scalar per voxel."
    )


def _affine(answer: dict[str, Any]) -> Matrix:
    """``(4, 4)`` RAS matrix of an image of 2, 3 or more axes."""
    size = len(answer["origin"])
    d = min(size, 3)
    direction = np.reshape(answer["direction"], (size, size))[:d, :d]
    matrix = matrix_from_itk(answer["origin"][:d], answer["spacing"][:d], direction.ravel())
    return plane_in_space(matrix) if d == 2 else matrix


def to_sitk(array: NDArray[Any], matrix: Matrix) -> sitk.Image:
    """SimpleITK image of an array with its ``(d + 1, d + 1)`` RAS matrix.

    Args:
        array: ``(i, j[, k])``, or ``(i, j[, k], C)`` for C channels.
        matrix: index to world.
    """
    import SimpleITK as sitk

    d = len(matrix) - 1
    order = (*reversed(range(d)), *range(d, array.ndim))
    rows = np.ascontiguousarray(np.transpose(array, order))
    image = sitk.GetImageFromArray(rows, isVector=array.ndim > d)
    origin, spacing, direction = itk_geometry(matrix)
    image.SetOrigin(origin)
    image.SetSpacing(spacing)
    image.SetDirection(direction)
    return image


def save(path: Path, array: NDArray[Any], matrix: Matrix) -> None:
    """Write an array with its matrix, compressed; see `to_sitk`."""
    import SimpleITK as sitk

    image = to_sitk(array, matrix)
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise OSError(str(error).strip().splitlines()[-1]) from error
