"""Writing of images, label maps and colours."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn3d.arguments import TensorLike, plain_tensor
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import itk, nifti
from stn3d.io.colours import channels_of
from stn3d.io.dtypes import Values
from stn3d.io.files import STDOUT, atomic_write, check_output, is_stream

NIFTI_SUFFIXES = (".nii", ".nii.gz")
ITK_SUFFIXES = (".mha", ".nrrd")


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
    return _ends(path, NIFTI_SUFFIXES) or (not _ends(path, ITK_SUFFIXES) and is_stream(path))


def check_image_path(path: str | os.PathLike[str], volumes: int = 1) -> Path:
    """Check that `write_image` can write a file, before any computation.

    Args:
        path: output file. Pipes and ``-`` receive NIfTI, uncompressed without an extension.
        volumes: number of volumes; only NIfTI supports several.

    Raises:
        InputError: the extension is not supported, or the folder cannot be written.
    """
    path = Path(path)
    known = (*NIFTI_SUFFIXES, *(ITK_SUFFIXES if volumes == 1 else ()))
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
        path: output file, ``.nii.gz``, ``.nii``, ``.mha`` or ``.nrrd``; several volumes only as
            NIfTI.
        values: ``(1, V, *like.grid.shape)``.
        like: image that defines the geometry; its header holds the number of volumes V.
        dtype: data type in the file. Default: see `dtype_in_file`.

    Raises:
        InputError: the file cannot be written.
        ValueError: the shape of the values does not fit the grid.
    """
    count = like.num_volumes
    check_image_path(path, count)
    values = plain_tensor(values).detach().cpu()
    if tuple(values.shape) != (1, count, *like.grid.shape):
        raise ValueError(f"values {tuple(values.shape)} are not (1, {count}, {like.grid.shape}).")
    dtype = dtype_in_file(values) if dtype is None else dtype
    write_volumes(path, values.split(1, dim=1), like, dtype)


def dtype_in_file(values: Tensor) -> np.dtype[Any]:
    """Data type that stores values exactly: float32, or float64 if needed, for floats; the smallest
    of uint8, int16, int32 and int64 for integers; uint8 for bool."""
    if values.dtype == torch.bool:
        return np.dtype(np.uint8)
    if values.is_floating_point():
        exact = values.dtype != torch.float64 or bool((values.float().double() == values).all())
        return np.dtype(np.float32 if exact else np.float64)
    return Values.of(values).stored_as()


def write_colours(
    path: str | os.PathLike[str], volumes: Sequence[NDArray[Any]], like: Geometry
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
    with atomic_write(path) as part:
        if _is_nifti(path):
            stored = [volume.reshape(shape) for volume in volumes]
            if stored[0].dtype[0] == np.uint8:
                nifti.save(part, stored, stored[0].dtype, like.header)
            else:
                nifti.save_vectors(part, [channels_of(one) for one in stored], like.header)
        else:
            itk.save(part, channels_of(volumes[0]), like.grid.world_from_index.numpy())


def write_volumes(
    path: str | os.PathLike[str], volumes: Iterable[Tensor], like: Geometry, dtype: np.dtype[Any]
) -> None:
    """Write an image volume by volume; only one volume is in memory.

    Args:
        path: output file, as for `write_image`.
        volumes: volumes ``(1, 1, *like.grid.shape)``, as many as the header of ``like`` has.
        like: image that defines the geometry.
        dtype: data type in the file.

    Raises:
        InputError: the file cannot be written.
    """
    path = check_image_path(path, like.num_volumes)
    shape = (*like.header.get_data_shape(), 1, 1)[:3]
    arrays = (volume.numpy()[0, 0].astype(dtype, copy=False) for volume in volumes)
    with atomic_write(path) as part:
        if _is_nifti(path):
            nifti.save(part, (array.reshape(shape) for array in arrays), dtype, like.header)
        else:
            itk.save(part, next(arrays), like.grid.world_from_index.numpy())
