"""ITK's transforms, as used by SimpleITK, ITK, ANTs and 3D Slicer: transform files and fields.

Convention: ITK's transforms map points of the fixed image to points of the moving image, as in
stn3d, but in LPS. ITK applies the last transform of a composite first. Fields in image files are
vectors in LPS millimetres.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import isolated, metaimage, nrrd
from stn3d.io.files import atomic_write
from stn3d.io.geometry import Matrix, itk_geometry, lps_flip, matrix_from_itk
from stn3d.io.hdf5 import (
    write_numbers,
    write_text,
    written_file,
)
from stn3d.io.hdf5 import (
    write_vectors as write_hdf5_vectors,
)
from stn3d.io.texts import shown_path
from stn3d.io.transforms.base import (
    ReferenceImages,
    TransformFileFormat,
    beginning,
    has_suffix,
)
from stn3d.io.transforms.fields import (
    affine_from,
    as_field,
    field_from,
    linear_matrix,
    vectors_of,
)
from stn3d.io.transforms.vectors import (
    ITK_SUFFIXES,
    NIFTI_SUFFIXES,
    nifti_origin,
    read_vectors,
    vector_header,
    write_vectors,
)
from stn3d.transforms import Affine, DisplacementField, Linear, Transform, VelocityField, chain

LINEAR_SUFFIXES = (".tfm", ".txt", ".mat")
HDF5_SUFFIXES = (".h5", ".hdf5")
FIELD_SUFFIXES = (*NIFTI_SUFFIXES, *ITK_SUFFIXES)
_ITK_VERSION = "5.4.0"  # version of the file layout
_HDF5_MAGIC = b"\x89HDF"
_TEXT_MAGIC = b"#Insight Transform"
_MATLAB_NAME = re.compile(rb"[A-Za-z0-9]+_(double|float)_\d_\d\0")


@final
class Itk(TransformFileFormat):
    """Transform files of ITK, and displacement fields as images."""

    name = "itk"
    suffixes = (*HDF5_SUFFIXES, *LINEAR_SUFFIXES, *FIELD_SUFFIXES)

    def recognises(self, path: Path) -> bool:
        if has_suffix(path, *HDF5_SUFFIXES):
            return os.path.isfile(path)
        if has_suffix(path, *NIFTI_SUFFIXES):
            return nifti_origin(path) in ("itk", "auto")
        if has_suffix(path, ".x5"):
            return False
        first = beginning(path)
        return (
            first.startswith((_HDF5_MAGIC, _TEXT_MAGIC))
            or bool(_MATLAB_NAME.search(first))
            or (vector_header(path) is not None)
        )

    def read(self, path: Path, images: ReferenceImages) -> Transform:
        return read_itk_field(path) if is_vector_file(path) else read_itk(path)

    def write(self, path: Path, transform: Transform, images: ReferenceImages) -> list[Path]:
        if has_suffix(path, *FIELD_SUFFIXES):
            write_itk_field(
                path, as_field(transform, images, f"a displacement field ({path.name})")
            )
            return [path]
        if images.fixed is not None and any(not _is_storable(part) for part in transform.parts):
            transform = as_field(transform, images, f"the transform in {path.name}")
        write_itk(path, transform)
        return [path]

    def outputs(self, path: Path) -> list[Path]:
        if has_suffix(path, *self.suffixes):
            return [path]
        raise InputError(
            f"cannot write an ITK transform as {path}: use the extension .h5, "
            f"{', '.join(FIELD_SUFFIXES)} for a displacement field, or "
            f"{', '.join(LINEAR_SUFFIXES)} for a linear transform."
        )


# -- writing --------------------------------------------------------------------------------------


def write_itk(path: Path, transform: Transform) -> None:
    """Write an ITK transform file.

    Args:
        path: output file with one of the extensions above.
        transform: fixed points to moving points, not a batch of several.

    Raises:
        InputError: the file cannot be written, or the extension does not support the transform.
        ValueError: the transform is a batch of several, or of a kind without an ITK counterpart.
    """
    parts = [_storable(part) for part in transform.parts]
    if has_suffix(path, *LINEAR_SUFFIXES):
        if len(parts) != 1 or not isinstance(parts[0], Linear):
            raise InputError(
                f"cannot write {path}: {path.suffix} stores linear transforms only; use .h5."
            )
        _write_linear(path, parts[0])
        return
    with atomic_write(path) as part, written_file(part) as file:
        write_text(file, "ITKVersion", _ITK_VERSION)
        write_text(file, "HDFVersion", "1.12")
        write_text(file, "OSName", "any")
        write_text(file, "OSVersion", "any")
        d = transform.ndim
        group = file.create_group("TransformGroup")
        write_text(group.create_group("0"), "TransformType", f"CompositeTransform_double_{d}_{d}")
        for number, one in enumerate(reversed(parts), start=1):
            _write_part(group.create_group(str(number)), one)


def write_itk_field(path: Path, field: DisplacementField) -> None:
    """Write a displacement field as an image of LPS vectors.

    Raises:
        InputError: the file cannot be written, or a vector is not finite.
        ValueError: the field is a batch of several.
    """
    signs = np.diag(lps_flip(field.ndim))[:-1].astype(np.float32)
    write_vectors(path, vectors_of(field) * signs, field.grid)


def _is_storable(part: Transform) -> bool:
    return isinstance(part, Linear | DisplacementField | VelocityField)


def _storable(part: Transform) -> Linear | DisplacementField:
    """A part of a transform as a kind that ITK supports."""
    if isinstance(part, VelocityField):
        part = part.displacement
    if not isinstance(part, Linear | DisplacementField):
        raise ValueError(
            f"a {type(part).__name__} has no ITK format; give the fixed image, on whose grid it is "
            "sampled as a field (--like, fixed=)."
        )
    return part


def _lps_affine(transform: Linear) -> tuple[list[float], list[float]]:
    """ITK's parameters (matrix row by row, translation) and centre, in LPS."""
    matrix = linear_matrix(transform)
    d = transform.ndim
    flip = lps_flip(d)
    lps = flip @ matrix @ flip
    centre = flip[:d, :d] @ transform.centre_mm.detach().cpu().double().numpy().reshape(-1)[:d]
    translation = lps[:d, :d] @ centre + lps[:d, d] - centre
    return [*lps[:d, :d].ravel().tolist(), *translation.tolist()], centre.tolist()


