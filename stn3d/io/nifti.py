"""NIfTI, Analyze and MGH files read by nibabel, and NIfTI files written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from stn3d.errors import GeometryWarning, InputError
from stn3d.io.colours import colours_of
from stn3d.io.deflate import DAMAGED, deflating, open_gzip
from stn3d.io.geometry import Matrix
from stn3d.io.nifti_checks import check_file
from stn3d.io.nifti_geometry import check_shape, geometry, header_for, silent_nibabel
from stn3d.io.seekable import SeekableGzip

GZIP_SUFFIXES = (".gz", ".mgz")
_NO_EXTENSION = 4  # zero bytes after the header: no extensions


@dataclass(frozen=True, eq=False)
class Stored:
    """Content of an image file: an array with its geometry, before a volume is selected.

    Args:
        array: ``(i, j[, k[, volumes]])``, any indexable object; its data may still be on disk.
        shape: shape of the array.
        affine: ``(4, 4)`` matrix from index to world RAS+ millimetres.
        header: geometry as stored, for writing.
        name: name of the image in messages.
        planar: whether it is a 2D image although its shape has a third axis, of one voxel.
        file_bytes: size of the file that holds the data; None if they are in memory.
        bytes_per_voxel: peak memory of reading a voxel from the file.
    """

    array: Any
    shape: tuple[int, ...]
    affine: Matrix
    header: nib.Nifti1Header
    name: str
    planar: bool = False
    file_bytes: int | None = None
    bytes_per_voxel: int = 0

    @property
    def num_volumes(self) -> int:
        """Number of volumes; 1 without a fourth axis."""
        return int(np.prod(self.shape[3:], dtype=int))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the file or array, before any scaling; uint8 for bool."""
        dtype = np.dtype(self.array.dtype).newbyteorder("=")
        return np.dtype(np.uint8) if dtype.kind == "b" else dtype

    @property
    def scaling(self) -> tuple[float, float] | None:
        """Slope and intercept of the stored values; None if the values are stored as they are."""
        proxy = getattr(self.array, "proxy", self.array)
        slope, intercept = getattr(proxy, "slope", 1.0), getattr(proxy, "inter", 0.0)
        return None if (slope, intercept) == (1.0, 0.0) else (float(slope), float(intercept))


def in_memory(
    array: NDArray[Any],
    affine: Matrix,
    name: str,
    planar: bool = False,
    interval_s: float = 0.0,
) -> Stored:
    """Content of a file of another format, read as a whole; see `Stored`.

    Args:
        array: ``(i, j, k[, V])``.
        affine: ``(4, 4)`` index to RAS+ millimetres.
        name: name in messages.
        planar: whether it is a 2D image.
        interval_s: time between two volumes; 0 where it is unknown.

    Raises:
        InputError: NIfTI cannot hold its shape.
    """
    try:
        header = header_for(affine, array.shape[:3])
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    if interval_s > 0:
        header["pixdim"][4] = interval_s
        header.set_xyzt_units("mm", "sec")
    return Stored(array, array.shape, affine, header, name, planar)


def load(path: Path) -> Stored:
    """Open an image file with nibabel.

    Raises:
        InputError: nibabel cannot read the file, or its header is invalid.
    """
    try:
        check_file(path)
        with silent_nibabel(), np.errstate(all="ignore"):
            image = nib.load(path)
    except InputError:
        raise
    except Exception as error:  # nibabel raises whatever a damaged header leads to
        raise InputError(
            f"{path} cannot be read as an image ({_brief(error)}); "
            "check that it is complete and that its extension is right."
        ) from error
    if not isinstance(image, SpatialImage):
        raise InputError(f"{path} does not hold a volume; give an image on a regular grid.")
    stored = from_nibabel(image, str(path))
    proxy = stored.array
    if type(proxy) is not ArrayProxy:
        return stored
    scaled = (proxy.slope, proxy.inter) != (1, 0)
    bytes_per_voxel = proxy.dtype.itemsize + 4 + (8 if scaled else 0)  # float64, then float32
    file_bytes = _size_of(Path(str(image.file_map["image"].filename)), path)
    packed = path.name.lower().endswith(GZIP_SUFFIXES)
    return replace(
        stored,
        array=_Gzipped(proxy) if packed else proxy,
        file_bytes=file_bytes,
        bytes_per_voxel=bytes_per_voxel,
    )


def _size_of(data: Path, header: Path) -> int:
    """Size of the file that holds the voxels."""
    try:
        return data.stat().st_size
    except OSError as error:
        raise InputError(
            f"the voxels of {header} cannot be read from {data} ({error.strerror}); put that file "
            "beside its header."
        ) from None


