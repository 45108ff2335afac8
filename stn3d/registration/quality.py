"""Automatic quality check of a registration: a status from measures and their limits.

docs/quality.md documents the limits with examples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stn3d.length_unit import length_text
from stn3d.registration.quality_criteria import AS_WELL_MIRRORED, CRITERIA, MIRRORED, Status
from stn3d.registration.quality_measures import QualityMeasures

_UNTESTED = "Inspect the moved image."


@dataclass(frozen=True)
class Quality:
    """The quality status of a registration.

    Args:
        status: ``good``, ``check`` (inspect the result) or ``failed``.
        reason: the measure that decided, in words.
        suggestion: what to try next; empty if the status is ``good``.
        measures: the measures that the status is derived from.
        warnings: what the status does not say: left and right may be exchanged, or a part of the
            alignment could not be tested.
    """

    status: Status
    reason: str
    suggestion: str
    measures: QualityMeasures
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The fields as a dictionary for JSON."""
        return dataclasses.asdict(self)


def assess_quality(measures: QualityMeasures) -> Quality:
    """The status of a registration: that of the first criterion whose limit is exceeded.

    Limits for ``failed`` are tested before those for ``check``.

    Args:
        measures: the result of `measure_quality`.
    """
    warnings = tuple(_warnings(measures))
    statuses: tuple[Status, ...] = ("failed", "check")
    for status in statuses:
        for criterion in CRITERIA:
            if criterion.exceeded(measures, status):
                reason = criterion.reason(measures)
                return Quality(status, reason, criterion.suggestion, measures, warnings)
    if measures.restart_disagreement_mm is None:
        reason = "the alignment cannot be tested, because the images show too little to perturb it"
        return Quality("check", reason, _UNTESTED, measures, warnings)
    reason = (
        "repeated registrations from perturbed starts agree within "
        f"{length_text(measures.restart_disagreement_mm, 1)} mm, "
        f"{measures.foreground_inside_fraction:.0%} of the smaller image's foreground lies inside "
        "the other image, and no scaling or local volume change is implausible"
    )
    return Quality("good", reason, "", measures, warnings)


def _warnings(measures: QualityMeasures) -> Iterator[str]:
    """What the status does not say."""
    advantage = measures.mirror_advantage_fraction
    if advantage is not None and advantage > AS_WELL_MIRRORED:
        yield f"the images fit as well or better with left and right exchanged. {MIRRORED}"
    if measures.untested:
        listed = ", ".join(measures.untested)
        yield f"the images show too little to test the result along all axes; not tested: {listed}."
