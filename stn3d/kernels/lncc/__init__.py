"""Local normalised cross-correlation (LNCC) of two images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from stn3d.kernels.common.dispatch import implementation
from stn3d.kernels.common.region import Region


def lncc(
    fixed: Tensor,
    moved: Tensor,
    weight: Tensor | None,
    radii: Sequence[int],
    noise_fixed: float,
    noise_moved: float,
    windows: Region | None = None,
) -> Tensor:
    """One minus the mean squared correlation in a window around each voxel, from 0 to 1.

    Windows are weighted by their texture, ``A / (A + 10 noise_fixed)`` for the fixed image's
    variance A.

    Args:
        fixed: ``(B, C, *shape)``.
        moved: ``(B, C, *shape)``.
        weight: weight of each voxel, ``(B or 1, 1, *shape)``; None weights all voxels equally.
        radii: half the window's width along each axis, in voxels.
        noise_fixed: noise variance of the fixed image.
        noise_moved: noise variance of the moved image.
        windows: centres of all windows with texture, if known; others may be skipped.

    Returns:
        A scalar; differentiable once in fixed, moved and weight.
    """
    options = tuple(radii), float(noise_fixed), float(noise_moved), windows
    return implementation(__name__, fixed, moved, weight).lncc(fixed, moved, weight, *options)
