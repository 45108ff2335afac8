"""Warping of an image by a matrix and a displacement field, and the gradient by the matrix."""

from __future__ import annotations

from torch import Tensor

from stn3d.kernels.common.dispatch import implementation
from stn3d.kernels.common.region import Region
from stn3d.kernels.warp.types import Buffers, Warped


def warp(
    image: Tensor,
    matrix: Tensor,
    displacement_vox: Tensor,
    region: Region | None = None,
    out: Buffers | None = None,
) -> Warped:
    """Sample an image at ``matrix (x + displacement(x))``.

    Args:
        image: ``(1, C, *shape)``.
        matrix: ``(d + 1, d + 1)`` homogeneous, image indices from the field's indices.
        displacement_vox: ``(1, d, *out)`` on the output grid.
        region: voxels to compute; values elsewhere are undefined or those of ``out``.
        out: result tensors made by `buffers`, which may be reused.

    Returns:
        Values and coverage. Carries no gradient; see `warp_gradient`.
    """
    return implementation(__name__, image).warp(image, matrix, displacement_vox, region, out)


def warp_gradient(
    image: Tensor,
    matrix: Tensor,
    displacement_vox: Tensor,
    by_moved: Tensor,
    by_coverage: Tensor | None,
    region: Region | None = None,
) -> Tensor:
    """The gradient of a loss with respect to the matrix of `warp`, exact.

    Args:
        image, matrix, displacement_vox: as for `warp`.
        by_moved: ``(1, C, *out)`` gradient with respect to the warped values.
        by_coverage: ``(1, 1, *out)`` gradient with respect to the coverage; None if it is 0.
        region: voxels where any of these gradients is not 0.

    Returns:
        ``(d, d + 1)`` float64.
    """
    return implementation(__name__, image).warp_gradient(
        image, matrix, displacement_vox, by_moved, by_coverage, region
    )
