"""Reading and writing of ITK transform files, as used by SimpleITK, ITK, ANTs and 3D Slicer.

Convention: ITK's transforms map points of the fixed image to points of the moving image, as in
stn3d, but in LPS. ITK applies the last transform of a composite first.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import isolated
from stn3d.io.files import atomic_write, check_output
from stn3d.io.geometry import Matrix, itk_geometry, lps_flip, matrix_from_itk
from stn3d.io.hdf5 import write_numbers, write_text, write_vectors, written_file
from stn3d.io.texts import shown_path
from stn3d.transforms import (
    Affine,
    DisplacementField,
    Linear,
    Transform,
    VelocityField,
    chain,
)

LINEAR_SUFFIXES = (".tfm", ".txt", ".mat")
HDF5_SUFFIXES = (".h5", ".hdf5")
_ITK_VERSION = "5.4.0"  # version of the file layout


def check_transform_path(path: str | os.PathLike[str]) -> Path:
    """Check that `write_transform` can write a file, before any computation.

    Raises:
        InputError: the extension is not supported, or the folder cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (*HDF5_SUFFIXES, *LINEAR_SUFFIXES):
        raise InputError(
            f"cannot write a transform as {path}: use the extension .h5 "
            f"(or, for a linear transform, {', '.join(LINEAR_SUFFIXES)})."
        )
    return check_output(path)


# -- writing --------------------------------------------------------------------------------------


def write_transform(path: str | os.PathLike[str], transform: Transform) -> None:
    """Write a transform atomically; equal transforms give equal bytes.

    Displacement fields are stored as float32 on their own grid; a velocity field is stored as its
    displacement field.

    Args:
        path: output file: ``.h5`` for any transform (an ITK composite transform), ``.tfm``,
            ``.txt`` or ``.mat`` for a linear one.
        transform: fixed points to moving points, not a batch of several.

    Raises:
        InputError: the file cannot be written, or the format does not support the transform.
        ValueError: the transform is a batch of several, or of a kind without an ITK counterpart.

    Examples:
        >>> import tempfile
        >>> from stn3d import Rigid
        >>> parameters = torch.tensor([0, 0, np.pi / 2, 10, -5, 0], dtype=torch.float64)
        >>> rigid = Rigid(parameters, torch.zeros(3, dtype=torch.float64))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_transform(f"{folder}/rigid.tfm", rigid)
        ...     again = read_transform(f"{folder}/rigid.tfm")
        >>> again(torch.tensor([[20.0, 0.0, 0.0]])).round(decimals=3)
        tensor([[10., 15.,  0.]])
    """
    path = check_transform_path(path)
    parts = [_storable(part) for part in transform.parts]
    if path.suffix.lower() in LINEAR_SUFFIXES:
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


def _storable(part: Transform) -> Linear | DisplacementField:
    """A part of a transform as a kind that ITK supports."""
    if isinstance(part, VelocityField):
        part = part.displacement
    if not isinstance(part, Linear | DisplacementField):
        raise ValueError(
            f"a {type(part).__name__} has no ITK format; give a linear transform or a field."
        )
    return part


def _lps_affine(transform: Linear) -> tuple[list[float], list[float]]:
    """ITK's parameters (matrix row by row, translation) and centre, in LPS."""
    matrix = transform.matrix.detach().cpu().double().reshape(-1, *transform.matrix.shape[-2:])
    if len(matrix) != 1:
        raise ValueError(f"a file holds one transform; this is a batch of {len(matrix)}.")
    d = transform.ndim
    flip = lps_flip(d)
    lps = flip @ matrix[0].numpy() @ flip
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
    write_vectors(group, "TransformParameters", field[0].numpy(), signs)


# -- reading --------------------------------------------------------------------------------------


def read_transform(path: str | os.PathLike[str]) -> Transform:
    """Read an ITK transform file.

    Args:
        path: file (``.h5``, ``.tfm``, ``.txt``, ``.mat``, ...) with linear transforms of any class,
            displacement fields, or composites of these. For an example see `write_transform`.

    Returns:
        The transform in RAS+ millimetres; fields are float32 on their own grid.

    Raises:
        InputError: the file does not exist, is damaged, or holds another kind of transform.
    """
    path = Path(path)
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


def _affine_from_itk(lps: Matrix, name: str | Path) -> Affine:
    """Affine of a ``(d + 1, d + 1)`` LPS matrix."""
    flip = lps_flip(len(lps) - 1)
    matrix = torch.from_numpy(flip @ lps @ flip)
    if not bool(torch.isfinite(matrix).all()) or float(torch.linalg.det(matrix)) == 0:
        raise InputError(f"{name} holds a singular matrix; recompute the transform.")
    return Affine.from_matrix(matrix)


def _field_from_itk(
    geometry: dict[str, Any], vectors: NDArray[Any], name: str | Path
) -> DisplacementField:
    """Displacement field of vectors ``(k, j, i, component)`` in LPS, which are overwritten."""
    d = vectors.shape[-1]
    vectors *= np.diag(lps_flip(d))[:d].astype(np.float32)
    field = torch.from_numpy(np.ascontiguousarray(np.transpose(vectors)))
    if not bool(torch.isfinite(field).all()):
        raise InputError(f"{name} holds displacements of NaN or Inf; recompute the transform.")
    matrix = matrix_from_itk(geometry["origin"], geometry["spacing"], geometry["direction"])
    return DisplacementField(field[None], Grid(tuple(field.shape[1:]), torch.from_numpy(matrix)))
