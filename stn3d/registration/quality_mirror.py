"""Whether the images fit as well with left and right exchanged.

A wrong header or conversion can mirror an image, and a mirrored head looks like a head. As AFNI's
``align_epi_anat.py -check_flip`` does (Glen et al. 2020, doi:10.3389/fninf.2020.00018), the quality
check registers the mirrored image too and compares the losses. It never changes the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from stn3d.choices import MetricName
from stn3d.losses.image_loss import ImageLoss
from stn3d.losses.similarity import METRICS
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.stages import LinearStage
from stn3d.transforms import Linear

_ITERATIONS, _TOLERANCE = 25, 1e-4
_SAME_PLANE = math.cos(math.radians(5))
_CLEARLY_WORSE = 0.01  # of the loss that far transforms add; nearer ones are compared again, finer


def mirror_advantage(pair: Pair, linear: Linear, metric: MetricName, points_mm: Tensor) -> float:
    """The loss of the result minus that with the left and right of one image exchanged.

    Both are registered rigidly a little further on the level, so that neither has an advantage. The
    mirror plane is perpendicular to the world's left-right axis, through the centre of what the
    images share; that of the other image is tried too where the result rotates it.

    Args:
        pair: The images on the level where they are compared.
        linear: Fixed points to moving points.
        metric: Metric of the linear part.
        points_mm: ``(N, d)`` foreground points of the fixed image, inside the moving one.

    Returns:
        Above 0 where the mirrored image fits better.
    """
    centre_mm = points_mm.mean(dim=0)
    mirrored = [Pair(pair.fixed, _mirrored(pair.moving, float(linear(centre_mm[None])[0, 0])))]
    across = linear.matrix[:-1, 0]
    if float(across[0]) < _SAME_PLANE * float(across.norm()):
        mirrored.append(Pair(_mirrored(pair.fixed, float(centre_mm[0])), pair.moving))
    own = _refined_loss(Pair(pair.fixed, pair.moving), linear, metric)
    return own - min(_refined_loss(one, linear, metric) for one in mirrored)


def mirror_advantage_fraction(
    pair: Pair, coarse_mm: float, linear: Linear, metric: MetricName, points_mm: Tensor, gain: float
) -> float:
    """`mirror_advantage` as a fraction of what the result gains over far transforms.

    Small differences on the coarse level are measured again on the next finer one, which shows more
    of the small differences between left and right.

    Args:
        pair: The prepared images.
        coarse_mm: Spacing of the coarse level.
        linear: Fixed points to moving points.
        metric: Metric of the linear part.
        points_mm: ``(N, d)`` foreground points of the fixed image, inside the moving one.
        gain: Mean loss of far transforms minus that of the result, above 0.
    """
    found = mirror_advantage(pair.at(coarse_mm), linear, metric, points_mm) / gain
    if found > -_CLEARLY_WORSE and coarse_mm / 2 >= pair.finest_mm:
        found = mirror_advantage(pair.at(coarse_mm / 2), linear, metric, points_mm) / gain
    return found


def _mirrored(image: PreparedImage, x_mm: float) -> PreparedImage:
    """The image with its left and right exchanged about a plane ``x = x_mm``."""
    reflection = torch.eye(image.grid.ndim + 1, dtype=torch.float64)
    reflection[0, 0], reflection[0, -1] = -1, 2 * x_mm
    grid = replace(image.grid, world_from_index=reflection @ image.grid.world_from_index)
    return replace(image, grid=grid)


def _refined_loss(pair: Pair, start: Linear, metric: MetricName) -> float:
    stage = LinearStage("rigid", metric, factors=(1,), iterations=_ITERATIONS, tolerance=_TOLERANCE)
    found = stage(pair, start, lambda *_: None)
    assert isinstance(found, Linear)
    return image_loss_of(pair, metric)(found)


def image_loss_of(pair: Pair, metric: MetricName) -> Callable[[Linear], float]:
    """The loss of a pair as a function of a linear transform, fixed to moving points."""
    return ImageLoss(pair.fixed, pair.moving, METRICS[metric]).under