@dataclass(frozen=True)
class _Gzipped:
    """Voxels of a gzip file, equal to nibabel's array proxy but read faster.

    ISA-L also checks the end of the file, which nibabel does not read; on failure nibabel reads the
    voxels.
    """

    proxy: ArrayProxy

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the file."""
        return np.dtype(self.proxy.dtype)

    @cached_property
    def _seekable(self) -> SeekableGzip:
        """For single volumes: reading one does not decompress the file from its beginning."""
        return SeekableGzip(self.proxy.file_like)

    def __getitem__(self, part: Any) -> NDArray[Any]:
        try:
            if part is not Ellipsis:
                return self._over(self._seekable)[part]
            with open_gzip(self.proxy.file_like) as stream:
                return self._over(stream)[part]
        except DAMAGED:
            return self.proxy[part]

    def _over(self, stream: Any) -> ArrayProxy:
        proxy = self.proxy
        layout = (proxy.shape, proxy.dtype, proxy.offset, proxy.slope, proxy.inter)
        return ArrayProxy(stream, layout, mmap=False, order=proxy.order)


def from_nibabel(image: SpatialImage, name: str) -> Stored:
    """Array and geometry of a nibabel image, from a file or in memory.

    Raises:
        InputError: the header is invalid, or the voxels are vectors or complex numbers.
    """
    _check_voxels(image, name)
    shape = tuple(int(n) for n in image.shape)
    try:
        check_shape(shape)
        with np.errstate(all="ignore"):
            affine, header = geometry(image, name)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    except GeometryWarning:  # where warnings are errors
        raise
    except Exception as error:  # see above
        raise InputError(
            f"{name} has no usable geometry ({_brief(error)}); correct its header."
        ) from error
    array = image.dataobj
    if len(shape) > 4 and math.prod(shape[4:]) > 1:
        array, shape = _colours(image, name), shape[:4]
    return Stored(array, shape, affine, header, name)


def _colours(image: SpatialImage, name: str) -> NDArray[Any]:
    """Colours stored as vectors.

    Raises:
        InputError: the vectors are no colours.
    """
    colours = None
    if len(image.shape) == 5 and np.dtype(image.get_data_dtype()).kind == "u":
        colours = colours_of(np.asarray(image.dataobj))
    if colours is None:
        raise InputError(f"{name} holds a vector in each voxel; save one component as an image.")
    return colours


def _brief(error: BaseException) -> str:
    """First line of an error message; the exception's class name if it is empty."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _check_voxels(image: SpatialImage, name: str) -> None:
    dtype = np.dtype(image.get_data_dtype())
    if dtype.kind == "c":
        raise InputError(f"{name} holds complex numbers; save its magnitude as an image.")


# -- headers to write -----------------------------------------------------------------------------


def header_of_volumes(
    like: nib.Nifti1Header, series: nib.Nifti1Header, count: int
) -> nib.Nifti1Header:
    """Geometry of ``like`` with ``count`` volumes and the repetition time of ``series``."""
    header = like.copy()
    header.set_data_shape((*(*like.get_data_shape(), 1)[:3], count))
    header["pixdim"][4], header["toffset"] = series["pixdim"][4], series["toffset"]
    header.set_xyzt_units(like.get_xyzt_units()[0], series.get_xyzt_units()[1])
    return header


def save(
    path: Path,
    volumes: Iterable[NDArray[Any]],
    dtype: Any,
    like: nib.Nifti1Header,
    intent: int | None = None,
    slope: float = 1.0,
) -> None:
    """Write volumes one by one with the shape, geometry, codes and units of a header.

    Equal input gives equal bytes; only one volume is in memory. Default of ``intent``: the header's
    for vectors and colours, else none.
    """
    header = _header_to_write(like, np.dtype(dtype))
    header["intent_code"] = header["intent_code"] if intent is None else intent
    header["scl_slope"] = slope
    voxels = (volume.astype(dtype, copy=False).tobytes(order="F") for volume in volumes)
    pieces = chain([header.binaryblock, bytes(_NO_EXTENSION)], voxels)
    packed = path.name.lower().endswith(".gz")
    with open(path, "wb") as file:
        file.writelines(deflating(pieces, "gzip") if packed else pieces)


def save_vectors(path: Path, volumes: Sequence[NDArray[Any]], like: nib.Nifti1Header) -> None:
    """Write vectors with the geometry, codes and units of a header.

    Args:
        path: output file.
        volumes: ``(i, j, k, C)`` each.
        like: the header.
    """
    header, components = like.copy(), volumes[0].shape[-1]
    header.set_data_shape((*(*like.get_data_shape(), 1)[:3], len(volumes), components))
    header.set_intent("vector")
    parts = [volume[..., c] for c in range(components) for volume in volumes]
    save(path, parts, volumes[0].dtype, header)


def _header_to_write(like: nib.Nifti1Header, dtype: np.dtype[Any]) -> nib.Nifti1Header:
    """Header of a single file without extensions."""
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(like.get_data_shape())
    for key in ("sform_code", "qform_code", "srow_x", "srow_y", "srow_z"):
        header[key] = like[key]
    for key in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):
        header[key] = like[key]
    several = len(like.get_data_shape()) > 3
    header["pixdim"][: 5 if several else 4] = like["pixdim"][: 5 if several else 4]
    space, time = like.get_xyzt_units()
    header.set_xyzt_units(space, time if several else None)
    header["toffset"] = like["toffset"] if several else 0
    header["intent_code"] = like["intent_code"] if len(like.get_data_shape()) > 4 else 0
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["vox_offset"] = len(header.binaryblock) + _NO_EXTENSION
    return header
