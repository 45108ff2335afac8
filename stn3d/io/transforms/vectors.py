"""Images of vectors, as most formats store displacement fields.

Convention: vectors are ``(i, j[, k], d)`` in nibabel's axis order. What they mean (millimetres or
voxels, LPS or RAS) is for each format to know.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from stn3d.choices import TransformFormat
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import itk, metaimage, nifti, nrrd
from stn3d.io.deflate import DAMAGED
from stn3d.io.files import atomic_write
from stn3d.io.geometry import Matrix, grid_of, plane_in_space
from stn3d.io.limits import check_memory
from stn3d.io.nifti_checks import check_file
from stn3d.io.nifti_geometry import geometry, header_for, silent_nibabel
from stn3d.io.texts import shown_path
from stn3d.io.transforms.base import beginning, has_suffix

NIFTI_SUFFIXES = (".nii", ".nii.gz")
AFNI_EXTENSION = 4
FSL_DISPLACEMENTS = 2006
FSL_COEFFICIENTS = (2007, 2008, 2009, 2016)  # splines and DCT of FNIRT, spline of TOPUP
ITK_SUFFIXES = (".nrrd", ".mha")
VECTOR_INTENT = 1007
_READABLE = (*NIFTI_SUFFIXES, *nrrd.SUFFIXES, *metaimage.SUFFIXES)


@dataclass(frozen=True, eq=False)
class VectorHeader:
    """What the header of a file of vectors says.

    Args:
        grid: grid of the vectors.
        axes: number of axes of a NIfTI file, 5 for NRRD and MetaImage.
        intent: intent code of a NIfTI file.
        extensions: codes of the extensions of a NIfTI file.
        load: reads the vectors.
    """

    grid: Grid
    axes: int
    intent: int
    extensions: tuple[int, ...]
    load: Callable[[], NDArray[Any]]


def vector_header(path: Path) -> VectorHeader | None:
    """The header of a file of vectors with as many components as dimensions; None for others."""
    try:
        return open_vectors(path)
    except InputError:
        return None


def nifti_origin(path: Path) -> TransformFormat | None:
    """What the header of a NIfTI file of vectors says about its format; auto if it says nothing.

    Returns:
        ``itk`` by the intent code and five axes, ``fsl`` by the intent code, ``afni`` by AFNI's
        extension; None for other files.
    """
    header = vector_header(path) if has_suffix(path, *NIFTI_SUFFIXES) else None
    if header is None:
        return None
    if header.intent in (FSL_DISPLACEMENTS, *FSL_COEFFICIENTS):
        return "fsl"
    if header.axes == 5 and AFNI_EXTENSION in header.extensions:
        return "afni"
    return "itk" if header.axes == 5 and header.intent == VECTOR_INTENT else "auto"


def read_vectors(path: Path) -> tuple[NDArray[np.float32], Grid, VectorHeader]:
    """Read an image of vectors.

    Returns:
        The vectors ``(i, j[, k], d)``, their grid, and the header.

    Raises:
        InputError: the file does not exist, is damaged, or holds no vectors of its dimension.
    """
    header = open_vectors(path)
    try:
        vectors = np.asarray(header.load(), dtype=np.float32)
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{path} does not fit into the memory; crop or resample it.") from error
    except DAMAGED as error:
        raise InputError(f"{path} is truncated or damaged; copy or download it again.") from error
    return vectors, header.grid, header


def open_vectors(path: Path) -> VectorHeader:
    """Read the header of an image of vectors.

    Raises:
        InputError: the file does not exist, is damaged, or holds no vectors of its dimension.
    """
    if not os.path.isfile(path):
        raise InputError(f"there is no transform file {shown_path(path)}; check the path.")
    if beginning(path, 4).startswith(nrrd.MAGIC):
        return _open_nrrd(path)
    if has_suffix(path, *metaimage.SUFFIXES):
        return _open_metaimage(path)
    if has_suffix(path, *NIFTI_SUFFIXES):
        return _open_nifti(path)
    raise InputError(
        f"{path} is no image of vectors; displacement fields have the extension "
        f"{', '.join(_READABLE)}."
    )


def write_vectors(
    path: Path, vectors: NDArray[Any], grid: Grid, intent: int = VECTOR_INTENT, axes: int = 5
) -> None:
    """Write an image of vectors as float32, atomically and compressed.

    Args:
        path: NIfTI, NRRD or MHA file.
        vectors: ``(i, j[, k], d)``.
        grid: grid of the vectors.
        intent: intent code of a NIfTI file.
        axes: axes of a NIfTI file: 5 ``(i, j, k, 1, d)`` or 4 ``(i, j, k, d)``.

    Raises:
        InputError: the file cannot be written.
    """
    matrix = grid.world_from_index.numpy()
    vectors = vectors.astype(np.float32, copy=False)
    with atomic_write(path) as part:
        if not has_suffix(path, *NIFTI_SUFFIXES):
            itk.save(part, vectors, matrix)
            return
        header, d = header_for(matrix, grid.shape), vectors.shape[-1]
        shape = (*grid.shape, 1)[:3]
        header.set_data_shape((*shape, d) if axes == 4 else (*shape, 1, d))
        nifti.save(part, (vectors[..., n] for n in range(d)), np.float32, header, intent)


# -- NIfTI ----------------------------------------------------------------------------------------


def _open_nifti(path: Path) -> VectorHeader:
    check_file(path)
    try:
        with silent_nibabel(), np.errstate(all="ignore"):
            image: Any = nib.load(path)
            affine = geometry(image, str(path))[0]
        shape, intent = tuple(image.shape), int(image.header["intent_code"])
        codes = tuple(int(one.get_code()) for one in image.header.extensions)
    except Exception as error:  # whatever nibabel raises for a damaged header
        raise InputError(
            f"{path} cannot be read as a displacement field; check that it is complete."
        ) from error
    if len(shape) not in (4, 5) or (len(shape) == 5 and shape[3] != 1):
        raise _no_vectors(path, shape)
    d = shape[-1]
    spatial = shape[:3] if d == 3 else shape[:2]
    if d not in (2, 3) or (d == 2 and shape[2] != 1):
        raise _no_vectors(path, shape)
    if image.header.get_data_dtype().kind not in "fiu":
        raise InputError(f"{path} holds no numbers that displacements can be.")
    load = partial(_load_nifti, image, path, (*spatial, d))
    return VectorHeader(grid_of(affine, shape[:3], d), len(shape), intent, codes, load)


def _load_nifti(image: Any, path: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    check_memory(str(path), shape, image.header.get_data_dtype().itemsize + 8, path.stat().st_size)
    with np.errstate(all="ignore"):
        return np.asanyarray(image.dataobj).reshape(shape)


# -- NRRD and MetaImage ---------------------------------------------------------------------------


def _open_nrrd(path: Path) -> VectorHeader:
    header = nrrd.read_header(path)
    d, shape = len(header.spatial), header.payload.shape
    axes = [n for n in header.components if shape[n] == d]
    if header.volumes or len(header.components) != 1 or not axes:
        raise _no_vectors(path, shape)
    grid = grid_of(header.affine, tuple(shape[n] for n in header.spatial), d)

    def load() -> NDArray[Any]:
        array = header.payload.read(str(path))
        ones = [n for n in range(array.ndim) if n not in (*header.spatial, *axes)]
        array = np.transpose(array, (*header.spatial, *axes, *ones))
        return array.reshape(*grid.shape, d)

    return VectorHeader(grid, 5, VECTOR_INTENT, (), load)


def _open_metaimage(path: Path) -> VectorHeader:
    header = metaimage.read_header(path)
    d, shape = len(header.matrix) - 1, header.payload.shape
    if header.components != d or len(shape) != d + 1:
        raise _no_vectors(path, shape)
    matrix: Matrix = plane_in_space(header.matrix) if d == 2 else header.matrix
    grid = grid_of(matrix, shape[1:], d)

    def load() -> NDArray[Any]:
        return np.moveaxis(header.payload.read(str(path)), 0, -1)

    return VectorHeader(grid, 5, VECTOR_INTENT, (), load)


def _no_vectors(path: Path, shape: tuple[int, ...]) -> InputError:
    size = " x ".join(str(n) for n in shape)
    return InputError(
        f"{path} has the shape {size}; a displacement field has one vector of 3 components (2 in "
        "2D) in each voxel."
    )
