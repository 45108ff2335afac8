"""Normalised gradient fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d.arguments import tensor_arguments
from stn3d.losses.masked import masked_mean
from stn3d.losses.similarity.base import EDGE_STAGE_SETTINGS, ImageMetric, LossContext

_EDGE = 0.08  # of the typical gradient magnitude; a lower one may be noise


@tensor_arguments()
def gradient(
    fixed: Tensor,
    moved: Tensor,
    mask: Tensor | None = None,
    *,
    spacing_mm: float | Sequence[float] = 1.0,
    edges: tuple[float, float] | None = None,
) -> Tensor:
    """One minus the mean squared cosine between the images' gradients at the fixed image's edges.

    Normalised gradient fields (Haber and Modersitzki 2006, doi:10.1007/11866763_89; Pluim et al.
    2000, doi:10.1109/42.876307): ``1 - sum <f, m>^2 / ((|f|^2 + e^2) (|m|^2 + e^2))`` over
    ``sum |f|^2 / (|f|^2 + e^2)``, from 0 to 1. The loss ignores contrast and its sign and depends
    on the position of edges only.

    Args:
        fixed: ``(B, C, *shape)``.
        moved: The same shape.
        mask: Weights of voxels, ``(B or 1, 1, *shape)``.
        spacing_mm: Voxel spacing, one value for all axes or one per axis.
        edges: Edge parameter e of the fixed and of the moved image, per mm; `edge_strength` of each
            by default. No gradient flows through it.

    Returns:
        A scalar, differentiable in both images.
    """
    d = fixed.ndim - 2
    spacing = [spacing_mm] * d if isinstance(spacing_mm, int | float) else list(spacing_mm)
    weight = None if mask is None else mask.to(fixed)
    f, m = (image_gradient(image, weight, spacing) for image in (fixed, moved))
    if edges is None:
        edges = _strength(f, weight), _strength(m, weight)
    low = [e**2 + torch.finfo(fixed.dtype).tiny ** 0.5 for e in edges]
    f2, m2, fm = (f * f).sum(0), (m * m).sum(0), (f * m).sum(0)
    possible = masked_mean(f2 / (f2 + low[0]), weight)
    alike = masked_mean(fm**2 / ((f2 + low[0]) * (m2 + low[1])), weight)
    # A fixed image without edges is unrelated to any other.
    return 1 - alike / possible.clamp(min=1e-12)


def image_gradient(image: Tensor, weight: Tensor | None, spacing_mm: Sequence[float]) -> Tensor:
    """Central differences per mm, ``(d, B, C, *shape)``, from neighbours with weight only.

    Differences are one-sided at the faces of the grid and beside voxels without weight, and 0 along
    an axis of one voxel.

    Args:
        image: ``(B, C, *shape)``.
        weight: Weights of voxels, ``(B or 1, 1, *shape)``; None where all have weight 1.
        spacing_mm: Voxel spacing, one value per axis.
    """
    weight = torch.ones_like(image[:1, :1]) if weight is None else weight
    along = []
    for axis, spacing in enumerate(spacing_mm, start=2):
        n = image.shape[axis]
        step = image.diff(dim=axis) / spacing
        after, before = weight.narrow(axis, 1, n - 1), weight.narrow(axis, 0, n - 1)
        total = _both_sides(after, before, axis)
        along.append(_both_sides(after * step, before * step, axis) / total.clamp(min=1e-12))
    return torch.stack(along)


def _both_sides(after: Tensor, before: Tensor, axis: int) -> Tensor:
    """At each voxel, the sum of a value between it and the next and one between it and the last."""
    d = after.ndim - 2
    ahead, behind = [0] * 2 * d, [0] * 2 * d
    ahead[2 * (d + 1 - axis) + 1] = behind[2 * (d + 1 - axis)] = 1
    return F.pad(after, ahead) + F.pad(before, behind)


def edge_strength(
    image: Tensor, mask: Tensor | None = None, spacing_mm: Sequence[float] = (1.0, 1.0, 1.0)
) -> float:
    """A gradient magnitude per mm between that of noise and that of edges.

    Args:
        image: ``(B, C, *shape)``.
        mask: Weights of voxels, ``(B or 1, 1, *shape)``.
        spacing_mm: Voxel spacing, one value per axis.
    """
    d = image.ndim - 2
    return _strength(image_gradient(image, mask, spacing_mm[:d]), mask)


@torch.no_grad()
def _strength(gradients: Tensor, weight: Tensor | None) -> float:
    """See `edge_strength`. The mean square over the mean does not depend on the flat voxels."""
    squared = (gradients * gradients).sum(0)
    mean = masked_mean(squared.sqrt(), weight).clamp(min=1e-12)
    return _EDGE * float(masked_mean(squared, weight) / mean)


@final
class GradientFields(ImageMetric):
    """Angles between the images' gradients."""

    name = "gradient"
    contrast = "any"
    needs_many_voxels = True
    loss_arrays = 24
    stage_settings = EDGE_STAGE_SETTINGS

    def loss(
        self, fixed: Tensor, moved: Tensor, weight: Tensor | None, context: LossContext
    ) -> Tensor:
        return gradient(
            fixed, moved, weight, spacing_mm=context.spacing_mm, edges=context.statistics
        )

    @staticmethod
    def statistic(image: Tensor, mask: Tensor | None, spacing_mm: Sequence[float]) -> float:
        """The edge parameter, see `edge_strength`."""
        return edge_strength(image, mask, spacing_mm)
