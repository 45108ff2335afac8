"""Image sources (files, images of other packages, arrays) and their conversion to `Image`.

The extension of a file selects nibabel or SimpleITK.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import nibabel as nib
import numpy as np
import torch
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray
from torch import Tensor

from stn3d.arguments import TensorLike, plain_tensor
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import itk, nifti, objects
from stn3d.io.colours import is_colour, luminance
from stn3d.io.deflate import DAMAGED
from stn3d.io.dtypes import exact
from stn3d.io.geometry import grid_of, plane_in_space
from stn3d.io.image import Image
from stn3d.io.limits import check_memory
from stn3d.io.nifti import Stored
from stn3d.io.nifti_geometry import header_for
from stn3d.io.texts import shown_path

if TYPE_CHECKING:
    import SimpleITK as sitk

# A Tensor without a grid must be a MONAI MetaTensor, which holds its affine.
# A Stored is the content of a file, returned by `open_source`.
ImageSource: TypeAlias = (
    "str | os.PathLike[str] | SpatialImage | sitk.Image | Tensor | Image | Stored"
    " | tuple[TensorLike, Grid | TensorLike]"
)

NIBABEL_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img", ".img.gz", ".mgh", ".mgz")


def convert(
    source: ImageSource,
    what: str,
    option: str | None,
    volume: int | None,
    ndim: int | None,
    dtype: type | None,
) -> Image:
    """Convert a source to an `Image`.

    Args:
        source: image source.
        what: name of the image in messages.
        option: name of the option that selects a volume, for messages; None if there is none.
        volume: selected volume, counted from 0.
        ndim: 2 or 3; default: the number of axes. A single slice can be read as 2D.
        dtype: float32, or None to keep all values exactly.

    Raises:
        InputError: the image cannot be read or used.
    """
    if (
        isinstance(source, Image)
        and source.values.shape[1] == 1
        and ndim in (None, source.grid.ndim)
    ):
        values = source.values if dtype is None else source.values.float()
        return replace(source, values=values)
    if _has_grid(source):
        return _from_tensor(*source, what=what, dtype=dtype)
    stored = open_source(source, what)
    try:
        array = _one_volume(stored, what, option, volume)
        grid = grid_of(stored.affine, array.shape, ndim or (2 if stored.planar else None))
    except InputError as error:
        message = str(error)
        raise error if stored.name in message else InputError(f"{stored.name}: {message}") from None
    colours = array.reshape(grid.shape) if is_colour(array.dtype) else None
    array = array if colours is None else luminance(array)
    array = exact(array, stored.name) if dtype is None else array.astype(dtype, order="C")
    values = torch.from_numpy(np.ascontiguousarray(array)).reshape(1, 1, *grid.shape)
    name = f"{stored.name} (volume {volume or 0})" if stored.num_volumes > 1 else stored.name
    return Image(values, grid, name, _of_shape(stored.header, array.shape), colours)


def open_source(source: ImageSource, what: str) -> Stored:
    """Array and geometry of a source; the data of a file may still be on disk.

    Raises:
        InputError: the image does not exist, or its header is invalid.
    """
    if isinstance(source, Stored):
        return source
    if _has_grid(source):
        source = _from_tensor(*source, what=what, dtype=None)
    if isinstance(source, Image):
        return _from_image(source)
    name = f"the {what} in memory"
    if isinstance(source, SpatialImage):
        return nifti.from_nibabel(source, source.get_filename() or name)
    if objects.is_metatensor(source):
        return objects.from_metatensor(source, name)
    if objects.is_sitk_image(source):
        return objects.from_sitk(source, name)
    if isinstance(source, tuple) and len(source) == 2:
        return objects.from_array(*source, name)
    if not isinstance(source, str | os.PathLike):
        raise InputError(
            f"the {what} is a {type(source).__name__}; give a path, an Image, a nibabel or "
            "SimpleITK image, a MetaTensor, or a pair of an array and its affine or Grid."
        )
    return _open_file(source, what)


def _has_grid(source: Any) -> TypeGuard[tuple[TensorLike, Grid]]:
    """Whether a source is a pair of values and their grid."""
    return isinstance(source, tuple) and len(source) == 2 and isinstance(source[1], Grid)


def _open_file(source: str | os.PathLike[str], what: str) -> Stored:
    """Array and geometry of a file or folder.

    Raises:
        InputError: see `open_source`.
    """
    path = Path(source)
    if not os.path.exists(path):
        raise InputError(f"there is no {what} {shown_path(path)}; check the path.")
    if not (path.is_file() or path.is_dir()):
        raise InputError(f"the {what} {path} is a pipe or a device; give a file.")
    return nifti.load(path) if path.name.lower().endswith(NIBABEL_SUFFIXES) else itk.load(path)


def _one_volume(stored: Stored, what: str, option: str | None, volume: int | None) -> NDArray[Any]:
    """The spatial axes of one volume, read from disk."""
    spatial, volumes = stored.shape[: 2 if stored.planar else 3], stored.num_volumes
    if len(spatial) < 2 or 0 in stored.shape:
        raise InputError(f"{stored.name} has shape {stored.shape}; an image needs 2 or 3 axes.")
    if volumes > 1 and volume is None:
        advice = (
            f"choose one with --{option} N (counted from 0)"
            if option
            else "save the volume to use as a separate file"
        )
        verb = "hold" if what.endswith("labels") else "holds"
        raise InputError(f"the {what} {stored.name} {verb} {volumes} volumes; {advice}.")
    if volume is not None and not 0 <= volume < volumes:
        raise InputError(
            f"the {what} {stored.name} has no volume {volume}; it holds {volumes}, counted from 0."
        )
    if stored.file_bytes is not None:
        check_memory(stored.name, spatial, stored.bytes_per_voxel, stored.file_bytes)
    try:
        others = (0,) * (len(stored.shape) - 4)  # trailing axes of length 1
        cut = stored.array[(..., volume or 0, *others)] if volumes > 1 else stored.array[...]
        array: NDArray[Any] = np.asanyarray(cut).reshape(spatial)
    except MemoryError as error:
        raise InputError(
            f"the {what} {stored.name} does not fit into the memory; crop or resample it."
        ) from error
    except DAMAGED as error:
        raise InputError(
            f"the {what} {stored.name} is truncated or damaged; copy or download it again."
        ) from error
    return array


def _of_shape(header: nib.Nifti1Header, shape: tuple[int, ...]) -> nib.Nifti1Header:
    """The header with another shape."""
    header = header.copy()
    header.set_data_shape(shape)
    return header


def _from_tensor(values: TensorLike, grid: Grid, *, what: str, dtype: type | None) -> Image:
    """Image of a tensor ``([1, [1,]] *shape)`` and its grid."""
    name = f"the {what} in memory"
    values = plain_tensor(values).detach().cpu()
    leading = tuple(values.shape[: values.ndim - grid.ndim])
    if tuple(values.shape[values.ndim - grid.ndim :]) != grid.shape or set(leading) - {1}:
        raise InputError(
            f"{name} has shape {tuple(values.shape)}, but its grid has {grid.shape}; "
            "give one single-channel volume on its own grid."
        )
    if values.is_complex():
        raise InputError(f"{name} holds complex numbers; give its magnitude.")
    values = values.reshape(1, 1, *grid.shape)
    header = header_for(grid.world_from_index.numpy(), grid.shape)
    exact = dtype is None and (values.dtype == torch.float64 or not values.is_floating_point())
    return Image(values if exact else values.float(), grid, name, header)


def _from_image(image: Image) -> Stored:
    """Content of an image; channels become volumes."""
    array, affine = image.values[0].movedim(0, -1).numpy(), image.grid.world_from_index.numpy()
    array = array if image.colours is None else image.colours[..., None]
    shape = (*image.grid.shape, 1)[:3] + array.shape[-1:]
    planar = image.grid.ndim == 2
    affine = plane_in_space(affine) if planar else affine
    return Stored(array.reshape(shape), shape, affine, image.header, image.name, planar)
