"""Transforms as the parts that formats can store: matrices and displacement fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stn3d.errors import InputError
from stn3d.grid import Grid, apply_matrix
from stn3d.io.geometry import Matrix
from stn3d.io.transforms.base import ReferenceImages
from stn3d.transforms import (
    Affine,
    DisplacementField,
    Linear,
    Transform,
    VelocityField,
    chain,
    sampled,
    split_linear,
)

_MAX_CONDITION = 1e12


# -- reading --------------------------------------------------------------------------------------


def affine_from(matrix: Matrix, name: str | Path) -> Affine:
    """Affine transform of a ``(d + 1, d + 1)`` matrix in RAS+ millimetres, read from a file.

    Raises:
        InputError: the matrix is singular or not finite.
    """
    if not np.isfinite(matrix).all() or not np.linalg.cond(matrix[:-1, :-1]) < _MAX_CONDITION:
        raise InputError(f"{name} holds a singular matrix; recompute the transform.")
    if not np.allclose(matrix[-1], np.eye(len(matrix))[-1], atol=1e-6):
        raise InputError(f"{name} holds a matrix whose last row is not 0 ... 0 1.")
    return Affine.from_matrix(torch.from_numpy(np.array(matrix, dtype=np.float64)))


def inverted_matrix(matrix: Matrix, name: str | Path) -> Matrix:
    """The inverse of a matrix that was read from a file.

    Raises:
        InputError: the matrix is singular or not finite.
    """
    return np.linalg.inv(affine_from(matrix, name).matrix.numpy())


def field_from(vectors_mm: NDArray[Any], grid: Grid, name: str | Path) -> DisplacementField:
    """Displacement field of vectors ``(*shape, d)`` in RAS+ millimetres, read from a file.

    Raises:
        InputError: a vector is not finite.
    """
    field = torch.from_numpy(np.ascontiguousarray(np.moveaxis(vectors_mm, -1, 0), np.float32))
    if not bool(torch.isfinite(field).all()):
        raise InputError(f"{name} holds displacements of NaN or Inf; recompute the transform.")
    return DisplacementField(field[None], grid)


# -- writing --------------------------------------------------------------------------------------


def linear_matrix(transform: Linear) -> Matrix:
    """``(d + 1, d + 1)`` matrix of a linear transform, float64.

    Raises:
        ValueError: the transform is a batch of several.
    """
    matrix = transform.matrix.detach().cpu().double().reshape(-1, *transform.matrix.shape[-2:])
    if len(matrix) != 1:
        raise ValueError(f"a file holds one transform; this is a batch of {len(matrix)}.")
    return matrix[0].numpy()


def require_linear(transform: Transform, path: Path, what: str) -> Matrix:
    """Matrix of a transform for a format that stores no fields.

    Args:
        transform: the transform.
        path: output file.
        what: name of the format: ``an LTA file``.

    Raises:
        InputError: the transform is not linear.
    """
    if isinstance(transform, Linear):
        return linear_matrix(transform)
    raise InputError(
        f"cannot write {path}: {what} stores linear transforms only, and this one is deformable; "
        "use a format with displacement fields, such as .h5."
    )


def vectors_of(field: DisplacementField) -> NDArray[np.float32]:
    """Vectors ``(*shape, d)`` of a field in RAS+ millimetres.

    Raises:
        InputError: a vector is not finite.
        ValueError: the field is a batch of several.
    """
    if len(field.displacement_mm) != 1:
        raise ValueError(
            f"a file holds one transform; this is a batch of {len(field.displacement_mm)}."
        )
    vectors = field.displacement_mm[0].detach().cpu().float().movedim(0, -1)
    if not bool(torch.isfinite(vectors).all()):
        raise InputError(
            "the transform has no value at some voxels of its grid (it folds or ends there); "
            "give another --like."
        )
    return vectors.numpy()


def without_velocity(transform: Transform) -> Transform:
    """The transform with displacement fields in place of velocity fields."""
    parts = [
        part.displacement if isinstance(part, VelocityField) else part for part in transform.parts
    ]
    return chain(*parts)


def as_field(transform: Transform, images: ReferenceImages, what: str) -> DisplacementField:
    """A transform as one displacement field, on the grid on which it is exact, if there is one.

    A field that a linear transform follows is exact on its own grid, which must cover the fixed
    image, if that is known. Anything else is sampled on the grid of the fixed image.

    Args:
        transform: fixed points to moving points.
        images: the fixed image is needed if the transform is no field.
        what: name of the result in messages: ``a displacement field``.

    Raises:
        InputError: the fixed image is needed and not known.
    """
    transform = without_velocity(transform)
    if isinstance(transform, DisplacementField):
        return transform
    before, _ = split_linear(transform)
    fixed = images.fixed_grid
    if isinstance(before, DisplacementField) and (fixed is None or _covers(before.grid, fixed)):
        return sampled(transform, before.grid)
    return field_on(transform, images.require_fixed(what))


def _covers(grid: Grid, other: Grid) -> bool:
    """Whether a grid's physical domain holds all voxel centres of another one."""
    if grid.ndim != other.ndim:
        return False
    ends = [torch.tensor([0.0, n - 1.0]).double() for n in other.shape]
    corners = torch.cartesian_prod(*ends)
    index = apply_matrix(grid.index_from_world @ other.world_from_index, corners)
    top = torch.tensor(grid.shape) - 0.5
    return bool(((index > -0.5) & (index < top)).all())


def field_on(transform: Transform, grid: Grid) -> DisplacementField:
    """A transform as a displacement field on a grid.

    Raises:
        InputError: the grid has another dimension.
    """
    transform = without_velocity(transform)
    if grid.ndim != transform.ndim:
        raise InputError(
            f"the fixed image is {grid.ndim}D and the transform {transform.ndim}D; give images of "
            "its dimension."
        )
    if isinstance(transform, DisplacementField) and transform.grid.same_as(grid, 1e-5):
        return transform
    return sampled(transform, grid)


def field_and_matrix(
    transform: Transform, images: ReferenceImages, what: str
) -> tuple[DisplacementField | None, Matrix]:
    """A transform as a field (None if it is linear) that a matrix follows.

    Raises:
        InputError: the fixed image is needed and not known.
    """
    before, linear = split_linear(without_velocity(transform))
    matrix = np.eye(transform.ndim + 1) if linear is None else linear_matrix(linear)
    return (None if before is None else as_field(before, images, what)), matrix
