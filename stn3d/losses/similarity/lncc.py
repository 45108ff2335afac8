"""Local normalised cross-correlation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from stn3d import kernels
from stn3d.arguments import tensor_arguments
from stn3d.losses.masked import variance
from stn3d.losses.similarity.base import ImageMetric, LossContext
from stn3d.preprocessing.prepared import PreparedImage

_FLAT = 1e-5  # fraction of the image's variance; the variance of a flat window is lower


@tensor_arguments()
def lncc(
    fixed: Tensor,
    moved: Tensor,
    mask: Tensor | None = None,
    *,
    radius_mm: float = 2.0,
    spacing_mm: float | Sequence[float] = 1.0,
    floor: float = 1e-4,
    variances: tuple[float, float] | None = None,
    windows: kernels.Region | None = None,
) -> Tensor:
    """One minus the mean squared correlation in a window around each voxel, from 0 to 1.

    Avants et al. 2008, doi:10.1016/j.media.2007.06.004, eq. 6. The loss ignores smooth changes of
    brightness and contrast, including the sign of the contrast. Windows in which the fixed image is
    flat are omitted: nothing can match there, and including them would reward a transform that
    moves them out of the field of view.

    Args:
        fixed: ``(B, C, *shape)``.
        moved: The same shape.
        mask: Weights of voxels, ``(B or 1, 1, *shape)``.
        radius_mm: Half the edge of the window; with the spacing this gives whole voxels, at least
            one, so that a window has the same physical size on every grid fine enough for it.
        spacing_mm: Voxel spacing, one value for all axes or one per axis.
        floor: Noise variance, as a fraction of each image's own variance. A window of the fixed
            image has half its weight where its variance is ten times the noise variance.
        variances: Variances of the fixed and of the moved image; measured within the mask by
            default. No gradient flows through them.
        windows: Centres of all windows in which the fixed image is not flat; all by default.

    Returns:
        A scalar, differentiable in both images.
    """
    d = fixed.ndim - 2
    spacing = [spacing_mm] * d if isinstance(spacing_mm, int | float) else list(spacing_mm)
    radii = window_radii(radius_mm, spacing)
    weight = None if mask is None else mask.to(fixed)
    if variances is None:
        variances = variance(fixed, weight), variance(moved, weight)
    noise = [floor * v + torch.finfo(fixed.dtype).tiny ** 0.5 for v in variances]
    return kernels.lncc(fixed, moved, weight, radii, noise[0], noise[1], windows)


def window_radii(radius_mm: float, spacing_mm: Sequence[float]) -> list[int]:
    """Half the edge of a window in whole voxels along each axis, at least 1."""
    return [max(1, round(radius_mm / s)) for s in spacing_mm]


def textured(image: PreparedImage, radii: Sequence[int]) -> Tensor:
    """``grid.shape`` bool: centres of the windows in which the image is not flat.

    Args:
        image: The fixed image.
        radii: Half the edge of a window, in voxels along each axis.
    """
    radii = [min(r, n - 1) for r, n in zip(radii, image.grid.shape, strict=True)]
    count = kernels.box_sum(torch.ones_like(image.image[:, :1]), radii)
    mean = kernels.box_sum(image.image, radii) / count
    variances = kernels.box_sum(image.image**2, radii) / count - mean**2
    return (variances > _FLAT * image.statistic(LocalCorrelation.statistic))[0].any(dim=0)


@final
class LocalCorrelation(ImageMetric):
    """Squared correlation in small windows."""

    name = "lncc"
    contrast = "same"
    loss_arrays = 2
    convincing_loss = 0.15

    def loss(
        self, fixed: Tensor, moved: Tensor, weight: Tensor | None, context: LossContext
    ) -> Tensor:
        return lncc(
            fixed,
            moved,
            weight,
            radius_mm=context.radius_vox * min(context.spacing_mm),
            spacing_mm=context.spacing_mm,
            variances=context.statistics,
            windows=context.centres,
        )

    @staticmethod
    def statistic(image: Tensor, mask: Tensor | None, spacing_mm: Sequence[float]) -> float:
        """Variance within the mask."""
        return variance(image, mask)

    def window_radii(self, radius_vox: float, spacing_mm: Sequence[float]) -> list[int]:
        return window_radii(radius_vox * min(spacing_mm), spacing_mm)

    def support(self, fixed: PreparedImage, radii: Sequence[int]) -> Tensor:
        return fixed.cached(("textured", *radii), lambda: textured(fixed, radii))
