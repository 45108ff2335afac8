"""The limits of the quality check: which values of its measures are ``check`` or ``failed``.

docs/quality.md documents the limits with examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from stn3d.length_unit import length_text
from stn3d.registration.quality_measures import QualityMeasures

Status = Literal["good", "check", "failed"]
Number = Callable[[QualityMeasures], float | None]


@dataclass(frozen=True)
class Criterion:
    """The limits of one measure.

    Args:
        measure: name of the measure in metrics.json.
        value: the measure; None if it could not be measured, which is within all limits.
        check: the status is ``check`` beyond this value.
        failed: the status is ``failed`` beyond this value.
        reason: the reason that is reported, from the measures.
        suggestion: the suggestion that is reported.
        lower_is_worse: whether values below the limits are beyond them, instead of values above.
        is_contradicted: whether other measures show that a value beyond the limit for ``failed`` is
            real; the status is then ``check``.
    """

    measure: str
    value: Number
    check: float
    failed: float
    reason: Callable[[QualityMeasures], str]
    suggestion: str
    lower_is_worse: bool = False
    is_contradicted: Callable[[QualityMeasures], bool] = lambda _: False

    def exceeded(self, measures: QualityMeasures, status: Status) -> bool:
        """Whether the measure is beyond the limit for a status."""
        value, limit = self.value(measures), self.failed if status == "failed" else self.check
        if value is None or (status == "failed" and self.is_contradicted(measures)):
            return False
        return value < limit if self.lower_is_worse else value > limit


def _is_well_determined(measures: QualityMeasures) -> bool:
    """Whether the linear part is found again from all starts and by far the best one."""
    disagreement, margin = measures.restart_disagreement_fraction, measures.similarity_margin_sd
    if disagreement is None or margin is None:
        return False
    return disagreement < _SURE_DISAGREEMENT and margin > _SURE_MARGIN_SD


def _restarts_are_caught(measures: QualityMeasures) -> bool:
    """Whether repeated registrations that end elsewhere fit clearly worse there, in images that
    surely show the same: by far the best as they lie, with left and right as they are."""
    excess, mirrored = measures.restart_excess_fraction, measures.mirror_advantage_fraction
    margin = measures.similarity_margin_sd
    if excess is None or mirrored is None or margin is None:
        return False
    return excess > _CAUGHT_EXCESS and mirrored < _CAUGHT_MIRRORED and margin > _CAUGHT_MARGIN_SD


def _place(measures: QualityMeasures) -> str:
    """Where the volume changes most, in words."""
    at_mm = measures.log_jacobian_extreme_at_mm
    return "" if at_mm is None else f", most at ({', '.join(f'{x:.0f}' for x in at_mm)}) mm"


def _expected_in_a_person_mm(m: QualityMeasures) -> float | None:
    """The expected error in mm; None in images too large for a person, or in another unit."""
    if m.expected_error_mm is None or m.expected_error_units is None:
        return None
    fits = m.expected_error_mm <= _PERSON_UNIT_MM * m.expected_error_units
    return m.expected_error_mm if fits else None


def _expected_error(measure: str, value: Number, check: float) -> Criterion:
    """A limit of the expected error. It does not hold where structures test the deformation more
    directly: their images differ in contrast and often in resolution, so that a search finds less
    to hold on to."""
    return Criterion(
        measure,
        value=lambda m: None if m.structure_dice_mean is not None else value(m),
        check=check,
        failed=math.inf,
        reason=lambda m: (
            "the registration error that is expected in the body is "
            f"{length_text(m.expected_error_mm or 0.0, 1)} mm on average"
        ),
        suggestion=(
            "Inspect the moved image; see where with --uncertainty, and try --large-motion on or "
            "another metric."
        ),
    )


AS_WELL_MIRRORED = -0.0005  # a mirrored image with this advantage or more fits as well
# A scale this well determined is real: a child's head, or a voxel size in another unit.
_SURE_DISAGREEMENT, _SURE_MARGIN_SD = 0.04, 6.0
# Beyond these the images surely show the same, and repeated registrations are caught elsewhere.
_CAUGHT_EXCESS, _CAUGHT_MIRRORED, _CAUGHT_MARGIN_SD = 0.05, -0.15, 12.0
_PERSON_UNIT_MM = 3.0  # largest length unit of images of a person
_ALIGNMENT = (
    "Inspect the moved image; try another --init, or give masks of the part that both images show."
)

MIRRORED = (
    "Check the orientation of both images in a viewer; the images are not changed by this check."
)
_LANDMARKS = "Inspect the moved image at the landmarks, and the pairing of the landmarks."

CRITERIA = (
    Criterion(
        "foreground_inside_fraction",
        value=lambda m: m.foreground_inside_fraction,
        check=0.3,
        failed=0.1,
        reason=lambda m: (
            f"only {m.foreground_inside_fraction:.0%} of the smaller image's foreground lies "
            "inside the other image"
        ),
        suggestion=_ALIGNMENT,
        lower_is_worse=True,
    ),
    Criterion(
        "restart_disagreement_fraction",
        value=lambda m: m.restart_disagreement_fraction,
        check=0.02,
        failed=0.04,
        reason=lambda m: (
            "repeated registrations from perturbed starts end "
            f"{length_text(m.restart_disagreement_mm or 0.0, 0)} mm away"
        ),
        suggestion=_ALIGNMENT,
        is_contradicted=_restarts_are_caught,
    ),
    Criterion(
        "max_affine_scale",
        value=lambda m: m.max_affine_scale,
        check=1.35,
        failed=1.6,
        reason=lambda m: (
            f"the affine part enlarges or shrinks the image by a factor of {m.max_affine_scale:.2f}"
        ),
        suggestion=(
            "Try --kind rigid or --kind similarity, or correct the voxel sizes in the headers."
        ),
        is_contradicted=_is_well_determined,
    ),
    Criterion(
        "mirror_advantage_fraction",
        value=lambda m: m.mirror_advantage_fraction,
        check=0.06,
        failed=math.inf,
        reason=lambda m: "the images fit better with left and right exchanged",
        suggestion=MIRRORED,
    ),
    Criterion(
        "similarity_margin_sd",
        value=lambda m: m.similarity_margin_sd,
        check=6.0,
        failed=2.0,
        reason=lambda m: "the similarity is barely better than at perturbed transforms",
        suggestion=_ALIGNMENT,
        lower_is_worse=True,
    ),
    Criterion(
        "structure_dice_mean",
        value=lambda m: m.structure_dice_mean,
        check=0.5,
        failed=0.3,
        reason=lambda m: (
            "the structures that the segmentation network finds in both heads have a mean Dice of "
            f"{m.structure_dice_mean:.2f}"
        ),
        suggestion=_ALIGNMENT,
        lower_is_worse=True,
    ),
    Criterion(
        "structure_dice_gain",
        value=lambda m: m.structure_dice_gain,
        check=-0.05,
        failed=-0.15,
        reason=lambda m: (
            "the structures that the segmentation network finds in both heads overlap less than "
            f"under an affine transform (mean Dice lower by {-(m.structure_dice_gain or 0.0):.2f})"
        ),
        suggestion=(
            "Inspect the moved image; try --kind affine, another metric, or --features none."
        ),
        lower_is_worse=True,
    ),
    _expected_error("expected_error_units", lambda m: m.expected_error_units, check=3.0),
    _expected_error("expected_error_mm", _expected_in_a_person_mm, check=4.0),
    Criterion(
        "remaining_displacement_fraction",
        value=lambda m: m.remaining_displacement_fraction,
        check=0.6,
        failed=math.inf,
        reason=lambda m: (
            "a search around the result finds displacements of "
            f"{length_text(m.remaining_displacement_mm or 0.0, 1)} mm on average, "
            f"{m.remaining_displacement_fraction:.0%} of what it finds without the registration"
        ),
        suggestion=_ALIGNMENT,
    ),
    Criterion(
        "content_volume_factor",
        value=lambda m: m.content_volume_factor,
        check=1.3,
        failed=2.0,
        reason=lambda m: (
            "the deformation "
            + ("enlarges" if m.content_volume_ratio > 1 else "shrinks")
            + f" the content as a whole by a factor of {m.content_volume_factor:.2f}"
        ),
        suggestion=(
            "Does one image show more than the other, such as the scalp? Give masks of the part "
            "that both images show, or try --kind affine."
        ),
    ),
    Criterion(
        "folding_pct",
        value=lambda m: m.folding_pct,
        check=0.1,
        failed=2.0,
        reason=lambda m: f"{m.folding_pct:.2f}% of the voxels are folded",
        suggestion=(
            "Increase deformable.field_sigma_vox in a --config file, or try --kind affine."
        ),
    ),
    Criterion(
        "abs_log_jacobian_p999",
        value=lambda m: m.abs_log_jacobian_p999,
        check=3.0,
        failed=math.inf,
        reason=lambda m: (
            "0.1% of the voxels change their volume by a factor of "
            f"{math.exp(m.abs_log_jacobian_p999):.0f} or more{_place(m)}"
        ),
        suggestion=(
            "The deformation may be fitting noise: inspect the moved image or try --kind affine."
        ),
    ),
    Criterion(
        "landmark_error_fraction",
        value=lambda m: m.landmark_error_fraction,
        check=0.015,
        failed=math.inf,
        reason=lambda m: (
            f"the mean error at the landmarks is {m.landmark_error_fraction:.1%} of the image size"
        ),
        suggestion=_LANDMARKS,
    ),
    Criterion(
        "landmark_increase_fraction",
        value=lambda m: m.landmark_increase_fraction,
        check=0.001,
        failed=math.inf,
        reason=lambda m: (
            "the landmarks are farther apart than without the registration, by "
            f"{m.landmark_increase_fraction:.1%} of the image size"
        ),
        suggestion=_LANDMARKS,
    ),
    Criterion(
        "max_landmark_error_fraction",
        value=lambda m: m.max_landmark_error_fraction,
        check=0.06,
        failed=math.inf,
        reason=lambda m: (
            "the largest error at a landmark is "
            f"{m.max_landmark_error_fraction:.1%} of the image size"
        ),
        suggestion=_LANDMARKS,
    ),
)
"""The limits, most important first; docs/results/quality reports how they were tested, and
docs/experiments/quality-limits.md how those of the later measures were chosen."""
