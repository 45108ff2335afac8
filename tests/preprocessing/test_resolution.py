"""The resolution that two images have in common: thick slices, and what is smoothed to match."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from stn3d.grid import Grid, homogeneous
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.preprocessing.resolution import (
    at_common_resolution,
    extra_floats,
    level_grid,
    on_level,
    smoothing_factor,
    supported_spacings_mm,
    thick_axes,
)
from stn3d.transforms import Affine, Rigid

THICK_MM = 6.0
SD_MM = (5.0, 6.0, 4.0)  # of the blob that both images show


def rotated(shape: tuple[int, ...], spacing: tuple[float, ...], rotation: Tensor) -> Grid:
    """A grid of any orientation around the world's origin."""
    axes = rotation @ torch.diag(torch.tensor(spacing).double())
    half = (torch.tensor(shape).double() - 1) / 2
    return Grid(shape, homogeneous(axes, -axes @ half))


def blob(grid: Grid, covariance: Tensor, mask: bool = False) -> PreparedImage:
    """A Gaussian around the origin."""
    points = grid.points_mm()
    square = torch.einsum("...i,ij,...j->...", points, covariance.inverse(), points)
    values = torch.exp(-0.5 * square).float()[None, None]
    return PreparedImage(values, grid, torch.ones_like(values) if mask else None)


def second_moments(image: PreparedImage) -> Tensor:
    """Covariance of the positions, weighted by the intensities, mm^2."""
    points, weight = image.grid.points_mm().reshape(-1, 3), image.image.reshape(-1).double()
    centred = points - (weight[:, None] * points).sum(0) / weight.sum()
    return torch.einsum("n,ni,nj->ij", weight, centred, centred) / weight.sum()


def axis_angle(angle: float) -> Tensor:
    matrix = Rigid(torch.tensor([0.2, angle, 0.3, 0.0, 0.0, 0.0]), torch.zeros(3)).matrix
    return matrix[:3, :3].double()


def test_a_pair_without_thick_slices_is_as_it_was() -> None:
    grid = Grid.of_spacing((24, 20, 22), (1.0, 1.2, 1.0))
    few = Grid.of_spacing((24, 20, 5), (1.0, 1.0, 6.0))
    image, thin = (blob(one, 9 * torch.eye(3).double()) for one in (grid, few))
    assert thick_axes(few, 1.0) == []
    for spacing in (1.0, 2.0):
        found = at_common_resolution(Pair(image, thin), Affine.identity(3), spacing)
        assert found[0] is image.at(spacing)
        assert found[1] is thin.at(spacing)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("spacing_mm", [1.5, 3.0])
def test_both_images_show_an_object_of_the_same_size(swapped: bool, spacing_mm: float) -> None:
    # Independently: a level's voxel has an SD of half its edge, a slice one of 0.4 thicknesses.
    turn = axis_angle(0.5)
    stack = rotated((64, 60, 14), (1.0, 1.0, THICK_MM), turn)
    sharp = rotated((80, 80, 84), (1.0, 1.0, 1.0), axis_angle(0.1))
    normal = turn[:, 2]
    shown = torch.diag(torch.tensor(SD_MM).double() ** 2)
    profile = (0.4 * THICK_MM) ** 2 * torch.outer(normal, normal)
    images = blob(sharp, shown), blob(stack, shown + profile, mask=True)
    pair = Pair(*images[::-1]) if swapped else Pair(*images)
    found = at_common_resolution(pair, Affine.identity(3), spacing_mm)
    assert (
        at_common_resolution(pair, Affine.identity(3), spacing_mm)[int(swapped)] is found[swapped]
    )
    one, other = (second_moments(level) for level in (found[::-1] if swapped else found))
    before = second_moments(images[0].at(spacing_mm))
    along = [float(normal @ each @ normal) for each in (one, other, before)]
    assert along[0] == pytest.approx(along[1], rel=0.02)
    assert along[2] < 0.95 * along[1]  # it was sharper
    assert torch.allclose(one, other, atol=0.03 * max(SD_MM) ** 2)