def _write_linear(path: Path, transform: Linear) -> None:
    """Write an affine transform with SimpleITK."""
    import SimpleITK as sitk

    parameters, centre = _lps_affine(transform)
    affine = sitk.AffineTransform(transform.ndim)
    affine.SetFixedParameters(centre)
    affine.SetParameters(parameters)
    with atomic_write(path) as part:
        try:
            sitk.WriteTransform(affine, str(part))
        except RuntimeError as error:
            raise OSError(str(error).strip().splitlines()[-1]) from error


def _write_part(group: h5py.Group, transform: Linear | DisplacementField) -> None:
    """Write one transform of the composite."""
    d = transform.ndim
    if isinstance(transform, Linear):
        parameters, fixed = _lps_affine(transform)
        write_text(group, "TransformType", f"AffineTransform_double_{d}_{d}")
        write_numbers(group, "TransformFixedParameters", fixed)
        write_numbers(group, "TransformParameters", parameters)
        return
    field = transform.displacement_mm.detach().cpu()
    if len(field) != 1:
        raise ValueError(f"a file holds one transform; this is a batch of {len(field)}.")
    origin, spacing, direction = itk_geometry(transform.grid.world_from_index.numpy())
    sizes = [float(n) for n in transform.grid.shape]
    write_text(group, "TransformType", f"DisplacementFieldTransform_float_{d}_{d}")
    write_numbers(group, "TransformFixedParameters", [*sizes, *origin, *spacing, *direction])
    signs = np.diag(lps_flip(d))[:d]
    write_hdf5_vectors(group, "TransformParameters", field[0].numpy(), signs)


