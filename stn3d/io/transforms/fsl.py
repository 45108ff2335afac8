"""FSL's transforms: matrices of FLIRT and displacement fields of FNIRT.

Convention: FSL's coordinates of an image are its voxel indices times the voxel sizes; the first
axis is reversed if the affine's determinant is positive. A matrix maps moving points to fixed
points in these coordinates. A field maps fixed points to moving points: for each voxel of the fixed
image it holds the moving point (absolute) or its displacement (relative).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io.geometry import Matrix
from stn3d.io.transforms.base import ReferenceImages, TransformFileFormat, has_suffix
from stn3d.io.transforms.fields import (
    affine_from,
    field_from,
    field_on,
    inverted_matrix,
    require_linear,
    vectors_of,
)
from stn3d.io.transforms.matrices import is_matrix, read_matrix, write_matrix
from stn3d.io.transforms.vectors import (
    FSL_COEFFICIENTS,
    FSL_DISPLACEMENTS,
    NIFTI_SUFFIXES,
    nifti_origin,
    read_vectors,
    vector_header,
    write_vectors,
)
from stn3d.transforms import Transform


def fsl_from_index(grid: Grid) -> Matrix:
    """``(4, 4)`` matrix from indices to FSL's coordinates of an image, in mm."""
    matrix = np.diag([*grid.spacing_mm, 1.0])
    if np.linalg.det(grid.world_from_index.numpy()) > 0:
        matrix[0] = [-grid.spacing_mm[0], 0, 0, grid.spacing_mm[0] * (grid.shape[0] - 1)]
    return matrix


def fsl_from_world(grid: Grid) -> Matrix:
    """``(4, 4)`` matrix from RAS+ millimetres to FSL's coordinates of an image."""
    found: Matrix = fsl_from_index(grid) @ grid.index_from_world.numpy()
    return found


@final
class Fsl(TransformFileFormat):
    """Matrices of FLIRT and fields of FNIRT."""

    name = "fsl"

    def recognises(self, path: Path) -> bool:
        if has_suffix(path, *NIFTI_SUFFIXES):
            return nifti_origin(path) in ("fsl", "auto")
        return is_matrix(path, (4,))

    def read(self, path: Path, images: ReferenceImages) -> Transform:
        if has_suffix(path, *NIFTI_SUFFIXES):
            return _read_field(path, images)
        matrix = read_matrix(path, (4,), "an FSL matrix")
        fixed, moving = _both(images, "an FSL matrix")
        inverse = inverted_matrix(matrix, path)
        world = np.linalg.inv(fsl_from_world(moving)) @ inverse @ fsl_from_world(fixed)
        return affine_from(world, path)

    def write(self, path: Path, transform: Transform, images: ReferenceImages) -> list[Path]:
        if has_suffix(path, *NIFTI_SUFFIXES):
            _write_field(path, transform, images)
            return [path]
        world = require_linear(transform, path, "an FSL matrix")
        fixed, moving = _both(images, "an FSL matrix")
        inverse = fsl_from_world(moving) @ world @ np.linalg.inv(fsl_from_world(fixed))
        write_matrix(path, np.linalg.inv(inverse))
        return [path]

    def outputs(self, path: Path) -> list[Path]:
        if has_suffix(path, ".mat", *NIFTI_SUFFIXES):
            return [path]
        raise InputError(
            f"cannot write {path} for FSL: use .mat for a linear transform, .nii.gz for a field."
        )


def _both(images: ReferenceImages, what: str) -> tuple[Grid, Grid]:
    """Grids of both images, 3D.

    Raises:
        InputError: one is not known, or 2D.
    """
    fixed, moving = images.require_both(what)
    if fixed.ndim != 3 or moving.ndim != 3:
        raise InputError(f"{what} maps 3D images; give volumes.")
    return fixed, moving


def _read_field(path: Path, images: ReferenceImages) -> Transform:
    header = vector_header(path)
    if header is not None and header.intent in FSL_COEFFICIENTS:
        raise InputError(
            f"{path} holds coefficients of FNIRT or TOPUP, not displacements; convert it with FSL: "
            "fnirtfileutils --in=COEFFICIENTS --ref=FIXED --out=FIELD --withaff."
        )
    fixed, moving = _both(images, "an FSL field")
    vectors, grid, _ = read_vectors(path)
    if not grid.same_as(fixed):
        raise InputError(
            f"{path} has {_size(grid)} voxels elsewhere than the fixed image ({_size(fixed)}); "
            "give as --like the image that was the reference of FNIRT (--ref)."
        )
    points = _fsl_points(grid)
    absolute = vectors.astype(np.float64) if _is_absolute(vectors, points) else points + vectors
    world_from_fsl = np.linalg.inv(fsl_from_world(moving))
    moved = absolute @ world_from_fsl[:3, :3].T + world_from_fsl[:3, 3]
    return field_from(moved - grid.points_mm().numpy(), grid, path)


def _write_field(path: Path, transform: Transform, images: ReferenceImages) -> None:
    """Write a relative field on the fixed image's grid."""
    fixed, moving = _both(images, "an FSL field")
    moved = fixed.points_mm().numpy() + vectors_of(field_on(transform, fixed))
    from_world = fsl_from_world(moving)
    vectors = moved @ from_world[:3, :3].T + from_world[:3, 3] - _fsl_points(fixed)
    write_vectors(path, vectors, fixed, FSL_DISPLACEMENTS, axes=4)


def _fsl_points(grid: Grid) -> Matrix:
    """``(*shape, 3)`` FSL coordinates of the voxels."""
    matrix = fsl_from_index(grid)
    found: Matrix = grid.points_index().numpy() * matrix.diagonal()[:3] + matrix[:3, 3]
    return found


def _is_absolute(vectors: NDArray[Any], points: Matrix) -> bool:
    """Whether a field holds positions: FSL decides by which reading varies less."""
    spread, relative_spread = (
        float(sum(np.std(field[..., axis]) for axis in range(3)))
        for field in (vectors, vectors - points)
    )
    return spread > relative_spread


def _size(grid: Grid) -> str:
    return " x ".join(str(n) for n in grid.shape)
