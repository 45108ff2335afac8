"""Conversion between LPS and RAS, and between 2D images and slices in 3D space.

ITK's world space is LPS+ millimetres, that of stn3d is RAS+: the first two coordinates change sign,
in 2D and in 3D. Matrices from index to world are (4, 4) in this module, as in NIfTI headers, also
for 2D images.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stn3d.errors import InputError
from stn3d.grid import Grid

Matrix = NDArray[np.float64]


def lps_flip(ndim: int) -> Matrix:
    """``(d + 1, d + 1)`` matrix that converts LPS to RAS and RAS to LPS."""
    return np.diag([-1.0, -1.0, *[1.0] * (ndim - 1)])


def plane_in_space(matrix: Any) -> Matrix:
    """``(4, 4)`` matrix of a 2D image with a ``(3, 3)`` matrix: in the plane z = 0, 1 mm thick."""
    matrix = np.asarray(matrix, dtype=np.float64)
    space = np.eye(4)
    space[:2, :2], space[:2, 3] = matrix[:2, :2], matrix[:2, 2]
    return space


def plane_from_space(affine: Matrix) -> Matrix:
    """``(3, 3)`` matrix of a slice, as ITK reads a 2D NIfTI file.

    World x and y are kept, z is dropped. An axis that is inclined to the x-y plane keeps its
    spacing and its direction within that plane.

    Raises:
        InputError: the slice is coronal or sagittal, so world x and y do not span it.
    """
    columns = affine[:2, :2]
    inside = np.linalg.norm(columns, axis=0)
    spacing = np.linalg.norm(affine[:3, :2], axis=0)
    if not (np.isfinite(affine).all() and (spacing > 0).all()):
        raise InputError("the image's affine is singular or not finite; correct its header.")
    if (inside < 0.1 * spacing).any() or abs(np.linalg.det(columns / inside)) < 0.1:
        raise InputError(
            "the slice is coronal or sagittal, but a 2D image lies in the world's x-y plane; "
            "rewrite its header with the pixel spacing on the affine's diagonal."
        )
    plane = np.eye(3)
    plane[:2, :2], plane[:2, 2] = columns / inside * spacing, affine[:2, 3]
    return plane


def grid_of(affine: Matrix, shape: tuple[int, ...], ndim: int | None = None) -> Grid:
    """Grid of an image file.

    Args:
        affine: ``(4, 4)`` matrix from index to world RAS+ millimetres.
        shape: lengths of the 1 to 3 spatial axes, as stored.
        ndim: 2 or 3; default: the number of axes.

    Raises:
        InputError: the matrix is singular, or the shape does not fit the number of dimensions.
    """
    sizes = (*shape, 1, 1)[:3]
    ndim = ndim or (3 if len(shape) > 2 else 2)
    if ndim == 3:
        return Grid(sizes, torch.from_numpy(np.asarray(affine, dtype=np.float64)))
    if sizes[2] != 1:
        raise InputError(f"the image is a volume of {sizes} voxels; a 2D image is needed.")
    return Grid(sizes[:2], torch.from_numpy(plane_from_space(affine)))


def itk_geometry(matrix: Matrix) -> tuple[list[float], list[float], list[float]]:
    """ITK's origin, spacing and direction (row by row), LPS, of a ``(d + 1, d + 1)`` RAS matrix."""
    d = matrix.shape[0] - 1
    lps = lps_flip(d) @ matrix
    spacing = np.linalg.norm(lps[:d, :d], axis=0)
    direction = lps[:d, :d] / spacing
    return lps[:d, d].tolist(), spacing.tolist(), direction.ravel().tolist()


def matrix_from_itk(origin: Any, spacing: Any, direction: Any) -> Matrix:
    """``(d + 1, d + 1)`` RAS matrix from index to world for ITK's origin, spacing and direction."""
    d = len(origin)
    matrix = np.eye(d + 1)
    matrix[:d, :d] = np.reshape(direction, (d, d)) * np.asarray(spacing)
    matrix[:d, d] = origin
    return lps_flip(d) @ matrix
