"""Automatic quality check of a registration: a status from measures and their limits.

docs/quality.md documents the limits with examples.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from stn3d.length_unit import length_text
from stn3d.registration.quality_measures import QualityMeasures

Status = Literal["good", "check", "failed"]


@dataclass(frozen=True)
class Quality:
    """The quality status of a registration.

    Args:
        status: ``good``, ``check`` (inspect the result) or ``failed``.
        reason: the measure that decided, in words.
        suggestion: what to try next; empty if the status is ``good``.
        measures: the measures that the status is derived from.
    """

    status: Status
    reason: str
    suggestion: str
    measures: QualityMeasures

    def as_dict(self) -> dict[str, Any]:
        """The fields as a dictionary for JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Criterion:
    """The limits of one measure.

    Args:
        measure: name of the field or property of `QualityMeasures`.
        check: the status is ``check`` beyond this value.
        failed: the status is ``failed`` beyond this value.
        reason: the reason that is reported, from the measures.
        suggestion: the suggestion that is reported.
        lower_is_worse: whether values below the limits are beyond them, instead of values above.
    """

    measure: str
    check: float
    failed: float
    reason: Callable[[QualityMeasures], str]
    suggestion: str
    lower_is_worse: bool = False

    def exceeded(self, measures: QualityMeasures, limit: float) -> bool:
        """Whether a measure is beyond a limit."""
        value = getattr(measures, self.measure)
        return bool(value < limit if self.lower_is_worse else value > limit)


_ALIGNMENT = (
    "Inspect the moved image; try another --init, or give masks of the part that both images show."
)

CRITERIA = (
    Criterion(
        "foreground_inside_fraction",
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
        check=0.02,
        failed=0.04,
        reason=lambda m: (
            "repeated registrations from perturbed starts end "
            f"{length_text(m.restart_disagreement_mm, 0)} mm away"
        ),
        suggestion=_ALIGNMENT,
    ),
    Criterion(
        "max_affine_scale",
        check=1.35,
        failed=1.6,
        reason=lambda m: (
            f"the affine part enlarges or shrinks the image by a factor of {m.max_affine_scale:.2f}"
        ),
        suggestion=(
            "Try --kind rigid or --kind similarity, or correct the voxel sizes in the headers."
        ),
    ),
    Criterion(
        "similarity_margin_sd",
        check=6.0,
        failed=2.0,
        reason=lambda m: "the similarity is barely better than at perturbed transforms",
        suggestion=_ALIGNMENT,
        lower_is_worse=True,
    ),
    Criterion(
        "content_volume_factor",
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
        check=0.1,
        failed=2.0,
        reason=lambda m: f"{m.folding_pct:.2f}% of the voxels are folded",
        suggestion=(
            "Increase deformable.field_sigma_vox in a --config file, or try --kind affine."
        ),
    ),
    Criterion(
        "max_abs_log_jacobian",
        check=4.0,
        failed=math.inf,
        reason=lambda m: (
            "the local volume changes by a factor of up to "
            f"{math.exp(m.max_abs_log_jacobian):.0f}"
            + (", or the transform folds" if m.folding_pct > 0 else "")
        ),
        suggestion=(
            "The deformation may be fitting noise: inspect the moved image or try --kind affine."
        ),
    ),
)
"""The limits, most important first; set on 116 registrations and tested on 204 others."""


def assess_quality(measures: QualityMeasures) -> Quality:
    """The status of a registration: that of the first criterion whose limit is exceeded.

    Limits for ``failed`` are tested before those for ``check``.

    Args:
        measures: the result of `measure_quality`.
    """
    for status in ("failed", "check"):
        for criterion in CRITERIA:
            limit = criterion.failed if status == "failed" else criterion.check
            if criterion.exceeded(measures, limit):
                return Quality(status, criterion.reason(measures), criterion.suggestion, measures)
    reason = (
        "repeated registrations from perturbed starts agree within "
        f"{length_text(measures.restart_disagreement_mm, 1)} mm, "
        f"{measures.foreground_inside_fraction:.0%} of the smaller image's foreground lies inside "
        "the other image, and no scaling or local volume change is implausible"
    )
    return Quality("good", reason, "", measures)
