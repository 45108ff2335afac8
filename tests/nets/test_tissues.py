"""Tissues from the network's probabilities and the image's intensities."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from stn3d import kernels
from stn3d.grid import Grid
from stn3d.nets import tissues
from stn3d.nets.segmenter import Segmentation
from stn3d.nets.tissues import (
    GREY_MATTER,
    WHITE_MATTER,
    TissueSettings,
    contrast_of,
    expected_tissues,
    sharp_classes,
    tissue_probabilities,
)
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.structures import STRUCTURES

WHITE, GREY, OUTSIDE = 4, 6, 0  # left cerebral white matter, left cortex, background
SHAPE = (36, 34, 32)


def folded() -> Tensor:
    """Classes of a ball of 29 mm with a folded border between white and grey matter, at 2 mm."""
    grid = Grid.of_spacing(SHAPE, 2.0)
    points = grid.points_mm() - grid.centre_mm
    radius = torch.linalg.vector_norm(points, dim=-1)
    waves = 4 * torch.sin(points[..., 0] / 4) * torch.cos(points[..., 1] / 4)
    classes = torch.where(radius + waves < 20, WHITE, GREY)
    return torch.where(radius < 29, classes, OUTSIDE)


def segmentation(classes: Tensor, blur_vox: float) -> Segmentation:
    """Probabilities of these classes, as blurred as those of a network on a coarse grid."""
    probabilities = torch.zeros(1, len(STRUCTURES), *classes.shape)
    for number in (WHITE, GREY, OUTSIDE):
        probabilities[:, number] = (classes == number).float()
    blurred = kernels.gaussian_smooth(probabilities, [blur_vox] * 3)
    return Segmentation(blurred, Grid.of_spacing(SHAPE, 2.0), torch.ones(1, 1, *SHAPE))


def image(classes: Tensor, white: float, grey: float, tilt: float = 0.0) -> PreparedImage:
    """An image with noise and a brightness that changes along the first axis."""
    values = white * (classes == WHITE) + grey * (classes == GREY)
    bias = 1 + tilt * torch.linspace(-1, 1, SHAPE[0])[:, None, None]
    noise = 0.02 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    return PreparedImage((values * bias + noise)[None, None].float(), Grid.of_spacing(SHAPE, 2.0))


def tissues_of(
    one: PreparedImage, found: Segmentation, settings: TissueSettings | None = None
) -> Tensor:
    return tissue_probabilities(one, expected_tissues(found), found.grid, settings)


def dice(a: Tensor, b: Tensor) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.parametrize(("white", "grey"), [(0.8, 0.5), (0.35, 0.6)])
def test_tissues_are_sharper_than_the_networks_in_any_contrast(white: float, grey: float) -> None:
    classes = folded()
    found = segmentation(classes, 3.0)
    network = found.probabilities[0, WHITE] > found.probabilities[0, GREY]
    expected = tissues_of(image(classes, white, grey, tilt=0.3), found)
    sharp = expected[0, 0] > expected[0, 1]
    inside = classes != OUTSIDE
    before, after = (dice(one & inside, classes == WHITE) for one in (network, sharp))
    assert before < 0.94
    assert after > 0.97


@pytest.mark.parametrize(("white", "grey"), [(0.8, 0.5), (0.35, 0.6)])
def test_structures_have_the_edges_of_the_image(
    white: float, grey: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slab by slab too, as fine images are computed; on the left and right, and outside."""
    classes = folded()
    classes[: SHAPE[0] // 2] += (classes[: SHAPE[0] // 2] != OUTSIDE).long()  # the right side
    probabilities = torch.nn.functional.one_hot(classes, len(STRUCTURES)).movedim(-1, 0)[None]
    blurred = kernels.gaussian_smooth(probabilities.float(), [2.0] * 3)
    found = replace(segmentation(classes, 1.0), probabilities=blurred)
    one = image(folded(), white, grey, tilt=0.3)
    sharp, network = sharp_classes(one, found), found.classes_on(one.grid)
    for number in (WHITE, WHITE + 1, GREY, GREY + 1):
        before, after = (dice(x[0, 0] == number, classes == number) for x in (network, sharp))
        assert after > max(0.93, before + 0.02)
    assert float(((sharp == OUTSIDE) != (network == OUTSIDE)).float().mean()) < 0.02
    monkeypatch.setattr(tissues, "_VOXELS", 5000)
    assert float((sharp_classes(one, found) != sharp).float().mean()) < 1e-4


def test_tissues_are_probabilities_and_0_outside_the_brain() -> None:
    classes = folded()
    found = tissues_of(image(classes, 0.8, 0.5), segmentation(classes, 1.0))
    assert found.shape == (1, 3, *SHAPE)
    assert float(found.min()) >= 0
    assert float(found.sum(dim=1).max()) <= 1 + 1e-5
    assert float(found[0, :, 0].max()) == 0


def test_two_contrasts_of_one_brain_give_the_same_image() -> None:
    classes = folded()
    found = segmentation(classes, 3.0)
    t1, t2 = (
        contrast_of(tissues_of(image(classes, *levels), found))[0, 0]
        for levels in ((0.8, 0.5), (0.35, 0.6))
    )
    inside = classes != OUTSIDE
    assert float((t1 - t2).abs()[inside].mean()) < 0.08
    for number, value in ((WHITE, WHITE_MATTER), (GREY, GREY_MATTER)):
        assert float(t1[classes == number].median()) == pytest.approx(value, abs=0.05)


def test_tissues_do_not_depend_on_the_order_and_direction_of_the_axes() -> None:
    classes = folded()
    found, straight = segmentation(classes, 2.0), image(classes, 0.8, 0.5)
    turned = torch.tensor(
        [[0, 0, 2.0, 0], [-2.0, 0, 0, 2.0 * (SHAPE[1] - 1)], [0, 2.0, 0, 0], [0, 0, 0, 1]]
    ).double()
    values = straight.image.permute(0, 1, 3, 4, 2).flip(2).contiguous()
    other = PreparedImage(values, Grid((SHAPE[1], SHAPE[2], SHAPE[0]), turned))
    settings = TissueSettings(iterations=2)
    a = tissues_of(straight, found, settings)
    b = tissues_of(other, found, settings)
    b = b.flip(2).permute(0, 1, 4, 2, 3)
    assert float((a - b).abs().mean()) < 5e-3  # other voxels fit the Gaussians


def test_an_image_without_a_brain_has_no_tissues() -> None:
    classes = torch.zeros(SHAPE).long()
    found = tissues_of(image(folded(), 0.8, 0.5), segmentation(classes, 1.0))
    assert float(found.abs().max()) == 0


def test_only_the_first_channel_is_read() -> None:
    classes = folded()
    one = image(classes, 0.8, 0.5)
    both = replace(one, image=torch.cat([one.image, torch.rand_like(one.image)], dim=1))
    found = segmentation(classes, 2.0)
    assert torch.equal(tissues_of(one, found), tissues_of(both, found))