def test_slices_are_interpolated_by_a_cubic_spline() -> None:
    grid = Grid.of_spacing((4, 4, 12), (1.0, 1.0, 4.0))
    values = torch.rand(12, generator=torch.Generator().manual_seed(1))
    image = PreparedImage(values.expand(1, 1, 4, 4, 12).contiguous(), grid)
    level = on_level(image, 1.0)
    assert level.grid.same_as(level_grid(grid, 1.0))
    assert level.grid.spacing_mm == pytest.approx((1.0, 1.0, 1.0))
    assert on_level(image, 1.0) is level
    spline = CubicSpline(np.arange(12), values.numpy(), bc_type="natural")
    expected = spline(np.clip((np.arange(48) + 0.5) / 4 - 0.5, 0, 11))
    np.testing.assert_allclose(level.image[0, 0, 2, 1].numpy(), expected, atol=1e-5)


def test_excluded_slices_do_not_reach_beyond_the_mask() -> None:
    grid = Grid.of_spacing((4, 4, 12), (1.0, 1.0, 4.0))
    values = torch.arange(12.0).expand(1, 1, 4, 4, 12).contiguous()
    mask = torch.ones_like(values)
    mask[..., 5:7] = 0
    found = [
        on_level(PreparedImage(values.where(mask > 0, torch.tensor(spoilt)), grid, mask), 1.0)
        for spoilt in (0.0, 50.0)
    ]
    masks = [image.mask for image in found]
    assert masks[0] is not None
    assert masks[1] is not None
    shown = masks[0][0, 0, 0, 0]
    assert torch.equal(masks[0], masks[1])
    # The centres of the slices on both sides are at 17.5 and 29.5.
    assert torch.equal(shown, ((torch.arange(48) < 18) | (torch.arange(48) > 29)).float())
    expected = (torch.arange(48) + 0.5) / 4 - 0.5
    for image in found:
        line = image.image[0, 0, 0, 0]
        inner = (shown > 0) & (torch.arange(48) > 2) & (torch.arange(48) < 45)
        assert torch.allclose(line[inner], expected[inner], atol=0.1)


def test_levels_and_smoothing_follow_the_thickness_of_the_slices() -> None:
    sharp = Grid.of_spacing((120, 120, 120), 1.0)
    isotropic = Pair(*(PreparedImage(torch.zeros(1, 1, *sharp.shape), sharp) for _ in range(2)))
    levels = [8.0, 4.0, 2.0, 1.0]
    assert supported_spacings_mm(isotropic, levels) == levels
    assert [smoothing_factor(isotropic, spacing) for spacing in levels] == [1.0] * 4
    assert extra_floats(isotropic, levels, 1) == 0
    found = {}
    for thickness in (3.0, 4.0, 5.0, 6.0):
        grid = Grid.of_spacing((120, 120, round(120 / thickness)), (1.0, 1.0, thickness))
        stack = PreparedImage(torch.zeros(1, 1, *grid.shape), grid)
        for pair in (Pair(isotropic.fixed, stack), Pair(stack, isotropic.moving)):
            assert extra_floats(pair, [2.0], 1) > 2 * 60**3
            found[thickness] = supported_spacings_mm(pair, levels)
            factors = [smoothing_factor(pair, spacing) for spacing in levels[:3]]
            # At 4 mm only slices of 6 mm are thick; no level is smoothed more than twice as much.
            assert factors == [1.0, 1.5 if thickness == 6 else 1.0, min(2.0, thickness / 2)]
    assert found == {
        3.0: levels,
        4.0: [8.0, 4.0, 2.0, pytest.approx(4 / 3)],
        5.0: [8.0, 4.0, 2.0],
        6.0: [8.0, 4.0, 2.0],
    }
