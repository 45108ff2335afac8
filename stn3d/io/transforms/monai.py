"""Displacements in voxels, as MONAI and VoxelMorph store them.

Convention: see `stn3d.io.ddf`. Files are NumPy arrays (``.npy``, or ``.npz`` with one array) of the
shape ``(d, *shape)`` or ``(*shape, d)``, with or without a leading axis of length 1, or NIfTI files
of vectors on the grid of the fixed image. Neither knows the grid of the moving image.
"""

from __future__ import annotations

import math
import os
import zipfile
from pathlib import Path
from typing import IO, Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from stn3d.errors import InputError
from stn3d.io.ddf import from_ddf, to_ddf
from stn3d.io.files import atomic_write
from stn3d.io.limits import check_memory
from stn3d.io.transforms.base import ReferenceImages, TransformFileFormat, has_suffix
from stn3d.io.transforms.vectors import NIFTI_SUFFIXES, nifti_origin, read_vectors, write_vectors
from stn3d.transforms import Transform

_NUMPY_SUFFIXES = (".npy", ".npz")
_WHAT = "a displacement field in voxels"
_KEY = "ddf"


@final
class Monai(TransformFileFormat):
    """Displacements in voxels on the grid of the fixed image."""

    name = "monai"
    suffixes = _NUMPY_SUFFIXES

    def recognises(self, path: Path) -> bool:
        if has_suffix(path, *NIFTI_SUFFIXES):
            return nifti_origin(path) == "auto"
        return has_suffix(path, *_NUMPY_SUFFIXES) and os.path.isfile(path)

    def read(self, path: Path, images: ReferenceImages) -> Transform:
        fixed, moving = images.require_both(_WHAT)
        if has_suffix(path, *NIFTI_SUFFIXES):
            array: NDArray[Any] = read_vectors(path)[0]
        else:
            array = _read_numpy(path)
        field = _components_first(array, fixed.shape, path)
        ddf = torch.from_numpy(np.array(field, dtype=np.float32))
        found = from_ddf(ddf, fixed, moving)
        if not bool(torch.isfinite(found.displacement_mm).all()):
            raise InputError(f"{path} holds displacements of NaN or Inf; recompute the transform.")
        return found

    def write(self, path: Path, transform: Transform, images: ReferenceImages) -> list[Path]:
        fixed, moving = images.require_both(_WHAT)
        ddf = to_ddf(transform, fixed, moving).numpy()
        if len(ddf) != 1:
            raise ValueError(f"a file holds one transform; this is a batch of {len(ddf)}.")
        if not np.isfinite(ddf).all():
            raise InputError("the transform has no value at some voxels; give another --like.")
        if has_suffix(path, *NIFTI_SUFFIXES):
            write_vectors(path, np.moveaxis(ddf[0], 0, -1), fixed, intent=0)
            return [path]
        with atomic_write(path) as part, open(part, "wb") as file:
            if has_suffix(path, ".npy"):
                np.save(file, ddf[0])
            else:
                np.savez_compressed(file, **{_KEY: ddf[0]})
        return [path]

    def outputs(self, path: Path) -> list[Path]:
        if has_suffix(path, *_NUMPY_SUFFIXES, *NIFTI_SUFFIXES):
            return [path]
        raise InputError(f"cannot write {path} for MONAI: use .npy, .npz or .nii.gz.")


def _read_numpy(path: Path) -> NDArray[Any]:
    """The array of an .npy file, or the only one of an .npz file.

    Raises:
        InputError: the file does not exist, is damaged, too large, or holds no such array.
    """
    if not os.path.isfile(path):
        raise InputError(f"there is no transform file {path}; check the path.")
    size = path.stat().st_size
    try:
        if not has_suffix(path, ".npz"):
            with open(path, "rb") as file:
                return _array(file, path, size)
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            if len(names) > 1 and f"{_KEY}.npy" in names:
                names = [f"{_KEY}.npy"]
            if len(names) != 1:
                raise InputError(
                    f"{path} holds {len(names)} arrays; save the displacements alone, or under "
                    f"the name {_KEY}."
                )
            with archive.open(names[0]) as entry:
                return _array(entry, path, size)
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{path} does not fit into the memory; crop or resample it.") from error
    except Exception as error:  # whatever a damaged header or archive leads to
        raise InputError(
            f"{path} cannot be read as a transform; give a complete NumPy file of numbers."
        ) from error


def _array(file: IO[bytes], path: Path, size: int) -> NDArray[Any]:
    """An array of numbers, read after its header was checked; nothing is unpickled."""
    version = np.lib.format.read_magic(file)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, fortran, dtype = read(file)
    if dtype.kind not in "fiu" or not 3 <= len(shape) <= 5:
        raise InputError(f"{path} holds no displacements: an array {dtype} of shape {shape}.")
    check_memory(str(path), shape, dtype.itemsize + 8, size)
    count = math.prod(shape)
    content = file.read(count * dtype.itemsize)
    array = np.frombuffer(content, dtype, count)
    return array.reshape(shape, order="F" if fortran else "C")


def _components_first(array: NDArray[Any], shape: tuple[int, ...], path: Path) -> NDArray[Any]:
    """``(d, *shape)`` displacements of an array with its components first or last.

    Raises:
        InputError: the array does not fit the fixed image.
    """
    d = len(shape)
    array = array[0] if array.ndim == d + 2 and len(array) == 1 else array
    if array.shape == (d, *shape):
        return array
    if array.shape == (*shape, d):
        return np.moveaxis(array, -1, 0)
    expected = " x ".join(str(n) for n in (d, *shape))
    raise InputError(
        f"{path} has the shape {array.shape}; displacements for the fixed image have {expected}, "
        "or the components last."
    )
