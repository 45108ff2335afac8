"""DICOM's Spatial Registration and Deformable Spatial Registration objects.

Convention: positions are LPS millimetres in frames of reference. The object's own frame of
reference (the registered one) is that of the fixed image; the other one, of the moving image, is
the source. The matrix of a Spatial Registration maps source (moving) points to registered (fixed)
points (PS3.3 C.20.2). A Deformable Spatial Registration maps registered (fixed) points to source
(moving) points: ``post(pre(x) + u(x))`` with a grid of displacements u (PS3.3 C.20.3).
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io.dicom_series import series_of
from stn3d.io.files import atomic_write
from stn3d.io.geometry import Matrix, lps_flip, matrix_from_itk
from stn3d.io.texts import shown_path
from stn3d.io.transforms.base import (
    Reference,
    ReferenceImages,
    TransformFileFormat,
    beginning,
    has_suffix,
)
from stn3d.io.transforms.dicom_objects import DEFORMABLE_CLASS, LINEAR_CLASS, registration_object
from stn3d.io.transforms.fields import (
    affine_from,
    field_and_matrix,
    field_from,
    inverted_matrix,
)
from stn3d.transforms import Affine, Transform, chain

_SUFFIX = ".dcm"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_FLIP = lps_flip(3)


@final
class Dicom(TransformFileFormat):
    """Spatial registration objects, linear and deformable."""

    name = "dicom"
    suffixes = (_SUFFIX,)

    def recognises(self, path: Path) -> bool:
        return beginning(path, 132)[128:] == b"DICM"

    def read(self, path: Path, images: ReferenceImages) -> Transform:
        if not os.path.isfile(path):
            raise InputError(f"there is no transform file {shown_path(path)}; check the path.")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return _read(_dataset(path), path, images)
        except InputError:
            raise
        except Exception as error:  # whatever pydicom may raise for a damaged file
            raise InputError(
                f"{path} cannot be read as a transform; give a complete DICOM registration object."
            ) from error

    def write(self, path: Path, transform: Transform, images: ReferenceImages) -> list[Path]:
        if transform.ndim != 3:
            raise InputError(f"cannot write {path}: DICOM registration objects map 3D images.")
        field, matrix = field_and_matrix(transform, images, "a DICOM deformation grid")
        found = registration_object(
            field, matrix, series_of(images.fixed), series_of(images.moving)
        )
        with atomic_write(path) as part:
            found.save_as(part, enforce_file_format=True)
        return [path]

    def outputs(self, path: Path) -> list[Path]:
        if has_suffix(path, _SUFFIX):
            return [path]
        raise InputError(f"cannot write {path} as a DICOM object: use the extension .dcm.")


def _dataset(path: Path) -> Any:
    import pydicom
    from pydicom.filereader import read_file_meta_info

    meta = read_file_meta_info(path)
    if str(meta.get("TransferSyntaxUID", "")) == _DEFLATED:
        raise InputError(f"{path} is deflated; save it uncompressed (explicit little endian).")
    return pydicom.dcmread(path, stop_before_pixels=True)


def is_registration_object(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a DICOM registration object, and not an image or anything else."""
    start = beginning(Path(path))
    kinds = LINEAR_CLASS, DEFORMABLE_CLASS
    return start[128:132] == b"DICM" and any(kind.encode() in start for kind in kinds)


def _read(dataset: Any, path: Path, images: ReferenceImages) -> Transform:
    kind = str(dataset.get("SOPClassUID", ""))
    if kind == LINEAR_CLASS:
        return _linear(dataset, path, images)
    if kind == DEFORMABLE_CLASS:
        return _deformable(dataset, path)
    name = getattr(dataset.get("SOPClassUID"), "name", "") or "DICOM object without a class"
    raise InputError(
        f"{path} is a {name}, not a transform; give a Spatial Registration or a Deformable Spatial "
        "Registration."
    )


