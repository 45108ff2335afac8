"""Writing of images, label maps and colours.

PNG and TIFF files hold 2D images with their pixel size, but neither origin nor directions.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn3d.arguments import TensorLike, plain_tensor
from stn3d.errors import GeometryWarning, InputError
from stn3d.grid import Grid
from stn3d.io import itk, nifti
from stn3d.io.colours import channels_of, is_colour
from stn3d.io.dtypes import Values
from stn3d.io.files import STDOUT, atomic_write, check_output, is_stream
from stn3d.io.geometry import lps_flip

NIFTI_SUFFIXES = (".nii", ".nii.gz")
ITK_SUFFIXES = (".mha", ".nrrd")
PICTURE_SUFFIXES = (".png", ".tif", ".tiff")
_PICTURE_DTYPES = {
    ".png": (np.uint8, np.uint16),
    ".tif": (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.float32),
}
_SAME_SPACING = 0.01  # relative, and of a pixel: what a file rounds


class Geometry(Protocol):
    """Geometry of an image file; `Image` has it."""

    @property
    def grid(self) -> Grid:
        """Grid of the voxels."""

    @property
    def header(self) -> nib.Nifti1Header:
        """Shape, affine, codes and units as stored."""

    @property
    def num_volumes(self) -> int:
        """Number of volumes of a file with this header."""


def _ends(path: Path, suffixes: tuple[str, ...]) -> bool:
    return path.name.lower().endswith(suffixes)


def _is_nifti(path: Path) -> bool:
    """Whether an output is NIfTI: by its extension, or a pipe or ``-`` without any other one."""
    others = (*ITK_SUFFIXES, *PICTURE_SUFFIXES)
    return _ends(path, NIFTI_SUFFIXES) or (not _ends(path, others) and is_stream(path))


def is_picture(path: str | os.PathLike[str]) -> bool:
    """Whether an output is a PNG or TIFF file."""
    return _ends(Path(path), PICTURE_SUFFIXES)


def check_image_path(path: str | os.PathLike[str], volumes: int = 1) -> Path:
    """Check that `write_image` can write a file, before any computation.

    Args:
        path: output file. Pipes and ``-`` receive NIfTI, uncompressed without an extension.
        volumes: number of volumes; only NIfTI supports several.

    Raises:
        InputError: the extension is not supported, or the folder cannot be written.
    """
    path = Path(path)
    known = (*NIFTI_SUFFIXES, *((*ITK_SUFFIXES, *PICTURE_SUFFIXES) if volumes == 1 else ()))
    if path == STDOUT and sys.stdout.isatty():
        raise InputError("the standard output is a terminal; redirect it to a file or a program.")
    if not (_ends(path, known) or _is_nifti(path)):
        what = "an image" if volumes == 1 else f"{volumes} volumes"
        raise InputError(
            f"cannot write {what} as {path}: use one of the extensions {', '.join(known)}."
        )
    return check_output(path)


def write_image(
    path: str | os.PathLike[str],
    values: TensorLike,
    like: Geometry,
    dtype: np.dtype[Any] | None = None,
) -> None:
    """Write values with the affine, codes and units of another image.

    The file is written atomically; equal input gives equal bytes.

    Args:
        path: output file, ``.nii.gz``, ``.nii``, ``.mha`` or ``.nrrd``, for a 2D image also
            ``.png`` or ``.tif``; several volumes only as NIfTI.
        values: ``(1, V, *like.grid.shape)``.
        like: image that defines the geometry; its header holds the number of volumes V.
        dtype: data type in the file. Default: see `dtype_in_file`.

    Raises:
        InputError: the file cannot be written, or cannot hold the image.
        ValueError: the shape of the values does not fit the grid.
    """
    count = like.num_volumes
    check_image_path(path, count)
    values = plain_tensor(values).detach().cpu()
    if tuple(values.shape) != (1, count, *like.grid.shape):
        raise ValueError(f"values {tuple(values.shape)} are not (1, {count}, {like.grid.shape}).")
    dtype = dtype_in_file(values) if dtype is None else dtype
    write_volumes(path, values.split(1, dim=1), like, dtype)


def dtype_in_file(values: Tensor, given: np.dtype[Any] | None = None) -> np.dtype[Any]:
    """Data type that stores values exactly.

    Args:
        values: the values.
        given: data type of the input, which integers keep if it holds them.

    Returns:
        float32, or float64 if needed, for floats; the smallest of uint8, int16, int32 and int64 for
        integers; uint8 for bool.
    """
    if values.dtype == torch.bool:
        return np.dtype(np.uint8)
    if values.is_floating_point():
        exact = values.dtype != torch.float64 or bool((values.float().double() == values).all())
        return np.dtype(np.float32 if exact else np.float64)
    whole = given is not None and given.kind in "ui"
    return Values.of(values).stored_as(given if whole else None)


def write_colours(
    path: str | os.PathLike[str], volumes: Iterable[NDArray[Any]], like: Geometry
) -> None:
    """Write colours with the affine, codes and units of another image.

    Colours of 8 bits become RGB24 or RGBA32 in NIfTI, those of 16 bits vectors of uint16.

    Args:
        path: output file, as for `write_image`.
        volumes: ``like.grid.shape`` colours each, see `stn3d.io.colours`, as many as the header of
            ``like`` has volumes.
        like: image that defines the geometry.

    Raises:
        InputError: the file cannot be written.
    """
    path = check_image_path(path, like.num_volumes)
    shape = (*like.header.get_data_shape(), 1, 1)[:3]
    rest = iter(volumes)
    first = next(rest)
    check_picture(path, like, first.dtype)
    with atomic_write(path) as part:
        if not _is_nifti(path):
            itk.save(part, channels_of(first), like.grid.world_from_index.numpy())
        elif first.dtype[0] == np.uint8:
            stored = (volume.reshape(shape) for volume in chain([first], rest))
            nifti.save(part, stored, first.dtype, like.header)
        else:
            vectors = [channels_of(volume.reshape(shape)) for volume in chain([first], rest)]
            nifti.save_vectors(part, vectors, like.header)


def write_volumes(
    path: str | os.PathLike[str],
    volumes: Iterable[Tensor],
    like: Geometry,
    dtype: np.dtype[Any],
    slope: float = 1.0,
) -> None:
    """Write an image volume by volume; only one volume is in memory.

    Args:
        path: output file, as for `write_image`.
        volumes: volumes ``(1, 1, *like.grid.shape)``, as many as the header of ``like`` has.
        like: image that defines the geometry.
        dtype: data type in the file; fractions are rounded to one of integers.
        slope: what a step of the values stands for, written into the header; NIfTI only.

    Raises:
        InputError: the file cannot be written, or cannot hold the image.
    """
    path = check_image_path(path, like.num_volumes)
    check_picture(path, like, dtype)
    shape = (*like.header.get_data_shape(), 1, 1)[:3]
    arrays = (_stored(volume.numpy()[0, 0], dtype) for volume in volumes)
    with atomic_write(path) as part:
        if _is_nifti(path):
            stored = (array.reshape(shape) for array in arrays)
            nifti.save(part, stored, dtype, like.header, slope=slope)
        else:
            itk.save(part, next(arrays), like.grid.world_from_index.numpy())


def _stored(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Values in the data type of a file; fractions are rounded to integers of its range."""
    if dtype.kind in "iu" and array.dtype.kind == "f":
        limits = np.iinfo(dtype)
        array = np.clip(np.rint(array), limits.min, limits.max)
    return array.astype(dtype, copy=False)


