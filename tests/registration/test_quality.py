"""The status follows from the measures and their limits."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import pytest

from stn3d.registration.quality import assess_quality
from stn3d.registration.quality_criteria import CRITERIA
from stn3d.registration.quality_measures import QualityMeasures
from tests.helpers.paths import ROOT

SOUND = QualityMeasures(
    restart_disagreement_fraction=0.004,
    restart_disagreement_mm=0.8,
    similarity_margin_sd=30.0,
    untested=(),
    foreground_inside_fraction=1.0,
    mirror_advantage_fraction=-0.1,
    max_affine_scale=1.05,
    folding_pct=0.0,
    abs_log_jacobian_p999=0.5,
    max_abs_log_jacobian=0.7,
    log_jacobian_extreme_at_mm=(1.0, 2.0, -3.0),
    content_volume_ratio=1.02,
)


def test_sound_measures_are_good_and_need_no_suggestion() -> None:
    quality = assess_quality(SOUND)
    assert (quality.status, quality.suggestion) == ("good", "")
    assert "0.8 mm" in quality.reason
    as_json = json.loads(json.dumps(quality.as_dict()))
    assert as_json["measures"] == json.loads(json.dumps(dataclasses.asdict(SOUND)))
    assert as_json["warnings"] == []


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"foreground_inside_fraction": 0.05}, "failed", "5%"),
        ({"foreground_inside_fraction": 0.25}, "check", "25%"),
        (
            {"restart_disagreement_fraction": 0.2, "restart_disagreement_mm": 40.0},
            "failed",
            "40 mm",
        ),
        ({"restart_disagreement_fraction": 0.03, "restart_disagreement_mm": 6.0}, "check", "6 mm"),
        ({"max_affine_scale": 3.0, "similarity_margin_sd": 5.0}, "failed", "3.00"),
        ({"max_affine_scale": 3.0, "restart_disagreement_fraction": None}, "failed", "3.00"),
        ({"max_affine_scale": 3.0}, "check", "3.00"),
        ({"max_affine_scale": 1.5}, "check", "1.50"),
        ({"similarity_margin_sd": 0.5}, "failed", "barely better"),
        ({"similarity_margin_sd": 4.0}, "check", "barely better"),
        (
            {"content_volume_ratio": 1.5},
            "check",
            "enlarges the content as a whole by a factor of 1.50",
        ),
        (
            {"content_volume_ratio": 0.4},
            "failed",
            "shrinks the content as a whole by a factor of 2.50",
        ),
        (
            {"expected_error_units": 2.4, "expected_error_mm": 4.8},
            "check",
            "expected in the body is 4.8 mm on average",
        ),
        (
            {"expected_error_units": 6.5, "expected_error_mm": 12.0},
            "check",
            "expected in the body is 12.0 mm on average",
        ),
        (
            {"remaining_displacement_mm": 8.0, "remaining_displacement_fraction": 0.95},
            "check",
            "displacements of 8.0 mm on average, 95% of what it finds without the registration",
        ),
        ({"folding_pct": 5.0}, "failed", "5.00%"),
        ({"folding_pct": 0.5}, "check", "0.50%"),
        ({"abs_log_jacobian_p999": 3.5}, "check", "factor of 33 or more, most at (1, 2, -3) mm"),
        ({"mirror_advantage_fraction": 0.3}, "check", "left and right exchanged"),
        ({"landmark_error_fraction": 0.03}, "check", "3.0% of the image size"),
        ({"landmark_increase_fraction": 0.012}, "check", "farther apart than without the registr"),
        ({"max_landmark_error_fraction": 0.08}, "check", "8.0% of the image size"),
        (
            {"restart_disagreement_fraction": None, "restart_disagreement_mm": None},
            "check",
            "cannot be tested",
        ),
    ],
)
def test_one_bad_measure_is_enough(change: dict[str, float], status: str, reason: str) -> None:
    quality = assess_quality(dataclasses.replace(SOUND, **change))
    assert quality.status == status
    assert reason in quality.reason
    assert quality.suggestion.endswith(".")


def test_the_limits_on_the_page_are_those_of_the_criteria() -> None:
    page = (ROOT / "docs" / "quality.md").read_text(encoding="utf8")
    rows = re.findall(r"^\| `(\w+)` \| ([<>]) ([-\d.]+) \| (?:[<>] ([-\d.]+)|never) \|", page, re.M)
    found = [(name, sign, float(a), float(b or math.inf)) for name, sign, a, b in rows]
    assert found == [
        (c.measure, "<" if c.lower_is_worse else ">", c.check, c.failed) for c in CRITERIA
    ]


def test_a_failure_outweighs_what_should_only_be_checked() -> None:
    measures = dataclasses.replace(SOUND, foreground_inside_fraction=0.25, folding_pct=5.0)
    assert assess_quality(measures).status == "failed"


def test_structures_are_the_better_test_of_a_deformation() -> None:
    unsure = dataclasses.replace(SOUND, expected_error_units=6.5, expected_error_mm=12.0)
    known = dataclasses.replace(unsure, structure_dice_mean=0.8)
    assert (assess_quality(unsure).status, assess_quality(known).status) == ("check", "good")


def test_a_single_voxel_does_not_decide() -> None:
    clipped = dataclasses.replace(SOUND, max_abs_log_jacobian=6.9)
    assert assess_quality(clipped).status == "good"


def test_what_cannot_be_told_is_no_failure_and_is_reported() -> None:
    unknown = dataclasses.replace(
        SOUND, similarity_margin_sd=None, untested=("rotation about x", "translation along z")
    )
    quality = assess_quality(unknown)
    assert quality.status == "good"
    (warning,) = quality.warnings
    assert "rotation about x, translation along z" in warning


CAUGHT = dataclasses.replace(
    SOUND,
    restart_disagreement_fraction=0.1,
    restart_excess_fraction=0.09,
    mirror_advantage_fraction=-0.25,
)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, "check"),
        ({"restart_excess_fraction": 0.01}, "failed"),  # the images fit as well there
        ({"restart_excess_fraction": None}, "failed"),
        ({"mirror_advantage_fraction": -0.08}, "failed"),  # as of unrelated images
        ({"similarity_margin_sd": 9.0}, "failed"),  # as of other parts of the body
        ({"max_affine_scale": 1.7}, "failed"),
    ],
)
def test_repeated_registrations_that_are_caught_elsewhere_are_no_failure(
    change: dict[str, float], status: str
) -> None:
    quality = assess_quality(dataclasses.replace(CAUGHT, **change))
    assert quality.status == status


@pytest.mark.parametrize(
    ("advantage", "warns"), [(-0.001, False), (0.0, True), (0.03, True), (0.05, True)]
)
def test_a_mirrored_image_that_fits_as_well_is_a_warning(advantage: float, warns: bool) -> None:
    quality = assess_quality(dataclasses.replace(SOUND, mirror_advantage_fraction=advantage))
    assert bool(quality.warnings) == warns
    assert quality.status == ("check" if advantage > 0.06 else "good")
