"""How unlike two images are: lower is better, and every loss takes a mask.

Images are ``(B, C, *shape)`` on one grid; masks are weights ``(B or 1, 1, *shape)`` from 0 to 1,
and voxels of weight 0 count nowhere, not even in the windows of their neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from stn3d.kernels import box_sum

Similarity = Literal["mse", "ncc", "lncc"]


def mse(fixed: Tensor, moved: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared difference; a scalar in the images' squared units."""
    return masked_mean((fixed - moved) ** 2, mask)


def ncc(fixed: Tensor, moved: Tensor, mask: Tensor | None = None) -> Tensor:
    """One minus Pearson's correlation over the mask: 0 the same, 1 unrelated, 2 inverted."""
    axes = tuple(range(2, fixed.ndim))
    weight = torch.ones_like(fixed[:, :1]) if mask is None else mask.to(fixed)
    total = weight.sum(axes, keepdim=True).clamp(min=1e-12)

    def centred(image: Tensor) -> Tensor:
        return image - (weight * image).sum(axes, keepdim=True) / total

    a, b = centred(fixed), centred(moved)
    norms = (weight * a * a).sum(axes) * (weight * b * b).sum(axes)
    # The square root's slope is infinite at zero: a constant image is unrelated to everything.
    safe = torch.where(norms > 0, norms, torch.ones_like(norms)).sqrt()
    return 1 - ((weight * a * b).sum(axes) / safe).mean()


def lncc(
    fixed: Tensor,
    moved: Tensor,
    mask: Tensor | None = None,
    *,
    radius_mm: float = 2.0,
    spacing_mm: float | Sequence[float] = 1.0,
    floor: float = 1e-4,
) -> Tensor:
    """One minus the mean squared correlation in a window around each voxel, from 0 to 1.

    Avants et al. 2008, doi:10.1016/j.media.2007.06.004, eq. 6: it ignores smooth changes of
    brightness and contrast, their sign too. Windows in which the fixed image is flat do not count:
    nothing can match there, and if they counted, pushing them out of sight would pay.

    Args:
        fixed: ``(B, C, *shape)``.
        moved: the same shape.
        mask: weights of voxels, ``(B or 1, 1, *shape)``.
        radius_mm: half the window's edge; with the spacing this gives whole voxels, at least one,
            so that a window has the same physical size on every grid fine enough for it.
        spacing_mm: of the grid, one for all axes or one for each.
        floor: variance, as a share of each image's own, that counts as noise; a window of the
            fixed image counts by half where its variance is ten times that.

    Returns:
        A scalar; differentiable in both images.
    """
    d = fixed.ndim - 2
    spacing = [spacing_mm] * d if isinstance(spacing_mm, int | float) else list(spacing_mm)
    radii = tuple(max(1, round(radius_mm / s)) for s in spacing)
    if mask is None:
        a, b, weight = fixed, moved, None
        count = _window_sizes(fixed, radii)
    else:
        weight = mask.to(fixed)
        a, b = fixed * weight, moved * weight
        count = box_sum(weight, radii).clamp(min=1e-6)
    mean_a, mean_b = box_sum(a, radii) / count, box_sum(b, radii) / count
    var_a = box_sum(a * fixed, radii) / count - mean_a**2
    var_b = box_sum(b * moved, radii) / count - mean_b**2
    cross = box_sum(a * moved, radii) / count - mean_a * mean_b
    noise_a, noise_b = _noise(fixed, weight, floor), _noise(moved, weight, floor)
    var_a, var_b = var_a.clamp(min=0), var_b.clamp(min=0)
    squared = cross**2 / ((var_a + noise_a) * (var_b + noise_b))
    texture = var_a / (var_a + 10 * noise_a)
    return 1 - masked_mean(squared, texture if weight is None else weight * texture)


SIMILARITIES: dict[Similarity, Any] = {"mse": mse, "ncc": ncc, "lncc": lncc}


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of ``(B, C, *shape)`` values weighted by a mask; all count without one."""
    if mask is None:
        return values.mean()
    weight = mask.to(values).expand_as(values)
    return (weight * values).sum() / weight.sum().clamp(min=1e-12)


def _noise(image: Tensor, weight: Tensor | None, floor: float) -> Tensor:
    """The variance that counts as noise, rounding included: an image may be constant."""
    centre, kind = masked_mean(image, weight), torch.finfo(image.dtype)
    rounding: Tensor = 10 * kind.eps * centre**2 + kind.tiny**0.5
    return floor * masked_mean((image - centre) ** 2, weight) + rounding


def _window_sizes(image: Tensor, radii: Sequence[int]) -> Tensor:
    """How many voxels each window holds, ``(*shape)``; smaller at the faces."""
    sizes = torch.ones((), dtype=image.dtype, device=image.device)
    for n, radius in zip(image.shape[2:], radii, strict=True):
        i = torch.arange(n, device=image.device)
        along = (i + radius).clamp(max=n - 1) - (i - radius).clamp(min=0) + 1
        sizes = sizes[..., None] * along.to(image)
    return sizes