def check_picture(path: str | os.PathLike[str], like: Geometry, dtype: Any) -> None:
    """Check that a PNG or TIFF file can hold an image, and warn of what it loses.

    Other formats hold everything.

    Args:
        path: output file.
        like: image that defines the geometry.
        dtype: data type of the values; a structured one of colours.

    Raises:
        InputError: the image is 3D, or the file cannot hold its values.
    """
    if not is_picture(path):
        return
    require_2d(path, like.grid.ndim)
    is_png, dtype = _ends(Path(path), (".png",)), np.dtype(dtype)
    name, suffix = ("PNG", ".png") if is_png else ("TIFF", ".tif")
    if (dtype[0] if is_colour(dtype) else dtype) not in _PICTURE_DTYPES[suffix]:
        other = ".tif or " if is_png and dtype in _PICTURE_DTYPES[".tif"] else ""
        raise InputError(
            f"a {name} file cannot hold {dtype} values; write {other}.nii.gz, or choose "
            "--interpolation nearest for an image of whole numbers."
        )
    matrix, d = like.grid.world_from_index.numpy(), like.grid.ndim
    pixel = np.diag([*like.grid.spacing_mm, 1.0])
    if np.abs(lps_flip(d) @ pixel - matrix).max() > _SAME_SPACING * min(like.grid.spacing_mm):
        warnings.warn(
            f"{name} files keep the pixel size, but neither origin nor directions of the grid; "
            "write .nii.gz, .mha or .nrrd to keep them.",
            GeometryWarning,
            stacklevel=2,
        )


def require_2d(path: str | os.PathLike[str], ndim: int) -> None:
    """Check that a PNG or TIFF file is for a 2D image.

    Raises:
        InputError: the image is 3D.
    """
    if is_picture(path) and ndim != 2:
        raise InputError("PNG and TIFF files hold 2D images only; write a 3D image as .nii.gz.")
