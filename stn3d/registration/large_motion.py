"""Automatic selection of the discrete search: whether the images move further than the deformable
stage follows, and from which linear transform.

A search of one coarse level takes a part of a second. It measures where it lies what is displaced
by more than the deformable stage's coarsest level reaches, and whether the images agree better
there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stn3d.preprocessing.pair import Pair
from stn3d.reductions import voxel_sum
from stn3d.registration.automatic import Selection
from stn3d.registration.stages import Comparison, DiscreteStage
from stn3d.transforms import Transform
from stn3d.warp import resample_image

ON, OFF = "on", "off"
_SPACING, _RADIUS_VOX = 8.0, 4  # of the search; length units, voxels
_FAR = 12.0  # displacement in length units that the deformable stage does not reach
_DISPLACED = 0.12  # fraction of the foreground that is displaced so far, from here on: large motion
_LOWER = 0.85  # ratio of the loss there after to before the search, up to here
_BACKGROUND = 0.05  # of the intensity range


@dataclass(frozen=True)
class CoarseSearch:
    """What a coarse search finds from a linear transform.

    Args:
        start: The transform.
        displaced_fraction: Fraction of the foreground that is displaced by more than 12 length
            units.
        displaced_loss_ratio: Loss of this part (mean squared difference of the descriptors) after
            the search divided by that before; 1 where there is no such part.
        loss: Loss of the whole foreground after the search.
    """

    start: Transform
    displaced_fraction: float
    displaced_loss_ratio: float
    loss: float

    @property
    def is_large(self) -> bool:
        """Whether a considerable part moves far, and agrees better there."""
        return self.displaced_fraction >= _DISPLACED and self.displaced_loss_ratio <= _LOWER


@dataclass(frozen=True)
class LargeMotion:
    """Whether the displacements are large.

    Args:
        selection: ``on`` or ``off``, and why.
        start: The linear transform from which the search begins.
    """

    selection: Selection
    start: Transform


def select_large_motion(
    pair: Pair, initial: Transform, aligned: Transform, stage: DiscreteStage
) -> LargeMotion:
    """Select the discrete search where a considerable part of the images moves far.

    Args:
        pair: The prepared images.
        initial: The initial transform.
        aligned: The result of the linear stages.
        stage: The stage that would run.
    """
    found = coarse_search(pair, aligned, stage)
    evidence = {
        "displaced_fraction": found.displaced_fraction,
        "displaced_loss_ratio": found.displaced_loss_ratio,
    }
    share = f"{found.displaced_fraction:.0%} of the foreground"
    reach = f"more than {_FAR * pair.unit_mm:.3g} mm"
    if not found.is_large:
        reason = f"a coarse search displaces {share} by {reach}"
        if found.displaced_fraction >= _DISPLACED:
            reason += ", and the images do not agree much better there"
        return LargeMotion(Selection(OFF, reason, evidence), aligned)
    reason = f"a coarse search displaces {share} by {reach} and lowers the loss there"
    return LargeMotion(Selection(ON, reason, evidence), best_start(pair, initial, found, stage))


def best_start(
    pair: Pair, initial: Transform, found: CoarseSearch, stage: DiscreteStage
) -> Transform:
    """The linear transform from which the search should begin.

    A large organ that moves may mislead the linear stages, while the body lies as the headers say.

    Args:
        pair: The prepared images.
        initial: The initial transform.
        found: The coarse search from the result of the linear stages.
        stage: The stage that will run.
    """
    other = coarse_search(pair, initial, stage)
    return initial if other.loss < found.loss else found.start


@torch.no_grad()
def coarse_search(pair: Pair, start: Transform, stage: DiscreteStage) -> CoarseSearch:
    """A search of one coarse level, by the stage's regulariser.

    Args:
        pair: The prepared images.
        start: Linear transform, fixed points to moving points.
        stage: The stage.
    """
    spacing_mm = max(_SPACING * pair.unit_mm, pair.finest_mm)
    before = Comparison.of(pair, start, spacing_mm)
    residual = stage.residual(before, _RADIUS_VOX)
    after = Comparison.of(pair, residual.then(start), spacing_mm)
    image = resample_image(pair.first.fixed.image[:, :1], pair.fixed.grid, before.grid)
    weight = (image > _BACKGROUND) * before.fixed_weight * before.moved_weight * after.moved_weight
    moved = residual.displacement_mm.norm(dim=1, keepdim=True)
    far = (moved > _FAR * pair.unit_mm) * weight
    ratio = _mean(after.difference, far) / max(_mean(before.difference, far), 1e-9)
    return CoarseSearch(
        start,
        float(voxel_sum(far) / voxel_sum(weight).clamp(min=1e-6)),
        ratio if bool(far.any()) else 1.0,
        _mean(after.difference, weight),
    )


def _mean(values: Tensor, weight: Tensor) -> float:
    return float(voxel_sum(weight * values) / voxel_sum(weight).clamp(min=1e-6))
