"""An image through a matrix and a displacement, and how a loss of it changes."""

from __future__ import annotations

from torch import Tensor

from stn3d.kernels import dispatch, reference
from stn3d.kernels.reference import Buffers, Warped
from stn3d.kernels.region import Region, placed


def warp(
    image: Tensor,
    matrix: Tensor,
    displacement_vox: Tensor,
    region: Region | None = None,
    out: Buffers | None = None,
) -> Warped:
    """Read an image through ``x -> matrix (x + displacement(x))``.

    Args:
        image: ``(1, C, *shape)``.
        matrix: ``(d + 1, d + 1)`` homogeneous, image indices from the field's indices.
        displacement_vox: ``(1, d, *out)`` on the grid where values are wanted.
        region: where they are wanted; elsewhere ``out`` may be left as it is.
        out: where the results go, as `buffers` makes them.

    Returns:
        Values, and how far inside the image they were read. Carries no gradient, see `warp_slope`.
    """
    if dispatch.fused(image):
        from stn3d.kernels import cpu

        return cpu.warp(image, matrix, displacement_vox, region, out)
    return reference.warp(image, matrix, displacement_vox)


def warp_slope(
    image: Tensor,
    matrix: Tensor,
    displacement_vox: Tensor,
    by_moved: Tensor,
    by_coverage: Tensor | None,
    region: Region | None = None,
) -> Tensor:
    """``(d, d + 1)`` float64 derivatives of a loss by the matrix of `warp`.

    Args:
        image, matrix, displacement_vox: see `warp`.
        by_moved: ``(1, C, *out)``, the loss's derivatives by the values that `warp` read.
        by_coverage: ``(1, 1, *out)``, those by how far inside it read them; None where they are 0.
        region: where any derivative is not 0.
    """
    if dispatch.fused(image):
        from stn3d.kernels import cpu

        return cpu.warp_slope(image, matrix, displacement_vox, by_moved, by_coverage, region)
    return reference.warp_slope(image, matrix, displacement_vox, by_moved, by_coverage)


def force(moved: Tensor, by_moved: Tensor, region: Region, out: Tensor) -> Tensor:
    """``-by_moved grad moved``: where a loss falls most steeply, by steps s in ``moved(x + s(x))``.

    For a moved image that is ``moving(T(x))`` that is ``moving(T(x + s(x)))``: the step comes
    before what was found so far. Differences are central. Carries no gradient.

    Args:
        moved: ``(1, C, *shape)``.
        by_moved: the same shape, the loss's derivatives by it.
        region: where the result is wanted, without the grid's outermost voxels; ``moved`` must be
            known one voxel around it.
        out: ``(1, d, *shape)``, where it goes; elsewhere it is left as it is.
    """
    if dispatch.fused(moved, by_moved):
        from stn3d.kernels import cpu

        return cpu.force(moved, by_moved, region, out)
    return placed(reference.force(moved, by_moved), region, out)
