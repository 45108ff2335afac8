"""NIfTI files read by nibabel, their geometry, and the headers to write.

The affine is the sform if its code is set, otherwise the qform if its code is set (the order of the
NIfTI standard and of nibabel), scaled to millimetres by the header's units, as in ITK. If neither
code is set, the affine is ITK's: voxel sizes along LPS axes, first voxel at the world origin
(nibabel flips the first axis and centres the image).

ITK (5.4, in SimpleITK 2.5) differs where both codes are set: it uses the sform only if its code is
1 and its axes are orthogonal, otherwise the qform; without a qform it rejects axes that are not
orthogonal; and with the sform it takes the spacing from pixdim. A `GeometryWarning` is issued where
this changes voxel positions by a tenth of a voxel or more.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import logger as nibabel_logger
from nibabel.spatialimages import HeaderDataError, SpatialImage
from numpy.typing import NDArray

from stn3d.errors import GeometryWarning, InputError
from stn3d.io.deflate import DAMAGED, deflating, open_gzip
from stn3d.io.geometry import Matrix, plane_in_space
from stn3d.io.seekable import SeekableGzip

GZIP_SUFFIXES = (".gz", ".mgz")
MM_PER_UNIT = {"meter": 1e3, "micron": 1e-3}
_NO_EXTENSION = 4  # zero bytes after the header: no extensions
UNREADABLE: tuple[type[Exception], ...] = (*DAMAGED, HeaderDataError, ImageFileError)


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
    """

    array: Any
    shape: tuple[int, ...]
    affine: Matrix
    header: nib.Nifti1Header
    name: str
    planar: bool = False

    @property
    def num_volumes(self) -> int:
        """Number of volumes; 1 without a fourth axis."""
        return int(np.prod(self.shape[3:], dtype=int))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the file or array, before any scaling; uint8 for bool."""
        dtype = np.dtype(self.array.dtype).newbyteorder("=")
        return np.dtype(np.uint8) if dtype.kind == "b" else dtype


def load(path: Path) -> Stored:
    """Open an image file with nibabel.

    Raises:
        InputError: nibabel cannot read the file, or its header is invalid.
    """
    try:
        with _silent_nibabel():
            image = nib.load(path)
    except UNREADABLE as error:
        raise InputError(
            f"{path} cannot be read as an image ({_brief(error)}); "
            "check that it is complete and that its extension is right."
        ) from error
    if not isinstance(image, SpatialImage):
        raise InputError(f"{path} does not hold a volume; give an image on a regular grid.")
    stored = from_nibabel(image, str(path))
    if path.name.lower().endswith(GZIP_SUFFIXES) and type(stored.array) is ArrayProxy:
        return replace(stored, array=_Gzipped(stored.array))
    return stored


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


@contextmanager
def _silent_nibabel() -> Iterator[None]:
    """Silence nibabel's header messages on stderr; errors are raised as exceptions."""
    before, nibabel_logger.disabled = nibabel_logger.disabled, True
    try:
        yield
    finally:
        nibabel_logger.disabled = before


def from_nibabel(image: SpatialImage, name: str) -> Stored:
    """Array and geometry of a nibabel image, from a file or in memory.

    Raises:
        InputError: the header is invalid, or the voxels are colours, vectors or complex numbers.
    """
    _check_voxels(image, name)
    shape = tuple(int(n) for n in image.shape)
    try:
        affine, header = _geometry(image, name)
    except HeaderDataError as error:
        raise InputError(
            f"{name} has no usable geometry ({_brief(error)}); correct its header."
        ) from error
    return Stored(image.dataobj, shape, affine, header, name)


