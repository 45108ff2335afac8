"""Whether two heads are of one subject: folds, noise, thick slices, templates."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from stn3d import kernels
from stn3d.grid import Grid, homogeneous
from stn3d.nets.head_structures import HeadStructures
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration import subjects
from stn3d.registration.structures import PairStructures
from stn3d.registration.subjects import TissueAgreement, select_subjects, tissue_agreement
from stn3d.structures import STRUCTURES, mirrored_classes
from stn3d.transforms import Affine
from tests.nets.test_head_structures import GRID, classes_of
from tests.registration.test_structures import head

# From the head mirrored about x = 0 to the one mirrored about the middle of its grid.
BACK = Affine.from_matrix(
    homogeneous(torch.eye(3).double(), 2 * GRID.centre_mm * torch.tensor([1.0, 0, 0]))
)


def folded(seed: int) -> Tensor:
    """Classes of the head of the tests with white matter and cortex in folds of about 8 mm."""
    noise = torch.randn(1, 1, *GRID.shape, generator=torch.Generator().manual_seed(seed))
    folds = kernels.gaussian_smooth(noise, [1.5] * 3) > 0
    brain = classes_of(skull=False) > 0
    left = (GRID.points_mm()[..., 0] < float(GRID.centre_mm[0]))[None, None]
    white, cortex = torch.where(left, 4, 5), torch.where(left, 6, 7)
    names = STRUCTURES[4].name, STRUCTURES[6].name
    assert names == ("cerebral white matter", "cerebral cortex")
    return torch.where(brain, torch.where(folds, white, cortex), 0).to(torch.uint8)


def of_contrast(
    classes: Tensor, white: float, grey: float, noise_sd: float = 0.02
) -> tuple[PreparedImage, HeadStructures]:
    """An image, and structures whose tissues are as blurred as the network's."""
    is_white = (classes == 4) | (classes == 5)
    values = torch.where(is_white, white, torch.where(classes > 0, grey, 0.0))
    noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(9))
    sharp = head(classes, GRID)
    blurred = kernels.gaussian_smooth(sharp.tissues, [1.0] * 3)
    return PreparedImage(values + noise_sd * noise, GRID), replace(sharp, tissues=blurred)


@pytest.mark.parametrize(("seed", "choice"), [(1, "one"), (2, "two")])
def test_folds_distinguish_one_subject_from_two_in_any_contrast(seed: int, choice: str) -> None:
    t1, fixed = of_contrast(folded(1), 0.8, 0.5)
    t2, moving = of_contrast(folded(seed), 0.35, 0.65)
    pair = PairStructures(fixed, moving, Pair(t1, t2))
    pair.__dict__["_aligned"]["affine"] = Affine.identity(3)
    assert pair.subjects is not None
    assert pair.subjects.choice == choice
    correlation = pair.subjects.evidence["tissue_correlation"]
    displaced = pair.subjects.evidence["tissue_displaced_r2_fraction"]
    assert f"{correlation:.2f}" in pair.subjects.reason
    assert f"{displaced:.0%}" in pair.subjects.reason
    if choice == "one":
        assert correlation > 0.9
        assert displaced < 0.3
    else:
        assert correlation < 0.5
        assert displaced > 0.8
    assert replace(pair, is_ct=True).subjects is None
    large = replace(t1, grid=Grid.of_spacing(GRID.shape, 3.0))
    assert replace(pair, images=Pair(large, t2)).subjects is None


@pytest.mark.parametrize(("seed", "choice"), [(1, "one"), (2, "two")])
def test_folds_distinguish_subjects_across_thick_slices_too(seed: int, choice: str) -> None:
    t1, fixed = of_contrast(folded(1), 0.8, 0.5)
    t2, moving = of_contrast(folded(seed), 0.35, 0.65)
    count = GRID.shape[2] // 4
    values = t2.image[..., : 4 * count].unflatten(-1, (count, 4)).mean(-1)
    grid = GRID.cropped([0, 0, 0], [*GRID.shape[:2], 4 * count]).with_shape(values.shape[2:])
    pair = PairStructures(fixed, moving, Pair(t1, PreparedImage(values, grid)))
    pair.__dict__["_aligned"]["affine"] = Affine.identity(3)
    assert pair.subjects is not None
    assert pair.subjects.choice == choice