def _linear(dataset: Any, path: Path, images: ReferenceImages) -> Affine:
    """Fixed points to registered points, then the inverse of the moving image's matrix.

    The series that are given select their matrices by their frames of reference. Otherwise the
    fixed image's is the identity, and the moving image's the only other one.
    """
    matrices = [
        _sequence_matrix(item.MatrixRegistrationSequence[0].MatrixSequence)
        for item in dataset.RegistrationSequence
    ]
    frames = [str(item.get("FrameOfReferenceUID", "")) for item in dataset.RegistrationSequence]
    fixed, moving = _selected(frames, images.fixed), _selected(frames, images.moving)
    others = [n for n, one in enumerate(matrices) if not np.allclose(one, np.eye(4), atol=1e-9)]
    candidates = [n for n in others if n != fixed] if moving is None else [moving]
    if len(candidates) > 1:
        raise InputError(
            f"{path} registers {len(candidates)} images; give the DICOM series of the moving one "
            "with --moving, whose frame of reference selects it."
        )
    from_fixed = np.eye(4) if fixed is None else matrices[fixed]
    from_moving = matrices[candidates[0]] if candidates else np.eye(4)
    inverse = inverted_matrix(_FLIP @ from_moving @ _FLIP, path)
    return affine_from(inverse @ _FLIP @ from_fixed @ _FLIP, path)


def _selected(frames: list[str], source: Reference | None) -> int | None:
    """The number of the item of a series' frame of reference; None without one, or with several."""
    series = series_of(source)
    found = None if series is None else series.frame_of_reference
    return frames.index(found) if found is not None and frames.count(found) == 1 else None


def _deformable(dataset: Any, path: Path) -> Transform:
    """A field and the matrix that follows it."""
    items = [
        item
        for item in dataset.DeformableRegistrationSequence
        if "DeformableRegistrationGridSequence" in item
    ]
    if len(items) != 1:
        raise InputError(f"{path} holds {len(items)} deformation grids; stn3d reads one.")
    item = items[0]
    pre = _optional_matrix(item, "PreDeformationMatrixRegistrationSequence")
    post = _optional_matrix(item, "PostDeformationMatrixRegistrationSequence")
    vectors, grid = _grid_vectors(item.DeformableRegistrationGridSequence[0], dataset, path)
    before = inverted_matrix(pre, path)[:3, :3]
    field = field_from(vectors @ before.T, grid, path)
    return chain(field, affine_from(post @ pre, path))


def _grid_vectors(item: Any, dataset: Any, path: Path) -> tuple[NDArray[Any], Grid]:
    """Vectors ``(i, j, k, 3)`` in RAS and their grid."""
    shape = tuple(int(n) for n in item.GridDimensions)
    spacing = np.array([float(n) for n in item.GridResolution])
    rows = np.array([float(n) for n in item.ImageOrientationPatient]).reshape(2, 3)
    origin = [float(n) for n in item.ImagePositionPatient]
    direction = np.stack([*rows, np.cross(*rows)], axis=1)
    order = "<" if dataset.original_encoding[1] in (True, None) else ">"
    content = bytes(item.VectorGridData)
    if len(shape) != 3 or min(shape) < 1 or len(content) != 12 * shape[0] * shape[1] * shape[2]:
        raise InputError(
            f"{path} cannot be read as a transform: its grid of {shape} vectors has "
            f"{len(content)} bytes; check that it is complete."
        )
    numbers = np.frombuffer(content, f"{order}f4").reshape(*shape[::-1], 3)
    vectors = np.transpose(numbers, (2, 1, 0, 3)) * np.array([-1, -1, 1], np.float32)
    matrix = torch.from_numpy(matrix_from_itk(origin, spacing, direction.ravel()))
    return vectors, Grid(shape, matrix)


def _optional_matrix(item: Any, name: str) -> Matrix:
    found = _sequence_matrix(item[name].value) if name in item else np.eye(4)
    return _FLIP @ found @ _FLIP


def _sequence_matrix(sequence: Any) -> Matrix:
    """The product of the matrices of a sequence, each applied after those before it; LPS."""
    total = np.eye(4)
    for item in sequence:
        numbers = [float(n) for n in item.FrameOfReferenceTransformationMatrix]
        total = np.reshape(numbers, (4, 4)) @ total
    return total