def _brief(error: BaseException) -> str:
    """First line of an error message; the exception's class name if it is empty."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _check_voxels(image: SpatialImage, name: str) -> None:
    dtype = np.dtype(image.get_data_dtype())
    if dtype.fields is not None:
        raise InputError(f"{name} holds colours; convert it to one scalar per voxel.")
    if dtype.kind == "c":
        raise InputError(f"{name} holds complex numbers; save its magnitude as an image.")
    if len(image.shape) > 4 and any(n > 1 for n in image.shape[4:]):
        raise InputError(f"{name} holds a vector in each voxel; save one component as an image.")


def _geometry(image: SpatialImage, name: str) -> tuple[Matrix, nib.Nifti1Header]:
    """Affine in millimetres, and the header to store."""
    header = image.header
    if not isinstance(header, nib.Nifti1Header):
        if image.affine is None:
            raise HeaderDataError("it has no affine")
        return image.affine.astype(np.float64), header_for(image.affine, image.shape[:3])
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    scale = np.diag([*[MM_PER_UNIT.get(header.get_xyzt_units()[0], 1.0)] * 3, 1.0])
    pixdim = _stored_pixdim(image)
    if sform_code == 0 and not (pixdim[: min(3, len(image.shape))] > 0).all():
        raise HeaderDataError("its voxel sizes are not positive and there is no sform")
    if sform_code > 0:
        _compare_with_itk(header, image.shape[:3], name)
        return scale @ header.get_sform(), header.copy()
    if qform_code > 0:
        return scale @ header.get_qform(), header.copy()
    if image.affine is not None and not np.allclose(image.affine, header.get_base_affine()):
        return image.affine.astype(np.float64), header_for(image.affine, image.shape[:3])
    _warn(
        f"{name} has no orientation (sform and qform codes are 0): its axes are assumed to be LPS "
        "and its first voxel to lie at the world origin, as in ITK."
    )
    sizes = np.where(pixdim > 0, pixdim, 1.0)  # a 2D image may omit the third
    return scale @ np.diag([-sizes[0], -sizes[1], sizes[2], 1.0]), header.copy()


def _stored_pixdim(image: Any) -> Matrix:
    """Voxel sizes as stored in the file; nibabel silently corrects zeros and signs on loading."""
    header = image.header
    file = (image.file_map or {}).get("header") or (image.file_map or {}).get("image")
    if file is not None and (file.filename is not None or file.fileobj is not None):
        try:
            with _silent_nibabel(), file.get_prepare_fileobj("rb") as stream:
                header = type(header).from_fileobj(stream, check=False)
        except UNREADABLE:  # an image in memory whose file no longer exists
            header = image.header
    return np.asarray(header["pixdim"][1:4], dtype=np.float64)


def _compare_with_itk(header: nib.Nifti1Header, shape: tuple[int, ...], name: str) -> None:
    """Warn if ITK would place the voxels elsewhere."""
    sform, has_qform = header.get_sform(), int(header["qform_code"]) > 0
    spacing = np.linalg.norm(sform[:3, :3], axis=0)
    if not (spacing > 0).all():
        return  # singular: raises an error later
    cosines = sform[:3, :3] / spacing
    sheared = bool(np.abs(cosines.T @ cosines - np.eye(3)).max() > 5e-4)
    if sheared and not has_qform:
        _warn(f"the axes of {name} are not orthogonal; stn3d supports this, ITK rejects it.")
        return
    by_itk, source = sform.copy(), "voxel sizes (pixdim)"
    if has_qform and (int(header["sform_code"]) != 1 or sheared):
        by_itk, source = header.get_qform(), "qform"
    else:
        by_itk[:3, :3] = cosines * header["pixdim"][1:4]
    sizes = np.array([*shape, 1, 1])[:3, None]
    corners = np.indices((2, 2, 2)).reshape(3, -1) * (sizes - 1)
    gap = float(np.abs((sform - by_itk) @ np.vstack([corners, np.ones(8)])).max())
    if gap > 0.1 * spacing[: len(shape)].min():
        _warn(
            f"sform and {source} of {name} differ by up to {gap:.3g} in the unit of the header: "
            f"stn3d uses the sform, ITK-based tools use the {source}."
        )


def _warn(message: str) -> None:
    warnings.warn(message, GeometryWarning, stacklevel=2)


# -- headers to write -----------------------------------------------------------------------------


def header_for(affine: Any, shape: tuple[int, ...]) -> nib.Nifti1Header:
    """Header in millimetres for a matrix from index to RAS+ world, ``(4, 4)`` or ``(3, 3)`` (2D).

    The codes are 1 (scanner); the qform is omitted if the axes are not orthogonal.
    """
    matrix = np.asarray(affine, dtype=np.float64)
    matrix = plane_in_space(matrix) if matrix.shape == (3, 3) else matrix
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_xyzt_units("mm")
    header.set_sform(matrix, 1)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    header["pixdim"][1:4] = spacing
    cosines = matrix[:3, :3] / np.maximum(spacing, 1e-12)
    if np.allclose(cosines.T @ cosines, np.eye(3), atol=1e-5):
        header.set_qform(matrix, 1)
    return header


def header_of_volumes(
    like: nib.Nifti1Header, series: nib.Nifti1Header, count: int
) -> nib.Nifti1Header:
    """Geometry of ``like`` with ``count`` volumes and the repetition time of ``series``."""
    header = like.copy()
    header.set_data_shape((*(*like.get_data_shape(), 1)[:3], count))
    header["pixdim"][4], header["toffset"] = series["pixdim"][4], series["toffset"]
    header.set_xyzt_units(like.get_xyzt_units()[0], series.get_xyzt_units()[1])
    return header


def save(path: Path, volumes: Iterable[NDArray[Any]], dtype: Any, like: nib.Nifti1Header) -> None:
    """Write volumes one by one with the shape, geometry, codes and units of a header.

    Equal input gives equal bytes; only one volume is in memory.
    """
    header = _header_to_write(like, np.dtype(dtype))
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