# -- reading --------------------------------------------------------------------------------------


def read_itk(path: Path) -> Transform:
    """Read an ITK transform file.

    Args:
        path: file (``.h5``, ``.tfm``, ``.txt``, ``.mat``, ...) with linear transforms of any class,
            displacement fields, or composites of these.

    Returns:
        The transform in RAS+ millimetres; fields are float32 on their own grid.

    Raises:
        InputError: the file does not exist, is damaged, or holds another kind of transform.
    """
    if not os.path.isfile(path):
        raise InputError(f"there is no transform file {shown_path(path)}; check the path.")
    fields: list[NDArray[Any]] = []
    try:
        with isolated.reader(str(path), path.stat().st_size) as reader:
            answer = reader.ask("transform", str(path))
            parts = answer.get("parts", [])
            fields = [reader.array(part["field"]) for part in parts if "field" in part]
    except InputError as error:
        raise InputError(
            f"{path} cannot be read as a transform; give a complete ITK transform file "
            "(.h5, .tfm, .txt, .mat)."
        ) from error
    return from_parts(answer, fields, path)


def from_parts(
    answer: dict[str, Any], fields: Sequence[NDArray[Any]], name: str | Path
) -> Transform:
    """Transform of the parts of one of ITK's.

    Args:
        answer: matrices and geometry of fields in LPS, see `stn3d.io.itk_child.parts_of`.
        fields: vectors of the fields, float32, which are overwritten.
        name: name of the transform in messages.

    Raises:
        InputError: it holds another kind of transform, a singular matrix, NaN or Inf.
    """
    if "unknown" in answer:
        raise _unread(name, answer["unknown"])
    vectors = iter(fields)
    return chain(
        *(
            _field_from_itk(part["field"], next(vectors), name)
            if "field" in part
            else _affine_from_itk(np.array(part["matrix"]), name)
            for part in answer["parts"]
        )
    )


def _unread(name: str | Path, kind: str) -> InputError:
    return InputError(
        f"{name} holds a {kind}, which stn3d does not support; "
        "convert it to a displacement field (SimpleITK.TransformToDisplacementField)."
    )


def read_itk_field(path: Path) -> DisplacementField:
    """Read a displacement field in an image file (NIfTI, NRRD, MetaImage), in LPS millimetres.

    Raises:
        InputError: the file does not exist, is damaged, or holds no such field.
    """
    vectors, grid, _ = read_vectors(path)
    return field_from(vectors * np.diag(lps_flip(grid.ndim))[:-1].astype(np.float32), grid, path)


def is_vector_file(path: Path) -> bool:
    """Whether a file is an image rather than a transform file, by its name."""
    return has_suffix(path, *NIFTI_SUFFIXES, *nrrd.SUFFIXES, *metaimage.SUFFIXES)


def _affine_from_itk(lps: Matrix, name: str | Path) -> Affine:
    """Affine of a ``(d + 1, d + 1)`` LPS matrix."""
    flip = lps_flip(len(lps) - 1)
    return affine_from(flip @ lps @ flip, name)


def _field_from_itk(
    geometry: dict[str, Any], vectors: NDArray[Any], name: str | Path
) -> DisplacementField:
    """Displacement field of vectors ``(k, j, i, component)`` in LPS, which are overwritten."""
    d = vectors.shape[-1]
    vectors *= np.diag(lps_flip(d))[:d].astype(np.float32)
    matrix = matrix_from_itk(geometry["origin"], geometry["spacing"], geometry["direction"])
    array = np.transpose(vectors, (*reversed(range(d)), d))
    return field_from(array, Grid(array.shape[:-1], torch.from_numpy(matrix)), name)
