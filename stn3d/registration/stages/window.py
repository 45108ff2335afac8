"""The part of the fixed image that a level of the deformable stage works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stn3d.grid import Grid
from stn3d.kernels import Region
from stn3d.losses.similarity import ImageMetric
from stn3d.preprocessing.prepared import PreparedImage, bounding_box


@dataclass(frozen=True, eq=False)
class LevelWindow:
    """The part of the fixed image with the windows that contribute, and the field's margin.

    Args:
        fixed: The fixed image, cropped to these windows and the margin.
        centres: Centres of the windows.
        covered: The voxels in the windows; there is no force elsewhere.
    """

    fixed: PreparedImage
    centres: Region
    covered: Region

    @classmethod
    def of(
        cls,
        fixed: PreparedImage,
        metric: ImageMetric,
        radius_vox: float,
        margin_mm: float,
        everywhere: bool,
    ) -> LevelWindow:
        """The part of a fixed image.

        Args:
            fixed: The fixed image, as the metric prepares it.
            metric: The metric.
            radius_vox: Half the edge of the metric's window, in voxels.
            margin_mm: Distance that the field extends around the fixed image.
            everywhere: Whether to keep all windows, because other terms of the objective act where
                the fixed image is flat.
        """
        radii = metric.window_radii(radius_vox, fixed.grid.spacing_mm)
        support = None if everywhere else metric.support(fixed, radii)
        masked = support is None
        if support is None:
            support = torch.ones(fixed.grid.shape, dtype=torch.bool)
        start, stop = bounding_box(support.cpu())
        limits = zip(start, stop, radii, fixed.grid.shape, strict=True)
        if masked or any(a < r or b + r > n for a, b, r, n in limits):
            fixed = fixed.with_mask()  # some windows reach into the margin, which has no weight
        margins = margins_vox(fixed.grid, radii, margin_mm)
        low = [a - m for a, m in zip(start, margins, strict=True)]
        high = [b + m for b, m in zip(stop, margins, strict=True)]
        part = fixed.cropped(low, high, [metric.statistic])
        inner = torch.zeros(part.grid.shape, dtype=torch.bool)
        inside = tuple(slice(m, n - m) for m, n in zip(margins, part.grid.shape, strict=True))
        inner[inside] = support.cpu()[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
        centres = Region.of(inner)
        return cls(part, centres, centres.grown(radii))


def margins_vox(grid: Grid, radii: Sequence[int], margin_mm: float) -> list[int]:
    """Voxels of the field around the centres of the windows, along each axis.

    Args:
        grid: Grid of the level.
        radii: Half the edge of a window in voxels, along each axis.
        margin_mm: Distance that the field extends around the fixed image.
    """
    margins = grid.margins_vox(margin_mm)
    return [radius + margin for radius, margin in zip(radii, margins, strict=True)]


def boundary_weights(grid: Grid, margin_mm: float) -> list[Tensor]:
    """Weights of the field's steps along each axis: 0 at the outermost voxels, rising to 1 at the
    inner end of the margin.

    Args:
        grid: Grid of the field.
        margin_mm: Width of the margin.
    """
    weights = []
    for n, spacing_mm in zip(grid.shape, grid.spacing_mm, strict=True):
        i = torch.arange(n)
        inner = torch.minimum(i, n - 1 - i) / (margin_mm / spacing_mm)
        weights.append(inner.clamp(max=1) if n > 1 else torch.ones(1))
    return weights
