"""The structures of a pair: alignment, masks and whether both heads are one subject's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stn3d import kernels, register
from stn3d.choices import LinearKind
from stn3d.grid import Grid, homogeneous
from stn3d.nets.head_structures import HeadStructures
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.structures import PairStructures, structures_of
from stn3d.structures import STRUCTURES, classes_of_groups
from stn3d.transforms import Affine, DisplacementField
from tests.nets.test_head_structures import GRID, QUALITY, classes_of, structures

TISSUES = (classes_of_groups("white matter"), classes_of_groups("cortex", "deep grey"))


def head(classes: Tensor, grid: Grid) -> HeadStructures:
    """Structures on a grid, with their tissues."""
    plain = structures(classes)
    tissues = torch.zeros(1, 3, *grid.shape)
    for channel, numbers in enumerate(TISSUES):
        tissues[:, channel] = (classes[:, 0, ..., None] == torch.tensor(numbers)).any(-1).float()
    return replace(plain, grid=grid, tissues=tissues)


def images(fixed_mask: Tensor | None = None) -> Pair:
    values = torch.rand(1, 1, *GRID.shape)
    return Pair(PreparedImage(values, GRID, fixed_mask), PreparedImage(values, GRID))


def moved(linear: Tensor, shift_mm: tuple[float, ...]) -> tuple[PairStructures, Affine]:
    """A head, and the same head whose grid was moved; and the transform between both."""
    truth = Affine.from_matrix(homogeneous(linear, torch.tensor(shift_mm).double()))
    classes = classes_of()
    grid = Grid(GRID.shape, truth.matrix @ GRID.world_from_index)
    return PairStructures(head(classes, GRID), head(classes, grid), images()), truth


def rotation(degrees: float) -> Tensor:
    angle = torch.deg2rad(torch.tensor(degrees).double())
    c, s = float(torch.cos(angle)), float(torch.sin(angle))
    return torch.tensor([[1.0, 0, 0], [0, c, -s], [0, s, c]]).double()


@pytest.mark.parametrize(
    ("kind", "linear"),
    [
        ("rigid", rotation(170.0)),
        ("similarity", 1.2 * rotation(-60.0)),
        ("affine", rotation(35.0) @ torch.diag(torch.tensor([1.1, 0.9, 1.0]).double())),
    ],
)
def test_structures_align_a_head_from_any_pose(kind: LinearKind, linear: Tensor) -> None:
    pair, truth = moved(linear, (40.0, -70.0, 15.0))
    found = pair.aligned(kind)
    points = GRID.points_mm()[classes_of(skull=False)[0, 0] > 0]
    assert float((found(points) - truth(points)).norm(dim=1).max()) < 0.5
    assert pair.aligned(kind) is found
    assert not pair.is_worse(truth, found)
    assert pair.is_worse(Affine.identity(3), found)


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


def test_a_deformation_that_destroys_the_alignment_is_not_selected() -> None:
    pair, truth = moved(rotation(20.0), (5.0, 0.0, 0.0))
    assert pair.without_deformation(truth, truth) is None
    points = GRID.points_mm() - GRID.centre_mm
    outwards = points * 0.4 * (1 - (points.norm(dim=-1, keepdim=True) / 50).clamp(max=1))
    field = DisplacementField(outwards.movedim(-1, 0)[None].float(), GRID)
    selected = pair.without_deformation(field.then(truth), truth)
    assert selected is not None
    assert selected.choice == "affine"
    assert "instead of 1.00" in selected.reason


def test_heads_that_are_not_seen_together_have_no_overlap() -> None:
    known = head(classes_of(), GRID)
    pair = PairStructures(known, replace(known, seen=torch.zeros_like(known.seen)), images())
    assert pair.dice(Affine.identity(3)) is None
    assert pair.is_worse(Affine.identity(3), Affine.identity(3))


def test_only_the_image_with_a_skull_gets_a_mask() -> None:
    whole, stripped = head(classes_of(), GRID), head(classes_of(skull=False), GRID)
    for fixed, moving, role in (
        (whole, stripped, "fixed"),
        (stripped, whole, "moving"),
        (whole, whole, None),
        (stripped, stripped, None),
    ):
        pair = PairStructures(fixed, moving, images())
        assert pair.with_skull == role
        masked = pair.masked(images())
        for one in ("fixed", "moving"):
            mask = getattr(masked, one).mask
            assert (mask is not None) == (one == role)
    excluded = torch.ones(1, 1, *GRID.shape)
    excluded[:, :, :24] = 0
    mask = PairStructures(whole, stripped, images()).masked(images(excluded)).fixed.mask
    assert mask is not None
    assert not bool(mask[:, :, :24].any())
    brain = classes_of(skull=False) > 0
    assert bool(mask[:, :, 24:][brain[:, :, 24:]].all())


def test_structures_are_found_once_and_a_reason_is_given_where_they_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[PreparedImage] = []
    known = head(classes_of(), GRID)
    unknown = replace(known, quality=replace(QUALITY, status="failed", reason="no brain was found"))
    answers: list[HeadStructures] = []

    def find(image: PreparedImage) -> HeadStructures:
        asked.append(image)
        return answers[len(asked) - 1]

    monkeypatch.setattr("stn3d.nets.head_structures.head_structures", find)
    answers += [known, known, known, unknown]
    pair = images()
    first = structures_of(pair)
    assert isinstance(first, PairStructures)
    assert structures_of(pair) is first
    assert asked == [pair.fixed, pair.moving]
    reason = structures_of(images())
    assert isinstance(reason, str)
    assert "does not know what the moving image shows: no brain was found" in reason
    monkeypatch.setattr(
        "stn3d.nets.head_structures.segmentation_shortage", lambda: "2 GB and 1 GB are left"
    )
    assert structures_of(images()) == "the segmentation network needs 2 GB and 1 GB are left"


# -- real heads -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_stripped_brain_is_aligned_with_another_persons_whole_head(shared_data: Path) -> None:
    """Mutual information ended upside down; no truth is known, so the overlap must be that of
    aligned heads, and the rotation one that two people may have in their scanners."""
    whole = shared_data / "head_natives" / "inputs" / "T1w2mm.nii.gz"
    stripped = shared_data / "contrasts" / "p07_t2.nii.gz"
    found = register(whole, stripped, kind="affine")
    measures = found.metrics["quality"]["measures"]
    assert found.metrics["initial_candidates"][0]["name"] == "structures"
    assert found.metrics["auto_selected"]["region"]["choice"] == "brain of the fixed image"
    assert "the linear stages compare" in found.metrics["auto_selected"]["features"]["reason"]
    assert measures["structure_dice_mean"] > 0.7
    assert all(
        abs(angle) < 20 for angle in found.metrics["linear_parameters"]["rotation_deg"].values()
    )
    assert found.metrics["quality"]["status"] == "good"
