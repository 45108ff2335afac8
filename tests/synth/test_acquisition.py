"""Simulated acquisition: skull stripping, field of view."""

from __future__ import annotations

from dataclasses import replace

from stn3d import kernels
from stn3d.synth import (
    AcquisitionSettings,
    PairSettings,
    Subject,
    SyntheticPairs,
)

PLAIN = AcquisitionSettings(
    skull_strip_probability=0,
    cropped_fov_probability=0,
    thick_slice_probability=0,
    bright_background_probability=0,
)


SMALL = PairSettings(
    shape=(40, 48, 44), spacing_mm=4.0, inter_subject_probability=0, acquisition=PLAIN
)


def test_a_skull_stripped_image_shows_only_the_brain(heads: list[Subject]) -> None:
    bare = replace(PLAIN, skull_strip_probability=1, rough_mask_probability=0)
    for index in range(3):
        sample = SyntheticPairs(heads, replace(SMALL, acquisition=bare))[index]
        for role in ("fixed", "moving"):
            brain = sample[f"{role}_labels"] > 0
            near = kernels.box_sum(brain.float()[None], [1, 1, 1])[0] > 0
            assert sample[f"{role}_labels"].max() < 500
            assert sample[role][brain].mean() > 0.1
            assert not sample[role][~near].any()
            assert bool((sample[f"{role}_weight"] == 1).all())


def test_images_are_zero_outside_the_field_of_view(heads: list[Subject]) -> None:
    cut = replace(PLAIN, cropped_fov_probability=1)
    for index in range(3):
        sample = SyntheticPairs(heads, replace(SMALL, acquisition=cut))[index]
        for role in ("fixed", "moving"):
            beyond = sample[f"{role}_weight"] == 0
            assert beyond.any()
            assert not beyond.all()
            assert not sample[role][beyond].any()
            assert not sample[f"{role}_labels"][beyond].any()