@pytest.mark.parametrize(("seed", "choice"), [(1, "one"), (2, "two")])
def test_noise_does_not_make_one_subject_two(seed: int, choice: str) -> None:
    t1, fixed = of_contrast(folded(1), 0.8, 0.5)
    t2, moving = of_contrast(folded(seed), 0.35, 0.65, noise_sd=0.2)
    pair = PairStructures(fixed, moving, Pair(t1, t2))
    off = homogeneous(torch.eye(3).double(), torch.tensor([1.5, 0.0, 1.5]).double())
    pair.__dict__["_aligned"]["affine"] = Affine.from_matrix(off)
    assert pair.subjects is not None
    assert pair.subjects.choice == choice


@pytest.mark.parametrize("template", [False, True])
def test_folds_are_lost_in_the_mirrored_head_and_those_of_a_template_are_not(
    template: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subjects, "_PERHAPS_ONE", -2.0)
    monkeypatch.setattr(subjects, "_ONE_SUBJECT", 2.0)
    classes = folded(1)
    if template:  # symmetric; the right half of the head on both sides
        half = GRID.shape[0] // 2
        other = mirrored_classes()[classes.flip(2).long()].to(classes)
        classes = torch.cat([other[:, :, :half], classes[:, :, half:]], dim=2)
    (t1, fixed), (t2, moving) = of_contrast(classes, 0.8, 0.5), of_contrast(folded(1), 0.35, 0.65)
    pair = PairStructures(fixed, moving, Pair(t1, t2))
    pair.__dict__["_aligned"]["affine"] = Affine.identity(3)
    pair.mirrored.__dict__["_aligned"]["affine"] = BACK
    found = tissue_agreement(pair.heads)
    assert found.is_doubtful
    assert found.sided_fraction is not None
    assert abs(found.sided_fraction - (0.0 if template else 1.0)) < 0.15
    assert found.is_one_subject != template


@pytest.mark.parametrize(
    ("correlation", "displaced", "mirrored", "is_one"),
    [
        (0.69, 0.45, None, True),  # medians of one subject's heads and of two subjects'
        (0.40, 0.74, None, False),
        (0.65, 0.64, 0.85, True),  # sagittal slices of 6 mm with much noise
        (0.52, 0.51, 0.92, False),  # MNI152 and a head
        (0.65, 0.64, None, False),  # not compared with the mirrored head
        (0.30, 1.00, 0.90, False),  # no folds at all
    ],
)
def test_where_the_agreement_is_doubtful_the_mirrored_head_decides(
    correlation: float, displaced: float, mirrored: float | None, is_one: bool
) -> None:
    found = TissueAgreement(correlation, displaced, mirrored)
    assert found.is_one_subject is is_one


def test_a_doubtful_pair_says_what_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    t1, fixed = of_contrast(folded(1), 0.8, 0.5)
    t2, moving = of_contrast(folded(1), 0.35, 0.65)
    pair = PairStructures(fixed, moving, Pair(t1, t2))
    pair.__dict__["_aligned"]["affine"] = Affine.identity(3)
    certain = select_subjects(pair.heads)
    assert "tissue_mirrored_r2_fraction" not in certain.evidence
    monkeypatch.setattr(subjects, "_PERHAPS_ONE", -2.0)
    monkeypatch.setattr(subjects, "_ONE_SUBJECT", 2.0)
    pair.mirrored.__dict__["_aligned"]["affine"] = BACK
    doubtful = select_subjects(pair.heads)
    remaining = doubtful.evidence["tissue_mirrored_r2_fraction"]
    assert f"and {remaining:.0%} in the mirrored head" in doubtful.reason
    assert doubtful.choice == "one"


@pytest.mark.parametrize(
    ("blurred", "scale", "choice"), [(True, 1.03, "one"), (True, 1.06, "two"), (False, 1.0, "two")]
)
def test_blurred_heads_of_one_size_are_taken_to_be_one_subjects(
    blurred: bool, scale: float, choice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (t1, fixed), (t2, moving) = of_contrast(folded(1), 0.8, 0.5), of_contrast(folded(2), 0.35, 0.65)
    if blurred:
        t2 = replace(t2, image=kernels.gaussian_smooth(t2.image, [3.0] * 3))
    pair = PairStructures(fixed, moving, Pair(t1, t2))
    centre = GRID.centre_mm
    grown = homogeneous(scale * torch.eye(3).double(), (1 - scale) * centre)
    pair.__dict__["_aligned"]["affine"] = Affine.from_matrix(grown)
    pair.mirrored.__dict__["_aligned"]["affine"] = BACK
    found = select_subjects(pair.heads)
    assert found.choice == choice
    assert ("too blurred" in found.reason) == (choice == "one")
