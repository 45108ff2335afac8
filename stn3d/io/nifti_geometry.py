"""Geometry of NIfTI and Analyze headers.

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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.imageglobals import logger as nibabel_logger
from nibabel.spatialimages import HeaderDataError, SpatialImage

from stn3d.errors import GeometryWarning, InputError
from stn3d.io.geometry import Matrix, plane_in_space
from stn3d.io.nifti_checks import usable

_LONGEST_AXIS = 32767
MM_PER_UNIT = {"meter": 1e3, "micron": 1e-3}


def geometry(image: SpatialImage, name: str) -> tuple[Matrix, nib.Nifti1Header]:
    """Affine in millimetres, and the header to store, of a nibabel image.

    Raises:
        HeaderDataError: the header has no usable geometry.
    """
    header = image.header
    if not isinstance(header, nib.Nifti1Header):
        if image.affine is None:
            raise HeaderDataError("it has no affine")
        if isinstance(header, nib.AnalyzeHeader) and _is_default(image):
            affine = _without_orientation(image, name)
            return affine, header_for(affine, image.shape[:3])
        return image.affine.astype(np.float64), header_for(image.affine, image.shape[:3])
    header, note = usable(header)
    if note:
        _warn(f"{name}: {note}.")
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    scale = np.diag([*[MM_PER_UNIT.get(header.get_xyzt_units()[0], 1.0)] * 3, 1.0])
    if sform_code > 0:
        _compare_with_itk(header, image.shape[:3], name)
        return scale @ header.get_sform(), header
    if qform_code > 0:
        _check_pixdim(image)
        return scale @ header.get_qform(), header
    if image.affine is not None and not _is_default(image):
        return image.affine.astype(np.float64), header_for(image.affine, image.shape[:3])
    return scale @ _without_orientation(image, name), header


def _is_default(image: Any) -> bool:
    """Whether the affine is the one that nibabel makes up for a header without one."""
    return image.affine is None or np.allclose(image.affine, image.header.get_base_affine())


def _without_orientation(image: Any, name: str) -> Matrix:
    """ITK's affine for a header without orientation, in the header's units."""
    pixdim = _check_pixdim(image)
    _warn(
        f"{name} has no orientation (sform and qform codes are 0, or it is an Analyze file): its "
        "axes are assumed to be LPS and its first voxel to lie at the world origin, as in ITK."
    )
    sizes = np.where(pixdim > 0, pixdim, 1.0)  # a 2D image may omit the third
    return np.diag([-sizes[0], -sizes[1], sizes[2], 1.0])


def _check_pixdim(image: Any) -> Matrix:
    """The voxel sizes as stored.

    Raises:
        HeaderDataError: one is not positive.
    """
    pixdim = _stored_pixdim(image)
    if not (pixdim[: min(3, len(image.shape))] > 0).all():
        raise HeaderDataError("its voxel sizes are not positive and there is no sform")
    return pixdim


def _stored_pixdim(image: Any) -> Matrix:
    """Voxel sizes as stored in the file; nibabel silently corrects zeros and signs on loading."""
    header = image.header
    file = (image.file_map or {}).get("header") or (image.file_map or {}).get("image")
    if file is not None and (file.filename is not None or file.fileobj is not None):
        try:
            with silent_nibabel(), file.get_prepare_fileobj("rb") as stream:
                header = type(header).from_fileobj(stream, check=False)
        except Exception:  # an image in memory whose file no longer exists
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


def check_shape(shape: Sequence[int]) -> None:
    """Check that a NIfTI header can hold a shape.

    Raises:
        InputError: an axis is empty or too long.
    """
    if min(shape, default=0) < 1 or max(shape) > _LONGEST_AXIS:
        size = " x ".join(str(n) for n in shape)
        raise InputError(
            f"the image has {size} voxels; every axis needs 1 to {_LONGEST_AXIS}. Crop or resample "
            "it, or check its header."
        )


def header_for(affine: Any, shape: tuple[int, ...]) -> nib.Nifti1Header:
    """Header in millimetres for a matrix from index to RAS+ world, ``(4, 4)`` or ``(3, 3)`` (2D).

    The codes are 1 (scanner); the qform is omitted if the axes are not orthogonal.

    Raises:
        InputError: NIfTI cannot hold the shape.
    """
    check_shape(shape)
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


@contextmanager
def silent_nibabel() -> Iterator[None]:
    """Silence nibabel's header messages on stderr; errors are raised as exceptions."""
    before, nibabel_logger.disabled = nibabel_logger.disabled, True
    try:
        yield
    finally:
        nibabel_logger.disabled = before
