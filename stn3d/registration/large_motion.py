"""Automatic selection of the discrete search: whether the images move further than the deformable
stage follows, and from which linear transform.

A search of one coarse level takes a part of a second. It measures where it lies what is displaced
by more than the deformable stage's coarsest level reaches, and whether the images agree better
there.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stn3d.losses.similarity import METRICS
from stn3d.memory.limit import memory_shortage
from stn3d.preprocessing.pair import Pair
from stn3d.reductions import voxel_sum
from stn3d.registration.automatic import Selection
from stn3d.registration.settings import Settings
from stn3d.registration.stages import Comparison, DiscreteStage, Stage
from stn3d.transforms import Affine, Linear, Transform
from stn3d.warp import resample_image

ON, OFF = "on", "off"
_SPACING, _RADIUS_VOX = 8.0, 4  # of the search; length units, voxels
_FAR = (12.0, 3.0)  # length units, finest voxels: the deformable stage does not reach so far
_MOVED = (7.0, 1.5)  # likewise, large where the images agree much better then
_DISPLACED = 0.05  # fraction of the foreground that is displaced so far, from here on: large motion
_MOVED_PART = 0.025  # fraction that is displaced by less, from here on where the loss falls so far
_LOWER = 0.5  # ratio of the loss after to before the search, up to here
_LIES_STILL = 0.3  # fraction of the foreground where the headers agree better, from here on
_MISLED = 0.97  # ratio of losses after searches, below which the linear stages misled
_AGREE = 1e-3  # loss after the search from the linear result, below which the images agree
_MIN_KEPT = 0.7  # of the voxels that the result of the linear stages compares
_BACKGROUND = 0.05  # of the intensity range


@dataclass(frozen=True, eq=False)
class CoarseSearch:
    """What a coarse search finds from a linear transform.

    Args:
        start: The transform.
        before: The images under it.
        displaced_fraction: Fraction of the foreground that is displaced by more than 12 length
            units, and more than 3 voxels.
        displaced_loss_ratio: Loss of this part (mean squared difference of the descriptors) after
            the search divided by that before; 1 where there is no such part.
        moved_fraction: Fraction of the foreground that it displaces by more than 7 length units,
            and more than 1.5 voxels.
        loss_before: Loss of the whole foreground before the search.
        loss: The same after the search.
        compared_voxels: Number of foreground voxels that both images show.
    """

    start: Transform
    before: Comparison
    displaced_fraction: float
    displaced_loss_ratio: float
    moved_fraction: float
    loss_before: float
    loss: float
    compared_voxels: float

    @property
    def is_large(self) -> bool:
        """Whether a considerable part moves far and agrees better there, or moves less far, and the
        whole images agree much better then."""
        if self.displaced_fraction >= _DISPLACED and self.displaced_loss_ratio <= _LOWER:
            return True
        return self.moved_fraction >= _MOVED_PART and self.loss_ratio <= _LOWER

    @property
    def loss_ratio(self) -> float:
        """Loss of the whole foreground after the search divided by that before."""
        return self.loss / max(self.loss_before, 1e-9)


@dataclass(frozen=True)
class LargeMotion:
    """Whether the displacements are large.

    Args:
        start: The transform from which the next stage begins.
        runs: Whether the discrete search runs.
        selection: ``on`` or ``off``, and why; None if that was given or not considered.
        linear: Result of the linear stages, if the search begins elsewhere.
    """

    start: Transform
    runs: bool = False
    selection: Selection | None = None
    linear: Linear | None = None

    @classmethod
    def beginning(
        cls, start: Transform, aligned: Transform, selection: Selection | None
    ) -> LargeMotion:
        """The search runs, from a transform that is the result of the linear stages or another."""
        if start is aligned or not isinstance(aligned, Linear):
            return cls(start, True, selection)
        return cls(start, True, selection, aligned)


def large_motion_of(
    pair: Pair, compared: Pair, settings: Settings, linears: tuple[Transform, Transform]
) -> LargeMotion:
    """Whether the discrete search runs, and where it begins.

    It is considered for images of the same contrast that show the same part of the body, and not
    where landmarks, which it does not use, say how they correspond.

    Args:
        pair: The prepared images.
        compared: What the deformable stage compares: these images, or parts or features of them.
        settings: The settings; ``large_motion`` on, off or auto.
        linears: The initial transform and the result of the linear stages.
    """
    initial, aligned = linears
    optimised = settings.estimator in ("auto", "optimiser") and settings.is_deformable
    if not optimised or settings.large_motion == OFF:
        return LargeMotion(aligned)
    stage = settings.discrete
    if settings.large_motion == ON:
        return LargeMotion.beginning(
            best_start(compared, initial, coarse_search(compared, aligned, stage), stage),
            aligned,
            None,
        )
    same = METRICS[settings.metric_name].contrast == "same"  # whatever deforms them
    guided = pair.landmarks is not None
    if not same or compared is not pair or guided:
        return LargeMotion(aligned)
    shortage = memory_shortage(stage.memory_floats(pair, channels=1))
    if shortage is not None:
        selection = Selection(OFF, f"the discrete search needs {shortage}", {})
        return LargeMotion(aligned, selection=selection)
    return select_large_motion(pair, initial, aligned, stage)


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
    evidence: dict[str, float | None] = {
        "displaced_fraction": found.displaced_fraction,
        "displaced_loss_ratio": found.displaced_loss_ratio,
        "moved_fraction": found.moved_fraction,
        "loss_ratio": found.loss_ratio,
    }
    still, ratio = (None, None) if found.is_large else _at_headers(pair, found, stage)
    evidence |= {"still_fraction": still, "header_loss_ratio": ratio}
    if ratio is not None and ratio <= _MISLED:
        reason = "a search from the headers makes the images agree better than one from the result "
        reason += "of the linear stages"
        headers = Affine.identity(pair.fixed.grid.ndim)
        return LargeMotion.beginning(headers, aligned, Selection(ON, reason, evidence))
    share = f"{found.displaced_fraction:.0%} of the foreground"
    reach = f"more than {_length_mm(pair, _FAR):.3g} mm"
    if not found.is_large:
        reason = f"a coarse search displaces {share} by {reach}"
        if found.displaced_fraction >= _DISPLACED:
            reason += ", and the images do not agree much better there"
        return LargeMotion(aligned, selection=Selection(OFF, reason, evidence))
    reason = f"a coarse search displaces {share} by {reach} and lowers the loss there"
    if found.displaced_fraction < _DISPLACED:
        reason = f"a coarse search lowers the loss to {found.loss_ratio:.0%}"
    start = best_start(pair, initial, found, stage)
    return LargeMotion.beginning(start, aligned, Selection(ON, reason, evidence))


def _at_headers(
    pair: Pair, aligned: CoarseSearch, stage: DiscreteStage
) -> tuple[float | None, float | None]:
    """The fraction of the foreground where the images agree better under the headers than under the
    result of the linear stages, and the loss after a search from the headers relative to that from
    this result; None where it is not measured.

    An organ that moves misleads the linear stages, while the headers place the rest of the body as
    it lies. The search runs from the headers if that is a considerable part, and the images do not
    agree after the other one already.

    Args:
        pair: The prepared images.
        aligned: The search from the result of the linear stages.
        stage: The stage that would run.
    """
    if aligned.loss < _AGREE:
        return None, None
    headers = Affine.identity(pair.fixed.grid.ndim)
    before = Comparison.of(pair, headers, _spacing_mm(pair))
    weight = _foreground(pair, before) * aligned.before.moved_weight
    still = _mean((before.difference < aligned.before.difference).float(), weight)
    if still < _LIES_STILL:
        return still, None
    found = coarse_search(pair, headers, stage)
    if found.compared_voxels < _MIN_KEPT * aligned.compared_voxels:
        return still, None
    return still, found.loss / aligned.loss


def stages_with_search(settings: Settings, pair: Pair) -> list[Stage]:
    """The search and the deformable stage without the levels that are coarser than the search's.

    Args:
        settings: The settings.
        pair: The prepared images.
    """
    search, deformable = settings.discrete, settings.deformable
    finest_mm = search.spacings_mm(pair)[-1]
    step_mm = pair.level_step_mm(deformable.in_units)
    count = max(1, sum(factor * step_mm <= finest_mm for factor in deformable.factors))
    iterations = deformable.iterations[: len(deformable.factors)]
    changes: dict[str, Any] = {
        "factors": deformable.factors[-count:],
        "iterations": iterations[-count:],
    }
    return [search, dataclasses.replace(deformable, **changes)]


def best_start(
    pair: Pair, initial: Transform, aligned: CoarseSearch, stage: DiscreteStage
) -> Transform:
    """The linear transform from which the search should begin: the result of the linear stages, the
    initial transform, or none.

    A large organ that moves may mislead the linear stages, while the body lies as the headers say.

    Args:
        pair: The prepared images.
        initial: The initial transform.
        aligned: The search from the result of the linear stages.
        stage: The stage that will run.
    """
    headers = Affine.identity(pair.fixed.grid.ndim)
    found = [aligned, *(coarse_search(pair, one, stage) for one in (initial, headers))]
    least = _MIN_KEPT * aligned.compared_voxels
    return min(
        (one for one in found if one.compared_voxels >= least), key=lambda one: one.loss
    ).start


@torch.no_grad()
def coarse_search(pair: Pair, start: Transform, stage: DiscreteStage) -> CoarseSearch:
    """A search of one coarse level, by the stage's regulariser.

    Args:
        pair: The prepared images.
        start: Linear transform, fixed points to moving points.
        stage: The stage.
    """
    before = Comparison.of(pair, start, _spacing_mm(pair))
    residual = stage.residual(before, _RADIUS_VOX)
    after = Comparison.of(pair, residual.then(start), _spacing_mm(pair))
    weight = _foreground(pair, before) * after.moved_weight
    moved = residual.displacement_mm.norm(dim=1, keepdim=True)
    is_far = moved > _length_mm(pair, _FAR)
    far = is_far * weight
    ratio = _mean(after.difference, far) / max(_mean(before.difference, far), 1e-9)
    return CoarseSearch(
        start,
        before,
        _mean(is_far.float(), weight),
        ratio if bool(far.any()) else 1.0,
        _mean((moved > _length_mm(pair, _MOVED)).float(), weight),
        _mean(before.difference, weight),
        _mean(after.difference, weight),
        float(voxel_sum(weight)),
    )


def _foreground(pair: Pair, comparison: Comparison) -> Tensor:
    """Weights of what both images show, without the fixed image's background."""
    image = resample_image(pair.first.fixed.image[:, :1], pair.fixed.grid, comparison.grid)
    return (image > _BACKGROUND) * comparison.fixed_weight * comparison.moved_weight


def _length_mm(pair: Pair, limit: tuple[float, float]) -> float:
    """The larger of a number of length units and one of voxels: in an image of few voxels a length
    unit is a small part of one, and the deformable stage reaches several."""
    units, voxels = limit
    return max(units * pair.unit_mm, voxels * pair.finest_mm)


def _spacing_mm(pair: Pair) -> float:
    """Spacing of the search."""
    return max(_SPACING * pair.unit_mm, pair.finest_mm)


def _mean(values: Tensor, weight: Tensor) -> float:
    return float(voxel_sum(weight * values) / voxel_sum(weight).clamp(min=1e-6))
