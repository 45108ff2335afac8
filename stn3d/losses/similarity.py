"""How unlike two images are: lower is better, and every loss takes a mask.

Images are ``(B, C, *shape)`` on one grid; masks are weights ``(B or 1, 1, *shape)`` from 0 to 1,
and voxels of weight 0 count nowhere, not even in the windows of their neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d import kernels
from stn3d.choices import MetricName

_EDGE = 0.08  # of the usual length of a gradient: more is an edge, less may be noise


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
    variances: tuple[float, float] | None = None,
    windows: kernels.Region | None = None,
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
        variances: of the fixed and of the moved image, if they are known; else they are measured
            within the mask. No gradient flows through them.
        windows: the centres of all windows in which the fixed image is not flat, if that is known.

    Returns:
        A scalar; differentiable in both images.
    """
    d = fixed.ndim - 2
    spacing = [spacing_mm] * d if isinstance(spacing_mm, int | float) else list(spacing_mm)
    radii = window_radii(radius_mm, spacing)
    weight = None if mask is None else mask.to(fixed)
    if variances is None:
        variances = variance(fixed, weight), variance(moved, weight)
    noise = [floor * v + torch.finfo(fixed.dtype).tiny ** 0.5 for v in variances]
    return kernels.lncc(fixed, moved, weight, radii, noise[0], noise[1], windows)


def nmi(fixed: Tensor, moved: Tensor, mask: Tensor | None = None, *, bins: int = 32) -> Tensor:
    """Two minus normalised mutual information, ``(H(f) + H(m)) / H(f, m)``: 1 unrelated, least 0.

    Studholme et al. 1999, doi:10.1016/S0031-3203(98)00091-0, eq. 9; the histogram is that of
    `stn3d.kernels.joint_histogram`, whose soft bins keep the loss above 0 even for equal images.

    Args:
        fixed: ``(B, C, *shape)``, intensities from 0 to 1; others count as the nearest of these.
        moved: the same shape.
        mask: weights of voxels, ``(B or 1, 1, *shape)``.
        bins: for either image, at least 5.

    Returns:
        A scalar, the mean over batch and channels; differentiable once in moved.

    Raises:
        InputError: there are fewer than 5 bins.
    """
    weight = None if mask is None else mask.to(moved)
    joint = kernels.joint_histogram(fixed, moved, weight, bins).double()
    share = joint / joint.sum(dim=(-2, -1), keepdim=True).clamp(min=1e-12)
    apart = kernels.entropy(share.sum(-1)) + kernels.entropy(share.sum(-2))
    together = kernels.entropy(share.flatten(-2))
    # Where nothing has weight there is no entropy: that is unrelated.
    ratio = torch.where(together > 0, apart / together.clamp(min=1e-12), 1.0)
    return (2 - ratio).mean().to(moved.dtype)


def gradient(
    fixed: Tensor,
    moved: Tensor,
    mask: Tensor | None = None,
    *,
    spacing_mm: float | Sequence[float] = 1.0,
    edges: tuple[float, float] | None = None,
) -> Tensor:
    """How far the images' gradients are from parallel, where the fixed image has edges: 0 to 1.

    Normalised gradient fields (Haber and Modersitzki 2006, doi:10.1007/11866763_89; Pluim et al.
    2000, doi:10.1109/42.876307): ``1 - sum <f, m>^2 / ((|f|^2 + e^2) (|m|^2 + e^2))`` over
    ``sum |f|^2 / (|f|^2 + e^2)``. It ignores contrast and its sign: only where edges lie counts.

    Args:
        fixed: ``(B, C, *shape)``.
        moved: the same shape.
        mask: weights of voxels, ``(B or 1, 1, *shape)``.
        spacing_mm: of the grid, one for all axes or one for each.
        edges: the strength e of what counts as an edge in the fixed and in the moved image, if it
            is known; else `edge_strength` of each. No gradient flows through it.

    Returns:
        A scalar; differentiable in both images.
    """
    d = fixed.ndim - 2
    spacing = [spacing_mm] * d if isinstance(spacing_mm, int | float) else list(spacing_mm)
    weight = None if mask is None else mask.to(fixed)
    f, m = (slopes(image, weight, spacing) for image in (fixed, moved))
    if edges is None:
        edges = _strength(f, weight), _strength(m, weight)
    low = [e**2 + torch.finfo(fixed.dtype).tiny ** 0.5 for e in edges]
    f2, m2, fm = (f * f).sum(0), (m * m).sum(0), (f * m).sum(0)
    counted = masked_mean(f2 / (f2 + low[0]), weight)
    alike = masked_mean(fm**2 / ((f2 + low[0]) * (m2 + low[1])), weight)
    # A fixed image without edges is unrelated to everything.
    return 1 - alike / counted.clamp(min=1e-12)


