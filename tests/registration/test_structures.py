"""The structures of a pair: alignment, masks and whether both heads are one subject's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stn3d import register
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


def test_the_mirrored_head_is_aligned_with_its_sides_exchanged() -> None:
    pair, truth = moved(rotation(25.0), (3.0, 40.0, -8.0))
    points = GRID.points_mm()[classes_of(skull=False)[0, 0] > 0]
    found = pair.mirrored.aligned("rigid")
    # The ball of the tests is symmetric about the middle of its grid.
    middle_mm = torch.tensor([2 * float(GRID.centre_mm[0]), 0, 0]).double()
    assert float((found(points - middle_mm) - truth(points)).norm(dim=1).max()) < 0.5
    side = torch.tensor([{"left": -1, "right": 1, "": 0}[one.side] for one in STRUCTURES])
    mirrored = pair.mirrored.fixed
    x_mm = mirrored.grid.points_mm()[..., 0] + float(GRID.centre_mm[0])
    assert bool(((side[mirrored.classes[0, 0].long()] * x_mm) >= 0).all())


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
