"""Theta matrices: examples from the literature, and torch as reference."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d.grid import Grid
from stn3d.nets import warp_tensor
from stn3d.sampler import sample
from stn3d.transforms import Affine, Projective
from stn3d.transforms.normalised import (
    Ends,
    composed,
    from_theta,
    rotation,
    scaling,
    shear,
    to_theta,
    translation,
)
from tests.helpers.geometry_cases import DIMS, oblique, random


def warped(image: Tensor, theta: Tensor, ends: Ends = "centres") -> Tensor:
    """An image sampled by stn3d at a theta."""
    return warp_tensor(image, from_theta(theta, Grid.of_spacing(image.shape[2:]), ends=ends))


def by_the_formula(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """``V = sum U max(0, 1 - |x - m|) max(0, 1 - |y - n|)`` (eq. 5 of the paper)."""
    height, width = image.shape
    near_row = (1 - (rows[..., None] - torch.arange(height)).abs()).clamp(min=0)
    near_column = (1 - (columns[..., None] - torch.arange(width)).abs()).clamp(min=0)
    return torch.einsum("...n,...m,nm->...", near_row, near_column, image)


def test_the_sampler_equals_the_formula_of_the_paper() -> None:
    image = random(7, 9)
    at = torch.rand(50, 2).double() * torch.tensor([6.0, 8.0])
    expected = by_the_formula(image, at[:, 0], at[:, 1])
    actual = sample(image[None, None], at[None])[0, 0]
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


def test_the_identity_returns_the_image() -> None:
    image = torch.rand(2, 3, 8, 11)
    assert torch.equal(warped(image, translation(0.0, 0.0)), image)


def test_a_translation_by_a_half_moves_the_image_left() -> None:
    image = torch.zeros(1, 1, 5, 9)
    image[..., 2, 6] = 1.0
    left = warped(image, translation(0.5, 0.0))  # a quarter of the 8 steps from first to last
    expected = torch.zeros(1, 1, 5, 9)
    expected[..., 2, 4] = 1.0
    torch.testing.assert_close(left, expected, rtol=0, atol=1e-6)


def test_a_scale_of_a_half_magnifies_the_centre_twice() -> None:
    image = random(1, 1, 9, 9).float()
    large = warped(image, scaling(0.5, 0.5))
    torch.testing.assert_close(large[..., ::2, ::2], image[..., 2:7, 2:7], rtol=0, atol=1e-6)


def test_a_rotation_by_45_degrees() -> None:
    image = torch.zeros(1, 1, 21, 21)
    image[..., 10, 14] = 1.0  # 4 to the right of the centre
    theta = rotation(math.pi / 4)
    diagonal = warped(image, theta)
    where = torch.nonzero(diagonal[0, 0] > 0.3).float().mean(0)
    # theta rotates output points from x to y, so the image rotates the opposite way
    assert where[1] - 10 == pytest.approx(4 / math.sqrt(2), abs=0.5)
    assert where[0] - 10 == pytest.approx(-4 / math.sqrt(2), abs=0.5)
    source = from_theta(theta, Grid.of_spacing((21, 21)))(torch.tensor([[10.0, 14.0]]).double())
    torch.testing.assert_close(source - 10, torch.full((1, 2), 4 / math.sqrt(2)).double())


def test_the_4x4_example_samples_pixel_1_1_at_2_5_2_5() -> None:
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    theta = translation(1.0, 1.0)
    transform = from_theta(theta, Grid.of_spacing((4, 4)))
    source = transform(torch.tensor([[1.0, 1.0]]).double())
    torch.testing.assert_close(source, torch.tensor([[2.5, 2.5]]).double())
    mean = image[0, 0, 2:, 2:].mean()
    assert float(warped(image, theta)[0, 0, 1, 1]) == pytest.approx(float(mean))


def test_a_shear_moves_rows_by_their_height() -> None:
    transform = from_theta(shear(0.5, 0.0), Grid.of_spacing((5, 5)))
    rows = torch.tensor([[0.0, 2.0], [2.0, 2.0], [4.0, 2.0]]).double()
    expected = torch.tensor([[0.0, 1.0], [2.0, 2.0], [4.0, 3.0]]).double()
    torch.testing.assert_close(transform(rows), expected)


def test_thetas_compose_in_their_order() -> None:
    a, b = composed(scaling(0.5, 2.0), rotation(0.3)), translation(0.2, -0.4)
    point = torch.tensor([0.3, -0.7, 1.0]).double()
    first = torch.cat([a @ point, torch.ones(1).double()])
    torch.testing.assert_close(composed(a, b) @ point, b @ first)
    grid = Grid.of_spacing((6, 9))
    x = random(5, 2)
    both = from_theta(a, grid).then(from_theta(b, grid))
    torch.testing.assert_close(from_theta(composed(a, b), grid)(x), both(x))


def a_theta(d: int, batch: int = 2) -> Tensor:
    eye = torch.eye(d, d + 1).double()
    return eye + 0.2 * random(batch, d, d + 1)


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("ends", get_args(Ends))
def test_affine_grid_and_grid_sample_agree(ends: Ends, d: int) -> None:
    shape = (8, 11, 6)[:d]
    image, theta = random(2, 3, *shape), a_theta(d)
    corners = ends == "centres"
    grid = F.affine_grid(theta, [2, 3, *shape], align_corners=corners)
    expected = F.grid_sample(image, grid, padding_mode="border", align_corners=corners)
    ours = warped(image, theta, ends)
    points = from_theta(theta, Grid.of_spacing(shape), ends=ends)(
        Grid.of_spacing(shape).points_index().expand(2, *shape, d)
    )
    within = ((points > -0.5) & (points < torch.tensor(shape) - 0.5)).all(-1)
    gap = (ours - expected).abs().amax(1)
    assert float(gap[within].max()) < 1e-9
    assert float(within.double().mean()) > 0.4
    assert not ours.movedim(1, -1)[~within].any()  # 0 beyond the image


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("ends", get_args(Ends))
def test_a_theta_survives_conversion_to_world_space(ends: Ends, d: int) -> None:
    fixed, moving = oblique(d), Grid.of_spacing((9, 8, 7)[:d], 1.3)
    theta = a_theta(d)
    transform = from_theta(theta, fixed, moving, ends)
    assert isinstance(transform, Affine)
    torch.testing.assert_close(to_theta(transform, fixed, moving, ends), theta)
    square = torch.eye(d + 1).double() + 0.05 * random(d + 1, d + 1)
    square = square / square[-1, -1]
    projective = from_theta(square, fixed, moving, ends)
    assert isinstance(projective, Projective)
    torch.testing.assert_close(to_theta(projective, fixed, moving, ends), square)


def test_centres_of_both_images_correspond() -> None:
    fixed, moving = oblique(3), Grid.of_spacing((9, 8, 7), 1.3)
    eye = torch.eye(3, 4).double()
    for ends in get_args(Ends):
        middle = from_theta(eye, fixed, moving, ends)(fixed.centre_mm)
        torch.testing.assert_close(middle, moving.centre_mm)


def test_an_axis_of_one_voxel() -> None:
    image = torch.rand(1, 1, 1, 6)
    assert torch.equal(warped(image, scaling(1.0, 1.0)), image)
