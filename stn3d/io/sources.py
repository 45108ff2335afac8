"""Image sources (paths, nibabel images, MetaTensors, tensors) and their conversion to `Image`.

The extension of a file selects nibabel or SimpleITK. MONAI itself is not imported.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import nibabel as nib
import numpy as np
import torch
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray
from torch import Tensor

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import itk, nifti
from stn3d.io.colours import is_colour, luminance
from stn3d.io.deflate import DAMAGED
from stn3d.io.geometry import grid_of, lps_flip, plane_in_space
from stn3d.io.limits import check_memory
from stn3d.io.nifti import Stored
from stn3d.io.nifti_geometry import header_for
from stn3d.io.texts import shown_path

# A Tensor without a grid must be a MONAI MetaTensor, which holds its affine.
# A Stored is the content of a file, returned by `open_source`.
ImageSource: TypeAlias = (
    "str | os.PathLike[str] | SpatialImage | Tensor | tuple[Tensor, Grid] | Image | Stored"
)

NIBABEL_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img", ".img.gz", ".mgh", ".mgz")


@dataclass(frozen=True, eq=False)
class Image:
    """An image on its grid.

    Args:
        values: ``(1, 1, *grid.shape)``, float32, integer for labels, bool for masks;
            ``(1, V, *grid.shape)`` for several warped volumes.
        grid: grid of the voxels.
        name: name in messages, e.g. the path.
        header: shape, affine, codes and units as stored, for `write_image`.
        colours: ``grid.shape`` colours whose luminance the values are, see `stn3d.io.colours`; None
            for an image without colours.
    """

    values: Tensor
    grid: Grid
    name: str
    header: nib.Nifti1Header
    colours: NDArray[Any] | None = None

    @property
    def num_volumes(self) -> int:
        """Number of volumes of a file with this header."""
        return int(np.prod(self.header.get_data_shape()[3:], dtype=int))


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
    if isinstance(source, tuple):
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
    array = _exact(array, stored.name) if dtype is None else array.astype(dtype, order="C")
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
    if isinstance(source, tuple):
        source = _from_tensor(*source, what=what, dtype=None)
    if isinstance(source, Image):
        return _from_image(source)
    if isinstance(source, SpatialImage):
        return nifti.from_nibabel(source, source.get_filename() or f"the {what} in memory")
    meta = sys.modules.get(
        "monai.data.meta_tensor"
    )  # not imported: the source cannot be a MetaTensor
    if meta is not None and isinstance(source, meta.MetaTensor):
        return _from_metatensor(source, f"the {what} in memory")
    if not isinstance(source, str | os.PathLike):
        raise InputError(
            f"the {what} is a {type(source).__name__}; give a path, a nibabel image, a MetaTensor "
            "or a tensor with its Grid."
        )
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


def _exact(array: NDArray[Any], name: str) -> NDArray[Any]:
    """All values, in the smallest of int32, int64, float32, float64 that holds the dtype.

    Raises:
        InputError: an integer has more than 63 bits.
    """
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "u" and size == 8 and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise InputError(f"{name} holds integers of 64 bits (beyond 2^63); store smaller ones.")
    if kind in "ui":
        return array.astype(np.int64 if size + (kind == "u") > 4 else np.int32, order="C")
    if kind == "f":
        return array.astype(np.float64 if size > 4 else np.float32, order="C")
    return array


def _of_shape(header: nib.Nifti1Header, shape: tuple[int, ...]) -> nib.Nifti1Header:
    """The header with another shape."""
    header = header.copy()
    header.set_data_shape(shape)
    return header


def _from_tensor(values: Tensor, grid: Grid, *, what: str, dtype: type | None) -> Image:
    """Image of a tensor ``([1, [1,]] *shape)`` and its grid."""
    name = f"the {what} in memory"
    values = values.detach().as_subclass(Tensor).cpu()
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


def _from_metatensor(source: Any, name: str) -> Stored:
    """Array and geometry of a MetaTensor.

    Args:
        source: ``(C, *shape)`` or ``shape``. Its affine maps indices to RAS+ millimetres, or to
            LPS+ if its ``space`` is LPS. An array of three axes is a 2D image with channels if its
            first axis has length 1, or if its affine or ``spatial_shape`` is 2D.
        name: name in messages.

    Returns:
        The channels as volumes.

    Raises:
        InputError: it holds complex numbers.
    """
    array = source.detach().cpu().as_subclass(Tensor).numpy()
    if array.dtype.kind == "c":
        raise InputError(f"{name} holds complex numbers; give its magnitude.")
    affine = np.asarray(source.affine.detach().cpu().numpy(), dtype=np.float64)
    if str(source.meta.get("space", "RAS")).upper().endswith("LPS"):
        affine = lps_flip(affine.shape[0] - 1) @ affine
    planar = affine.shape == (3, 3) or len(source.meta.get("spatial_shape", ())) == 2
    planar = planar or array.ndim == 2 or (array.ndim == 3 and array.shape[0] == 1)
    affine = plane_in_space(affine) if affine.shape == (3, 3) else affine
    if array.ndim > (2 if planar else 3):
        array = np.moveaxis(array, 0, -1)  # channels are volumes
        array = array[:, :, None] if planar else array
    header = header_for(affine, array.shape[:3])
    return Stored(array, tuple(array.shape), affine, header, name, planar)
