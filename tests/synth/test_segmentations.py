"""Synthetic segmentations: reproducible, mirrored with their sides, and consistent with images."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.structures import classes_of_ids, mirrored_classes
from stn3d.synth import (
    AcquisitionSettings,
    RandomAffine,
    RandomDeformation,
    SegmentationSettings,
    Subject,
    SyntheticSegmentations,
    make_subject,
)

PLAIN = AcquisitionSettings(
    modality_probability=0,
    skull_strip_probability=0,
    cropped_fov_probability=0,
    thick_slice_probability=0,
    bright_background_probability=0,
)
SMALL = SegmentationSettings(shape=(24, 28, 26), spacing_mm=6.0)
STILL = replace(
    SMALL,
    pose=RandomAffine(),
    anatomy=RandomDeformation(amplitude_mm=0),
    acquisition=PLAIN,
)


def head() -> Subject:
    """A box with white matter, an off-centre left hippocampus, and skin around it, 2 mm."""
    labels = torch.zeros(62, 72, 68, dtype=torch.int16)
    labels[3:59, 3:69, 3:65] = 511
    labels[8:54, 8:64, 8:60] = 41  # right, so that the left half remains to be set
    labels[8:31, 8:64, 8:60] = 2
    labels[12:20, 30:42, 15:25] = 17
    labels[38:50, 40:50, 30:40] = 53
    matrix = torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0])).double()
    return make_subject(labels, Grid(tuple(labels.shape), matrix))


def test_samples_are_functions_of_seed_and_index() -> None:
    first, second = (SyntheticSegmentations([head()], SMALL, seed=3) for _ in range(2))
    assert all(torch.equal(first[4][key], second[4][key]) for key in ("image", "classes"))
    assert not torch.equal(first[4]["image"], first[5]["image"])
    assert not torch.equal(
        first[4]["image"], SyntheticSegmentations([head()], SMALL, seed=4)[4]["image"]
    )
    sample = first[4]
    assert sample["image"].shape == sample["classes"].shape == (1, *SMALL.shape)
    assert (sample["image"].dtype, sample["classes"].dtype) == (torch.float32, torch.uint8)


def test_a_mirrored_head_has_its_sides_exchanged() -> None:
    plain, mirrored = (
        SyntheticSegmentations([head()], replace(STILL, mirror_probability=p))[0]["classes"]
        for p in (0.0, 1.0)
    )
    present = {int(classes_of_ids(600)[i]) for i in (0, 2, 41, 17, 53, 511)}
    assert set(plain.unique().tolist()) == set(mirrored.unique().tolist()) == present
    assert torch.equal(mirrored_classes()[plain.long()].flip(1), mirrored.long())
    # right is where x is positive, before and after
    left = plain == int(classes_of_ids(600)[17])
    assert float(left[0].nonzero()[:, 0].float().mean()) < SMALL.shape[0] / 2


def test_removed_tissue_is_background() -> None:
    stripped = replace(PLAIN, skull_strip_probability=1, rough_mask_probability=0, max_blur_mm=0)
    skin = int(classes_of_ids(600)[511])
    for acquisition, shown in ((PLAIN, True), (stripped, False)):
        settings = replace(STILL, acquisition=acquisition, mirror_probability=0)
        sample = SyntheticSegmentations([head()], settings)[0]
        assert bool((sample["classes"] == skin).any()) == shown
    dark = sample["image"][sample["classes"] == 0]
    assert float(dark.median()) < 0.1 * float(sample["image"].max())


def test_lesions_change_the_white_matter_only() -> None:
    quiet = replace(PLAIN, max_std=0, max_noise=0, max_blur_mm=0, max_bias=0, max_gamma=0)
    settings = replace(STILL, acquisition=quiet, mirror_probability=0, points_per_voxel=1)
    white = set(classes_of_ids(600)[[2, 41]].tolist())
    for lesions in (0.0, 1.0):
        acquisition = replace(quiet, lesion_probability=lesions)
        heads = SyntheticSegmentations([head()], replace(settings, acquisition=acquisition))
        varied = set()
        for sample in (heads[index] for index in range(6)):
            for number in sample["classes"].unique().tolist():
                values = sample["image"][sample["classes"] == number]
                varied |= {number} if float(values.std()) > 0.02 else set()
        assert varied == (white if lesions == 1 else set())


def test_label_maps_of_other_parts_are_refused() -> None:
    labels = torch.full((20, 20, 20), 201, dtype=torch.int16)
    with pytest.raises(InputError, match="none of the structures"):
        SyntheticSegmentations([make_subject(labels, Grid.of_spacing(labels.shape))], SMALL)
