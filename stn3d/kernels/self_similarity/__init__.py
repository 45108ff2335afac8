"""Modality-independent neighbourhood descriptors (MIND-SSC)."""

from __future__ import annotations

from torch import Tensor

from stn3d.kernels.common.dispatch import implementation, needs_gradient


def self_similarity(image: Tensor, noise: Tensor, radius: int, dilation: int) -> Tensor:
    """Exponents of MIND-SSC: ``(min D - D) / max(mean D, noise)``, at most 0.

    D are the patch distances (sums of squared differences) of all pairs of a voxel's neighbours
    that are not opposite each other (Heinrich et al. 2013, doi:10.1007/978-3-642-40811-3_24); the
    image is extended by its outermost voxels.

    Args:
        image: ``(B, C, *shape)``.
        noise: ``(B, C)``, lower bound of the mean D, above 0.
        radius: half the patch's width, in voxels.
        dilation: distance of the neighbours from the voxel, in voxels.

    Returns:
        ``(B, C, pairs, *shape)``, 4 pairs in 2D and 12 in 3D; differentiable in the image.
    """
    plain = not needs_gradient(image)
    return implementation(__name__, image, when=plain).self_similarity(
        image, noise, radius, dilation
    )
