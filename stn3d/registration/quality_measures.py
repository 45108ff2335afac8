"""Measures of a registration that need no knowledge of the true transform.

Each tests a property of a correct result: registrations from perturbed starts, with the roles of
the images swapped, end at the same transform; the image loss is lower than at perturbed transforms
and with left and right exchanged; the images overlap; the scaling is plausible; nothing is folded,
and volumes change little. Perturbations stay within what the images show, and what cannot be tested
is None.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from stn3d.choices import MetricName
from stn3d.grid import Grid, apply_matrix
from stn3d.preprocessing.pair import Pair
from stn3d.registration.initialisation.candidates import coarse_mm
from stn3d.registration.quality_content import (
    BACKGROUND,
    MIN_JACOBIAN,
    content_volume_ratio,
    linear_part,
    smaller_first,
)
from stn3d.registration.quality_landmarks import cross_validated_errors_mm
from stn3d.registration.quality_mirror import MirrorComparison, image_loss_of
from stn3d.registration.quality_perturbations import Visible, untested
from stn3d.registration.quality_restarts import restarts_of
from stn3d.registration.structures import PairStructures
from stn3d.registration.uncertainty import SearchMeasures
from stn3d.sampler import inside
from stn3d.transforms import Affine, Linear, LinearKind, Transform, split_linear
from stn3d.warp import fov_overlap_fraction

# Perturbed starts: rotation about each axis; translation as a fraction of the image size.
_START_ROTATION_RAD, _START_TRANSLATION = 0.2, 0.1
# Perturbed transforms that the result must beat in image loss.
_FAR_ROTATION_RAD, _FAR_TRANSLATION = 0.6, 0.25
# Fraction of the foreground that a perturbation keeps inside the other image.
_KEPT = 0.5
_MAX_POINTS = 2_000
_LEAST_OVERLAP = 0.2  # of the smaller field of view, under a perturbed transform
_FINER_2D = 2  # a coarse level of 2D images has few pixels


@dataclass(frozen=True)
class QualityMeasures:
    """Measures of a registration without knowledge of the true transform.

    Args:
        restart_disagreement_fraction: ``restart_disagreement_mm`` divided by the image size.
        restart_disagreement_mm: median distance between the result and linear registrations from
            perturbed starts, with fixed and moving image swapped; mean over foreground points. None
            if the images show too little to perturb the result.
        restart_excess_fraction: lowest loss of the repeated registrations that end as far away or
            farther, minus that where a registration from the result ends, divided by what the
            result gains over the perturbed transforms. Above 0 where the images fit worse there.
            None if that gain is unknown or not positive.
        similarity_margin_sd: difference between the mean image loss at perturbed transforms and the
            image loss of the result, in standard deviations of the former. None if fewer than three
            perturbed transforms leave enough overlap.
        untested: rotations and translations that the perturbed starts leave out, because the images
            show too little along them, such as ``translation along z`` of a single slice.
        foreground_inside_fraction: fraction of the foreground of the smaller image that lies inside
            the field of view of the other image.
        mirror_advantage_fraction: image loss of the result minus that with left and right of one
            image exchanged, both registered further with the same freedom, divided by what the
            result gains over the perturbed transforms; above 0 where the mirrored image fits
            better. None if that gain is unknown or not positive.
        max_affine_scale: largest singular value of the linear part, or one over the smallest,
            whichever is larger.
        folding_pct: voxels of the evaluation region with a Jacobian determinant of 0 or less, in %.
        abs_log_jacobian_p999: 99.9th percentile of the absolute logarithm of the Jacobian
            determinant, relative to its median, in the evaluation region.
        max_abs_log_jacobian: largest absolute logarithm of the Jacobian determinant in the
            evaluation region, clipped at ``log(1000)``; not limited.
        log_jacobian_extreme_at_mm: where the logarithm is farthest from its median, world RAS+ mm.
        content_volume_ratio: volume of the content of the moving image after the deformation
            divided by that after the linear part alone; see `content_volume_ratio`.
        landmark_error_fraction: mean distance between the landmarks that were given, as the result
            maps them, divided by the image size; by cross-validation if they were part of the
            objective, see `cross_validated_errors_mm`.
        max_landmark_error_fraction: the largest of these distances, divided likewise.
        landmark_increase_fraction: by how much their mean is larger than without a registration,
            divided likewise; negative where the landmarks are closer.
        structure_dice_mean: mean Dice of the structures that the segmentation network finds in two
            heads, those of the moving image after the transform; its errors count too. None if the
            heads have the same contrast, or the network does not know them.
        structure_dice_gain: ``structure_dice_mean`` minus that of an affine alignment of the
            structures alone. None for a rigid or a similarity transform, which can do less.
        expected_error_mm: mean over the body of the expected error at every point, see
            `stn3d.registration.uncertainty`. None for a linear transform, or if the images share
            no part of the body.
        expected_error_units: the same in length units of the pair, see `stn3d.length_unit`.
        remaining_displacement_mm: mean displacement over the body that a discrete search around the
            result finds. None if the images share no part of the body.
        remaining_displacement_fraction: the same divided by what the search finds without a
            registration. None where it is 3 length units or less: another metric finds as much in
            two people after a good affine registration.
    """

    restart_disagreement_fraction: float | None
    restart_disagreement_mm: float | None
    similarity_margin_sd: float | None
    untested: tuple[str, ...]
    foreground_inside_fraction: float
    mirror_advantage_fraction: float | None
    max_affine_scale: float
    folding_pct: float
    abs_log_jacobian_p999: float
    max_abs_log_jacobian: float
    log_jacobian_extreme_at_mm: tuple[float, ...] | None
    content_volume_ratio: float = 1.0
    landmark_error_fraction: float | None = None
    max_landmark_error_fraction: float | None = None
    landmark_increase_fraction: float | None = None
    structure_dice_mean: float | None = None
    structure_dice_gain: float | None = None
    expected_error_mm: float | None = None
    expected_error_units: float | None = None
    remaining_displacement_mm: float | None = None
    remaining_displacement_fraction: float | None = None
    restart_excess_fraction: float | None = None

    @property
    def content_volume_factor(self) -> float:
        """``content_volume_ratio``, or one over it, whichever is larger."""
        ratio = max(self.content_volume_ratio, MIN_JACOBIAN)
        return max(ratio, 1 / ratio)


def measure_quality(
    pair: Pair,
    transform: Transform,
    kind: LinearKind,
    metric: MetricName,
    metrics: dict[str, Any],
    repeated_kind: LinearKind | None = None,
    structures: PairStructures | None = None,
    searched: SearchMeasures | None = None,
    landmarks_before_mm: float | None = None,
) -> QualityMeasures:
    """Measure the quality of a registration; see `QualityMeasures`.

    The linear part is measured on a coarse level, from the smaller image into the larger one.

    Args:
        pair: the prepared images.
        transform: fixed points to moving points.
        kind: kind of the linear part.
        metric: metric of the linear part.
        metrics: the metrics of `stn3d.evaluation.evaluate_case`: Jacobian determinants and errors
            at landmarks.
        repeated_kind: kind of the repeated registrations; ``kind`` by default.
        structures: the structures of both heads, if they are known.
        searched: what a search around the result says about it.
        landmarks_before_mm: mean distance between the landmarks without a registration.
    """
    searched = searched or SearchMeasures()
    spacing_mm = coarse_mm(pair)
    if pair.fixed.grid.ndim == 2:
        spacing_mm = max(spacing_mm / _FINER_2D, pair.finest_mm)
    ordered, linear = smaller_first(pair, transform)
    coarse = ordered.at(spacing_mm)
    size_mm = min(max(image.grid.size_mm) for image in (coarse.fixed, coarse.moving))
    points, inside_fraction = _foreground_inside(coarse, linear)
    visible = Visible(coarse.fixed.grid, ordered.moving.grid, linear, points, _KEPT)
    length_mm = size_mm / math.sqrt(coarse.fixed.grid.ndim)
    near = visible.largest(_START_ROTATION_RAD, _START_TRANSLATION * length_mm)
    starts = visible.perturbed(near)[::2]
    far = visible.perturbed(visible.largest(_FAR_ROTATION_RAD, _FAR_TRANSLATION * length_mm))
    few_slices = bool(visible.slice_axes())
    restarts = restarts_of(
        coarse, linear, repeated_kind or kind, metric, points, starts, few_slices
    )
    gain, gain_sd = _gain(coarse, linear, metric, far)
    flipped, excess = None, None
    if gain is not None and gain > 0:
        excess = _ratio(restarts.excess_loss, gain)
        kinds: tuple[LinearKind, ...] = ("rigid",) if few_slices else ("rigid", "affine")
        comparison = MirrorComparison(ordered, spacing_mm, kinds, metric)
        flipped = comparison.advantage(linear, points) / gain
    scales = torch.linalg.svdvals(linear.matrix[:-1, :-1])
    dice, dice_gain = _of_structures(structures, transform, kind)
    mean_mm, max_mm = _landmark_errors_mm(pair, spacing_mm, transform, kind, metric, metrics)
    return QualityMeasures(
        restart_disagreement_fraction=_ratio(restarts.disagreement_mm, size_mm),
        restart_disagreement_mm=restarts.disagreement_mm,
        restart_excess_fraction=excess,
        similarity_margin_sd=None if gain is None else gain / gain_sd,
        untested=untested(near),
        foreground_inside_fraction=inside_fraction,
        mirror_advantage_fraction=flipped,
        max_affine_scale=float(max(scales.max(), 1 / scales.min())),
        content_volume_ratio=content_volume_ratio(pair.at(spacing_mm), transform),
        landmark_error_fraction=_ratio(mean_mm, size_mm),
        max_landmark_error_fraction=_ratio(max_mm, size_mm),
        landmark_increase_fraction=_increase(landmarks_before_mm, mean_mm, size_mm),
        structure_dice_mean=dice,
        structure_dice_gain=dice_gain,
        expected_error_units=_ratio(searched.expected_error_mm, pair.unit_mm),
        **asdict(searched),
        **_from_metrics(metrics),
    )


def _landmark_errors_mm(
    pair: Pair,
    spacing_mm: float,
    transform: Transform,
    kind: LinearKind,
    metric: MetricName,
    metrics: dict[str, Any],
) -> tuple[float | None, float | None]:
    """Mean and largest error at the landmarks; by cross-validation if they were used."""
    if pair.landmarks is None:
        error_mm = metrics.get("tre_mm") or {}
        return error_mm.get("mean"), error_mm.get("max")
    field, _ = split_linear(transform)
    finer_mm = max(spacing_mm / 2, pair.finest_mm)
    linear, deformable = linear_part(transform, pair.fixed), field is not None
    errors_mm = cross_validated_errors_mm(pair, finer_mm, linear, kind, metric, deformable)
    return (None, None) if errors_mm is None else (float(errors_mm.mean()), float(errors_mm.max()))


def _from_metrics(metrics: dict[str, Any]) -> dict[str, Any]:
    """The measures that `stn3d.evaluation.evaluate_case` computes at full resolution."""
    extremes = [metrics.get(key) for key in ("jacobian_min", "jacobian_max")]
    log_jacobians = [abs(math.log(max(x, MIN_JACOBIAN))) for x in extremes if x is not None]
    return {
        "folding_pct": metrics.get("folding_pct") or 0.0,
        "abs_log_jacobian_p999": metrics.get("abs_log_jacobian_p999") or 0.0,
        "max_abs_log_jacobian": max(log_jacobians, default=0.0),
        "log_jacobian_extreme_at_mm": metrics.get("log_jacobian_extreme_at_mm"),
    }


def _of_structures(
    structures: PairStructures | None, transform: Transform, kind: LinearKind
) -> tuple[float | None, float | None]:
    """``structure_dice_mean`` and ``structure_dice_gain``."""
    if structures is None:
        return None, None
    dice = structures.dice(transform) or 0.0
    affine = structures.dice(structures.aligned("affine")) if kind == "affine" else None
    return dice, None if affine is None else dice - affine


def _increase(before_mm: float | None, after_mm: float | None, size_mm: float) -> float | None:
    return None if before_mm is None or after_mm is None else (after_mm - before_mm) / size_mm


def _ratio(length_mm: float | None, size_mm: float) -> float | None:
    return None if length_mm is None else length_mm / size_mm


def _foreground_inside(pair: Pair, linear: Linear) -> tuple[Tensor, float]:
    """``(N, d)`` foreground points of the fixed image that map into the moving image, and their
    fraction of all foreground points. If no point maps into the moving image, all are returned."""
    image, grid = pair.fixed.image, pair.fixed.grid
    bright = image[0].amax(dim=0) > BACKGROUND
    index = (bright if bool(bright.any()) else torch.ones_like(bright)).nonzero().cpu()
    step = 1 + len(index) // _MAX_POINTS
    points = apply_matrix(grid.world_from_index, index[::step].double())
    moving = pair.moving.grid
    mapped = inside(apply_matrix(moving.index_from_world, linear(points)), moving.shape)
    return (points[mapped] if bool(mapped.any()) else points), float(mapped.double().mean())


def _gain(
    pair: Pair, linear: Linear, metric: MetricName, perturbations: list[Affine]
) -> tuple[float | None, float]:
    """What the result gains over perturbed transforms, and the standard deviation of their losses;
    None if fewer than three of them leave enough overlap."""
    fixed, moving = pair.fixed.grid, pair.moving.grid
    loss, losses = image_loss_of(pair, metric), []
    for perturbation in perturbations:
        perturbed = perturbation.then(linear)
        assert isinstance(perturbed, Linear)
        if _shared_fraction(fixed, moving, perturbed) > _LEAST_OVERLAP:
            losses.append(loss(perturbed))
    if len(losses) < 3:
        return None, 1.0
    perturbed_losses = torch.tensor(losses, dtype=torch.float64)
    gain = float(perturbed_losses.mean()) - loss(linear)
    return gain, float(perturbed_losses.std().clamp(min=1e-6))


def _shared_fraction(fixed: Grid, moving: Grid, linear: Linear) -> float:
    """Fraction of the smaller field of view, as the transform scales them, that both share."""
    inverse = linear.inverse()
    return max(
        fov_overlap_fraction(moving, linear, fixed), fov_overlap_fraction(fixed, inverse, moving)
    )
