"""Similarity of two images, for reports."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn3d.grid import Grid
from stn3d.kernels import Region
from stn3d.losses.masked import variance
from stn3d.losses.similarity.lncc import lncc
from stn3d.metrics.arrays import Array, as_array, as_image, as_mask


@torch.no_grad()
def image_metrics(
    fixed: Array, moved: Array, grid: Grid, mask: Array | None = None, radius_mm: float = 2.0
) -> dict[str, float]:
    """Correlation, local correlation and RMS difference of two images in a mask.

    Args:
        fixed: the fixed image.
        moved: the moving image on the fixed grid.
        grid: the fixed grid.
        mask: weights of voxels from 0 to 1. Default: 1 everywhere.
        radius_mm: half the edge of the window of the local correlation, in mm.

    Returns:
        ``correlation``, Pearson's correlation, from -1 to 1; ``local_correlation``, the mean
        squared correlation in a window around each voxel, from 0 to 1, one minus the loss
        `stn3d.losses.lncc` (Avants et al. 2008, doi:10.1016/j.media.2007.06.004);
        ``rms_difference``, the root mean square of the difference, in intensity units.

    Raises:
        InputError: an array does not fit the grid.
    """
    a, b, counted = as_image(fixed, grid), as_image(moved, grid), as_mask(mask, grid)
    weight = None if mask is None or as_array(mask).dtype == bool else as_image(mask, grid)
    means, covariance = _moments(a, b, weight, counted)
    variances = _variance(a, weight, counted), _variance(b, weight, counted)
    local = lncc(
        a,
        b,
        None if mask is None else as_image(mask, grid),
        radius_mm=radius_mm,
        spacing_mm=grid.spacing_mm,
        variances=variances,
        windows=Region.of(torch.from_numpy(counted)),
    )
    (aa, ab), (_, bb) = covariance
    return {
        "correlation": ab / math.sqrt(aa * bb) if aa * bb > 0 else 0.0,
        "local_correlation": 1 - float(local),
        "rms_difference": math.sqrt(max(aa - 2 * ab + bb, 0.0) + (means[0] - means[1]) ** 2),
    }


def _moments(
    a: Tensor, b: Tensor, weight: Tensor | None, counted: NDArray[np.bool_]
) -> tuple[list[float], list[list[float]]]:
    """Means and covariance matrix in float64, summed plane by plane to save memory."""
    first = np.unravel_index(counted.argmax(), counted.shape)
    images = [image[0, 0].numpy() for image in (a, b)]
    # Values relative to one voxel, so that constant images have a variance of exactly 0.
    origin = np.array([0.0, *[float(image[first]) for image in images]])
    total = np.zeros((3, 3))
    for plane, here in enumerate(counted):
        columns = np.ones((3, np.count_nonzero(here)))
        for column, image, zero in zip(columns[1:], images, origin[1:], strict=True):
            np.subtract(image[plane][here], zero, out=column, dtype=np.float64)
        weights = 1.0 if weight is None else weight[0, 0, plane].numpy()[here]
        total += (weights * columns) @ columns.T
    total /= max(total[0, 0], 1e-12)
    shift = total[0, 1:]
    return (shift + origin[1:]).tolist(), (total[1:, 1:] - np.outer(shift, shift)).tolist()


def _variance(image: Tensor, weight: Tensor | None, counted: NDArray[np.bool_]) -> float:
    """Variance of the voxels whose weight is not 0; the others are skipped to save time."""

    def selected(values: Tensor) -> Tensor:
        return torch.from_numpy(values[0, 0].numpy()[counted])[None, None]

    return variance(selected(image), None if weight is None else selected(weight))
