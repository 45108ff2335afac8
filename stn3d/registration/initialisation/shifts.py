"""Translations under which two images agree in the part that both show, however small it is.

The correlation over the shared part alone, for all translations at once by Fourier transforms
(Padfield 2012, doi:10.1109/TIP.2011.2181402). A loss over the whole fixed image prefers what covers
all of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stn3d.grid import Grid, apply_matrix, homogeneous
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.transforms import Affine

_LEAST_SHARED = 0.2  # of the voxels of the image that has fewer of them
_APART_VOX = 3.0  # between two translations
_FLAT = 1e-6  # variance below which nothing is seen
Masked = tuple[Tensor, Tensor]
"""Values and weights, each ``(*shape)``."""


def best_shifts(pair: Pair, count: int) -> list[Affine]:
    """The translations of highest correlation, fixed points to moving points, best first.

    Args:
        pair: The prepared images on a coarse level, in the orientation of their headers.
        count: Number of translations.
    """
    grid = pair.fixed.grid
    moving = pair.moving.warped(Affine.identity(grid.ndim), _around(grid, pair.moving.grid))
    correlation, shifts_vox = masked_correlation(_masked(pair.fixed), _masked(moving))
    axes = grid.world_from_index[:-1, :-1]
    apart_mm = moving.grid.world_from_index[:-1, -1] - grid.world_from_index[:-1, -1]
    chosen: list[Tensor] = []
    for place in correlation.argsort(descending=True)[: 1000 * count].tolist():
        shift = shifts_vox[place]
        if all(float((shift - one).norm()) > _APART_VOX for one in chosen):
            chosen.append(shift)
        if len(chosen) == count:
            break
    eye = torch.eye(grid.ndim, dtype=torch.float64)
    return [
        Affine.from_matrix(homogeneous(eye, axes @ shift + apart_mm), grid.centre_mm)
        for shift in chosen
    ]


def masked_correlation(fixed: Masked, moving: Masked) -> tuple[Tensor, Tensor]:
    """Pearson's correlation of ``fixed[x]`` and ``moving[x + shift]`` over the voxels x at which
    both have weight.

    Args:
        fixed: Values and weights.
        moving: Values and weights on a grid of the same axes and spacing, of any shape.

    Returns:
        ``(N,)`` correlations, -1 where the images share too little, and ``(N, d)`` shifts in
        voxels, float64.
    """
    sizes = [a + b - 1 for a, b in zip(fixed[0].shape, moving[0].shape, strict=True)]
    a, b = (_moments(*one, sizes) for one in (fixed, moving))

    def together(i: int, j: int) -> Tensor:
        return torch.fft.irfftn(a[i].conj() * b[j], s=sizes)

    shared = together(0, 0)
    count = shared.clamp(min=1e-3)
    sums = together(1, 0), together(0, 1)
    covariance = together(1, 1) - sums[0] * sums[1] / count
    variances = together(2, 0) - sums[0] ** 2 / count, together(0, 2) - sums[1] ** 2 / count
    seen = (variances[0] > _FLAT * count) & (variances[1] > _FLAT * count)
    least = _LEAST_SHARED * min(float(fixed[1].sum()), float(moving[1].sum())) - _FLAT
    product = (variances[0] * variances[1]).clamp(min=1e-30).sqrt()
    correlation = torch.where(seen & (shared >= least), covariance / product, -1.0)
    return correlation.flatten(), _shifts(sizes, moving[0].shape)


def _moments(values: Tensor, weights: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Spectra of the weights and of the weighted values and squares."""
    values, weights = values.double(), weights.double()
    return [torch.fft.rfftn(weights * values**power, s=list(sizes)) for power in range(3)]


def _shifts(sizes: Sequence[int], shape: Sequence[int]) -> Tensor:
    """The shift at each place of a cyclic correlation, negative beyond the moving shape."""
    axes = []
    for size, n in zip(sizes, shape, strict=True):
        index = torch.arange(size, dtype=torch.float64)
        axes.append(torch.where(index < n, index, index - size))
    return torch.cartesian_prod(*axes)


def _around(grid: Grid, other: Grid) -> Grid:
    """A grid with the axes of one that contains another."""
    ends = [[0.0, n - 1.0] for n in other.shape]
    corners = torch.cartesian_prod(*[torch.tensor(end, dtype=torch.float64) for end in ends])
    return grid.covering(apply_matrix(other.world_from_index, corners))


def _masked(image: PreparedImage) -> Masked:
    values = image.image[0].mean(0)
    return values, torch.ones_like(values) if image.mask is None else image.mask[0, 0]