def slopes(image: Tensor, weight: Tensor | None, spacing_mm: Sequence[float]) -> Tensor:
    """``(d, B, C, *shape)`` central differences per mm, of neighbours by their weight alone.

    At the grid's faces, and beside voxels of no weight, they are one-sided; 0 along one voxel.

    Args:
        image: ``(B, C, *shape)``.
        weight: ``(B or 1, 1, *shape)``, or None where all counts.
        spacing_mm: along each axis.
    """
    weight = torch.ones_like(image[:1, :1]) if weight is None else weight
    along = []
    for axis, spacing in enumerate(spacing_mm, start=2):
        n = image.shape[axis]
        step = image.diff(dim=axis) / spacing
        after, before = weight.narrow(axis, 1, n - 1), weight.narrow(axis, 0, n - 1)
        total = _sides(after, before, axis)
        along.append(_sides(after * step, before * step, axis) / total.clamp(min=1e-12))
    return torch.stack(along)


def _sides(after: Tensor, before: Tensor, axis: int) -> Tensor:
    """What lies towards the next voxel plus what lies towards the one before, at every voxel."""
    d = after.ndim - 2
    ahead, behind = [0] * 2 * d, [0] * 2 * d
    ahead[2 * (d + 1 - axis) + 1] = behind[2 * (d + 1 - axis)] = 1
    return F.pad(after, ahead) + F.pad(before, behind)


def edge_strength(
    image: Tensor, mask: Tensor | None = None, spacing_mm: Sequence[float] = (1.0, 1.0, 1.0)
) -> float:
    """The usual length of the gradient per mm where there is any: between noise and edges.

    Args:
        image: ``(B, C, *shape)``.
        mask: weights of voxels, ``(B or 1, 1, *shape)``.
        spacing_mm: along each axis.
    """
    d = image.ndim - 2
    return _strength(slopes(image, mask, spacing_mm[:d]), mask)


@torch.no_grad()
def _strength(slopes: Tensor, weight: Tensor | None) -> float:
    """See `edge_strength`; the mean of squares over the mean, which flat voxels do not lower."""
    squared = (slopes * slopes).sum(0)
    mean = masked_mean(squared.sqrt(), weight).clamp(min=1e-12)
    return _EDGE * float(masked_mean(squared, weight) / mean)


def window_radii(radius_mm: float, spacing_mm: Sequence[float]) -> list[int]:
    """Half a window's edge in whole voxels along each axis, at least one."""
    return [max(1, round(radius_mm / s)) for s in spacing_mm]


SIMILARITIES: dict[MetricName, Any] = {
    "mse": mse,
    "ncc": ncc,
    "lncc": lncc,
    "nmi": nmi,
    "gradient": gradient,
}
"""Those of images as they are; ``mind`` compares descriptors, see `stn3d.losses.modality`."""


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of ``(B, C, *shape)`` values weighted by a mask; all count without one."""
    if mask is None:
        return values.mean()
    weight = mask.to(values).expand_as(values)
    return (weight * values).sum() / weight.sum().clamp(min=1e-12)


@torch.no_grad()
def variance(image: Tensor, weight: Tensor | None = None) -> float:
    """The variance of an image within a mask; rounding errors leave that of a constant above 0."""
    centre = masked_mean(image, weight)
    rounding = 1e5 * torch.finfo(image.dtype).eps * centre**2
    return float(masked_mean((image - centre) ** 2, weight) + rounding)
