"""Repeated linear registrations from perturbed starts, for the quality check.

Those of a correct result end where it does. Where they end elsewhere, their loss shows whether the
images fit there as well, or the registration is caught on its way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median_low

import torch
from torch import Tensor

from stn3d.choices import MetricName
from stn3d.grid import Grid, apply_matrix
from stn3d.preprocessing.pair import Pair
from stn3d.registration.quality_mirror import image_loss_of
from stn3d.registration.quality_perturbations import FEW_SLICES, LEAST_VOX
from stn3d.registration.stages import LinearStage
from stn3d.sampler import inside
from stn3d.transforms import Affine, Linear, LinearKind, Transform

# Loss tolerance of the repeated registrations; their results are needed to a part of a voxel only.
_TOLERANCE = 1e-4
_HELD = 0.8  # of the foreground that a repeated registration leaves inside few slices
_LEVELS, _LEVELS_2D = (1,), (2, 1)  # the level of 2D images is finer, see `measure_quality`
_EQUAL_LOSS = 1.02  # ratio up to which a repeated registration of few slices is as good


@dataclass(frozen=True)
class Restarts:
    """Where repeated registrations end.

    Args:
        disagreement_mm: Median distance between them and the result, mean over points; None if
            there are none.
        excess_loss: Lowest loss of those that end as far away or farther, minus the loss where a
            registration from the result ends; None if there are none.
    """

    disagreement_mm: float | None = None
    excess_loss: float | None = None


def restarts_of(
    pair: Pair,
    linear: Linear,
    kind: LinearKind,
    metric: MetricName,
    points: Tensor,
    starts: list[Affine],
    few_slices: bool,
) -> Restarts:
    """Repeat the linear registration; it maps the moving image to the fixed one.

    Few slices hardly hold a repeated registration: those that leave them, or end at a higher loss
    than the result, are ignored.

    A single slice stays the fixed image: as the moving image it would say nothing beside it. It
    does not determine an affine transform either, so the repeated residuals are rigid.

    Args:
        pair: The images on a coarse level, the smaller one as the fixed image.
        linear: Fixed points to moving points.
        kind: Kind of the registrations.
        metric: Their metric.
        points: ``(N, d)`` foreground points of the fixed image, mm.
        starts: Perturbations of the start.
        few_slices: Whether the moving image has few slices.
    """
    inverse = linear.inverse()
    assert isinstance(inverse, Linear)
    start, again, given, expected = inverse, pair.swapped, linear(points), points
    if pair.fixed.grid.slice_axis is not None:
        kind = "rigid"
        start, again, given, expected = linear, pair, points, linear(points)
    levels = _LEVELS_2D if pair.fixed.grid.ndim == 2 else _LEVELS
    stage = LinearStage(kind, metric, factors=levels, iterations=25, tolerance=_TOLERANCE)
    other, found = again.moving.grid, []
    loss = image_loss_of(again, metric)
    limit = _EQUAL_LOSS * loss(start) if few_slices else math.inf

    def registered(begin: Transform) -> Linear:
        ended = stage(again, begin, lambda *_: None)
        assert isinstance(ended, Linear)
        return ended

    for perturbation in starts:
        repeated = registered(start.then(perturbation))
        ended, its_loss = repeated(given), loss(repeated)
        index = apply_matrix(other.index_from_world, ended)
        held = float(inside(index, other.shape).double().mean())
        if few_slices and (held < _HELD or its_loss > limit):
            continue
        found.append((float(_distances_mm(ended - expected, other).mean()), its_loss))
    if not found:
        return Restarts()
    median_mm = median_low(one for one, _ in found)
    away = min(its_loss for distance_mm, its_loss in found if distance_mm >= median_mm)
    return Restarts(median_mm, away - loss(registered(start)))


def _distances_mm(offsets_mm: Tensor, grid: Grid) -> Tensor:
    """``(N,)`` lengths of ``(N, d)`` offsets, without a quarter of the distance between few slices:
    they do not show less."""
    for axis, count in enumerate(grid.shape):
        if 1 < count < FEW_SLICES:
            direction = grid.world_from_index[:-1, axis].to(offsets_mm)
            length_mm = direction.norm()
            along = offsets_mm @ direction / length_mm
            kept = along.sign() * (along.abs() - LEAST_VOX * length_mm).clamp(min=0)
            offsets_mm = offsets_mm + (kept - along)[:, None] * direction / length_mm
    return torch.linalg.vector_norm(offsets_mm, dim=-1)
