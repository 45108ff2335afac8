"""The image loss that was optimised, before and after a registration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from stn3d.kernels import Region
from stn3d.losses.image_loss import image_loss
from stn3d.losses.similarity import METRICS, ImageMetric
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage, bounding_box
from stn3d.registration.settings import Settings
from stn3d.transforms import Transform


def optimised_loss(
    pair: Pair, transform: Transform, settings: Settings, levels: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """The image loss of a transform, by the metric and on the finest level of the last stage.

    Further channels and labels contribute as in the optimisation; regularisation and landmarks do
    not.

    Args:
        pair: The prepared images.
        transform: Fixed points to moving points.
        settings: The settings of the registration.
        levels: The levels that the registration ran, see `stn3d.registration.runtime.Tracker`.

    Returns:
        ``metric`` (name), ``spacing_mm`` (of the level) and ``value`` (the loss; lower is better).
    """
    name, radius_vox = settings.metric_name, settings.linear.radius_vox
    if settings.is_deformable:
        name = settings.deformable_metric or name
        radius_vox = settings.deformable.radius_vox
    spacing_mm = levels[-1]["spacing_mm"] if levels else pair.finest_mm
    value = loss_of_transform(pair.at(spacing_mm), transform, METRICS[name], radius_vox)
    return {"metric": name, "spacing_mm": spacing_mm, "value": value}


@torch.no_grad()
def loss_of_transform(
    pair: Pair, transform: Transform, metric: ImageMetric, radius_vox: float = 2.0
) -> float:
    """The loss between the fixed image and the moving image warped by any transform.

    Args:
        pair: The prepared images.
        transform: Fixed points to moving points.
        metric: The metric.
        radius_vox: Half the edge of a window, in voxels.
    """
    fixed, centres = _cropped_to_support(metric.prepared(pair.fixed), metric, radius_vox)
    warped = metric.prepared_through(pair.moving, transform, fixed.grid)
    weights = [mask for mask in (warped.mask, fixed.mask) if mask is not None]
    weight = math.prod(weights[1:], start=weights[0]) if weights else None
    # Statistics describe the whole moving image, as in the optimisation.
    moving = warped if metric.depends_on_axes else pair.moving
    return float(image_loss(fixed, moving, warped.image, weight, metric, radius_vox, centres))


def _cropped_to_support(
    fixed: PreparedImage, metric: ImageMetric, radius_vox: float
) -> tuple[PreparedImage, Region | None]:
    """The fixed image without the parts that do not contribute, and the centres of its windows."""
    radii = metric.window_radii(radius_vox, fixed.grid.spacing_mm)
    support = None if fixed.has_labels else metric.support(fixed, radii)
    if support is None or not bool(support.any()):
        return fixed, None
    start, stop = bounding_box(support.cpu())
    low = [max(a - r, 0) for a, r in zip(start, radii, strict=True)]
    high = [min(b + r, n) for b, r, n in zip(stop, radii, fixed.grid.shape, strict=True)]
    inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    return fixed.cropped(low, high, [metric.statistic]), Region.of(support[inside])
