"""AFNI's transforms: matrices (.aff12.1D) and displacement fields of 3dQwarp.

Convention: both map fixed (base) points to moving (source) points in LPS millimetres. AFNI places
the voxels of an oblique image as if its axes were the closest cardinal ones, with the same first
voxel; nitransforms knows these positions. So both images are needed.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import final

import numpy as np

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io.files import atomic_write
from stn3d.io.geometry import Matrix, lps_flip
from stn3d.io.transforms.base import ReferenceImages, TransformFileFormat, beginning, has_suffix
from stn3d.io.transforms.fields import (
    affine_from,
    field_from,
    field_on,
    require_linear,
    vectors_of,
)
from stn3d.io.transforms.matrices import matrix_text, rows_of
from stn3d.io.transforms.vectors import NIFTI_SUFFIXES, nifti_origin, read_vectors, write_vectors
from stn3d.transforms import Transform, chain

_MATRIX_SUFFIXES = (".1d",)
_BANNER = "# 3dvolreg matrices (DICOM-to-DICOM, row-by-row):"
_SIGNS = np.array([-1.0, -1.0, 1.0])


def cardinal_from_world(grid: Grid) -> Matrix:
    """``(4, 4)`` matrix from RAS+ millimetres to those where AFNI has the voxels of an image."""
    from nitransforms.io.afni import AFNILinearTransform  # slow to import

    image = SimpleNamespace(affine=grid.world_from_index.numpy())
    found: Matrix = AFNILinearTransform().to_ras(reference=image)
    return found


@final
class Afni(TransformFileFormat):
    """Matrices of 3dAllineate and fields of 3dQwarp."""

    name = "afni"
    suffixes = _MATRIX_SUFFIXES

    def recognises(self, path: Path) -> bool:
        if has_suffix(path, *NIFTI_SUFFIXES):
            return nifti_origin(path) in ("afni", "auto")
        known = has_suffix(path, *_MATRIX_SUFFIXES) and os.path.isfile(path)
        return known or beginning(path).startswith(b"# 3dvolreg matrices")

    def read(self, path: Path, images: ReferenceImages) -> Transform:
        if has_suffix(path, *NIFTI_SUFFIXES):
            return _read_field(path, images)
        matrix = _read_matrix(path)
        fixed, moving = _both(images, "an AFNI matrix")
        flip = lps_flip(3)
        inner = flip @ matrix @ flip @ cardinal_from_world(fixed)
        return affine_from(np.linalg.inv(cardinal_from_world(moving)) @ inner, path)

    def write(self, path: Path, transform: Transform, images: ReferenceImages) -> list[Path]:
        if has_suffix(path, *NIFTI_SUFFIXES):
            _write_field(path, transform, images)
            return [path]
        world = require_linear(transform, path, "an AFNI matrix")
        fixed, moving = _both(images, "an AFNI matrix")
        flip = lps_flip(3)
        inner = cardinal_from_world(moving) @ world @ np.linalg.inv(cardinal_from_world(fixed))
        row = " ".join(f"{n:.17g}" for n in (flip @ inner @ flip)[:3].ravel().tolist())
        with atomic_write(path) as part:
            part.write_text(f"{_BANNER}\n{row}\n", encoding="ascii")
        return [path]

    def outputs(self, path: Path) -> list[Path]:
        if has_suffix(path, *_MATRIX_SUFFIXES, *NIFTI_SUFFIXES):
            return [path]
        raise InputError(
            f"cannot write {path} for AFNI: use .aff12.1D for a linear transform, .nii.gz for a "
            "field."
        )


def _both(images: ReferenceImages, what: str) -> tuple[Grid, Grid]:
    fixed, moving = images.require_both(what)
    if fixed.ndim != 3 or moving.ndim != 3:
        raise InputError(f"{what} maps 3D images; give volumes.")
    return fixed, moving


def _read_matrix(path: Path) -> Matrix:
    """The ``(4, 4)`` LPS matrix of a file with one row of 12 numbers, or three of 4."""
    text = matrix_text(path)
    try:
        rows = rows_of(text)
    except ValueError:
        rows = []
    if len(rows) > 1 and all(len(row) == 12 for row in rows):
        raise InputError(
            f"{path} holds {len(rows)} matrices, one for each volume of a series; give a file with "
            "one row."
        )
    numbers = [number for row in rows for number in row]
    if len(numbers) != 12 or any(len(row) not in (4, 12) for row in rows):
        raise InputError(
            f"{path} cannot be read as a transform: an AFNI matrix is a text of 12 numbers; check "
            "that it is complete."
        )
    return np.vstack([np.reshape(numbers, (3, 4)), [0, 0, 0, 1]])


def _read_field(path: Path, images: ReferenceImages) -> Transform:
    """A field followed by a matrix, which is the identity unless an image is oblique."""
    vectors, grid, _ = read_vectors(path)
    fixed, moving = _both(images, "an AFNI field")
    del fixed  # the field has its grid
    cardinal = cardinal_from_world(grid)
    to_world = np.linalg.inv(cardinal_from_world(moving))
    in_world = (vectors * _SIGNS) @ np.linalg.inv(cardinal[:3, :3]).T
    return chain(field_from(in_world, grid, path), affine_from(to_world @ cardinal, path))


def _write_field(path: Path, transform: Transform, images: ReferenceImages) -> None:
    fixed, moving = _both(images, "an AFNI field")
    points = fixed.points_mm().numpy()
    moved = points + vectors_of(field_on(transform, fixed))
    from_moving, from_fixed = cardinal_from_world(moving), cardinal_from_world(fixed)
    inner = moved @ from_moving[:3, :3].T + from_moving[:3, 3]
    inner -= points @ from_fixed[:3, :3].T + from_fixed[:3, 3]
    write_vectors(path, inner * _SIGNS, fixed, intent=0)
