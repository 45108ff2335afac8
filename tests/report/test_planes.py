"""Planes through an image, against direct computation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from stn3d.grid import Grid, homogeneous
from stn3d.io import Image, read_image
from stn3d.preprocessing.intensity import limits
from stn3d.report.planes import (
    affine_part,
    brightness,
    checkerboard,
    image_on_plane,
    intensity_window,
    mapped_lines,
    otsu_thresholds,
    planes_of,
    rotation_angle_deg,
    round_length,
)
from stn3d.transforms import Affine, Chain, DisplacementField, Rigid
from tests.helpers.geometry_cases import make_grid, rotation, smooth_field

SHAPES = {2: (40, 26), 3: (30, 22, 14)}
SPACINGS = (1.0, 1.5, 3.0)


def ramp(points_mm: Tensor) -> Tensor:
    """Brightness that is linear in the world, so that linear reading is exact."""
    return points_mm @ torch.tensor([1.0, -2.0, 0.5]).double()[: points_mm.shape[-1]]


def oblique_image(ndim: int) -> Image:
    """A ramp on an oblique, anisotropic, left-handed grid."""
    grid = make_grid(SHAPES[ndim], SPACINGS, (20, -15, 35), (-31, 12, 57), left_handed=True)
    return read_image((ramp(grid.points_mm())[None, None], grid))


@pytest.mark.parametrize("ndim", [2, 3])
def test_planes_show_the_world_as_it_is(ndim: int) -> None:
    image = oblique_image(ndim)
    planes = planes_of(image.grid, pixels=60)
    assert [p.name for p in planes] == (
        ["image"] if ndim == 2 else ["coronal", "sagittal", "axial"]
    )
    for plane in planes:
        points, pixels = plane.points_mm(), image_on_plane(image, plane)
        known = np.isfinite(pixels)
        assert 0.2 < known.mean() < 1  # the oblique image does not fill its bounding box
        inner = torch.from_numpy(known)
        error = (torch.from_numpy(pixels) - ramp(points))[inner].abs()
        # within the outer half voxel values are clamped
        assert float(error.quantile(0.9 if ndim == 2 else 0.75)) < 1e-3
        across, up = plane.axes
        assert points[0, 0, across] < points[0, -1, across]
        assert points[0, 0, up] < points[-1, 0, up]
        steps = points[1, 0] - points[0, 0], points[0, 1] - points[0, 0]
        assert [float(s.norm()) for s in steps] == pytest.approx([plane.pixel_mm] * 2)
        at = points[..., [a for a in range(ndim) if a not in plane.axes]]
        assert (at == image.grid.centre_mm[[a for a in range(ndim) if a not in plane.axes]]).all()


def test_planes_cover_the_image_in_millimetres() -> None:
    grid = Grid.of_spacing((20, 30, 10), (1.0, 2.0, 5.0))
    for plane, size in zip(planes_of(grid), [(20, 50), (60, 50), (20, 60)], strict=True):
        assert plane.size_mm == pytest.approx(size, abs=60 / 440)
        assert plane.extent_mm[0] == pytest.approx(-grid.spacing_mm[plane.axes[0]] / 2)
    crossing = planes_of(grid, torch.tensor([5.0, 1e6, 7.0]).double())
    assert crossing[0].at_mm.tolist() == [5.0, 59.0, 7.0]  # drawn back into the image


def test_the_moving_image_is_resampled_through_the_transform() -> None:
    image = oblique_image(3)
    shift = Affine.from_matrix(
        homogeneous(torch.eye(3).double(), torch.tensor([2.0, 0, 0]).double())
    )
    plane = planes_of(image.grid, pixels=50)[2]
    before, after = image_on_plane(image, plane), image_on_plane(image, plane, shift)
    both = np.isfinite(before) & np.isfinite(after)
    assert np.median((after - before)[both]) == pytest.approx(2.0, abs=1e-3)
    assert (np.isfinite(before) != np.isfinite(after)).any()


def test_checkerboard_takes_each_image_in_turn() -> None:
    plane = planes_of(Grid.of_spacing((32, 16)), pixels=32)[0]
    board = checkerboard(np.full(plane.shape, 1.0), np.zeros(plane.shape), plane, squares=8)
    assert board.shape == (16, 32, 3)
    lit = board.max(axis=-1) > 0
    assert lit[0, 0]
    assert not lit[0, 4]
    assert not lit[4, 0]
    assert lit[4, 4]
    assert lit.mean() == 0.5
    fixed, moved = board[0, 0], checkerboard(np.ones(lit.shape), np.ones(lit.shape), plane)[0, 4]
    assert fixed[2] > fixed[0]  # bluish
    assert moved[0] > moved[2]  # orange


def test_windows_and_greys() -> None:
    values = torch.cat([torch.zeros(5000), torch.linspace(1, 101, 5000), torch.tensor([1e5])])
    low, high = limits(values[None, None])
    assert low == 0
    assert 95 < high < 102  # one bright voxel does not darken the rest
    assert brightness(np.array([np.nan, -5, 50, 1e5]), (0, 100)).tolist() == [0, 0, 0.5, 1]
    region = np.arange(1000) < 500
    pixels = np.where(region, np.linspace(0, 20, 1000), 1000.0)
    assert intensity_window(pixels, region) == pytest.approx((0.05, 9.94), abs=0.02)
    assert intensity_window(pixels, region & False) is None


def test_otsu_parts_three_clusters() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [rng.normal(10, 4, 900), rng.normal(50, 4, 300), rng.normal(120, 4, 500)]
    )
    low, high = otsu_thresholds(values)
    assert 20 < low < 40
    assert 60 < high < 110


def test_otsu_has_the_least_variance_of_all_pairs() -> None:
    values = np.sort(np.random.default_rng(1).gamma(2.0, 10.0, 400))

    def within(first: int, second: int) -> float:
        parts = values[:first], values[first:second], values[second:]
        return sum(len(part) * float(part.var()) for part in parts)

    best = min(within(a, b) for a in range(1, 399, 3) for b in range(a + 1, 400, 3))
    first, second = np.searchsorted(values, otsu_thresholds(values))
    assert within(int(first), int(second)) < 1.01 * best


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_affine_part_is_found_and_removed(ndim: int) -> None:
    grid = make_grid(SHAPES[ndim], SPACINGS, (10, 20, 30))
    linear = 1.1 * rotation(ndim, (25.0, 0, 0))
    affine = Affine.from_matrix(homogeneous(linear, torch.tensor([3.0, 4.0, 5.0][:ndim]).double()))
    found = affine_part(affine, grid)
    assert torch.allclose(found.matrix, affine.matrix, atol=1e-8)
    assert rotation_angle_deg(found) == pytest.approx(25.0, abs=1e-6)
    field = DisplacementField(smooth_field(grid, 2.0), grid)
    rest = Chain((field, affine, affine_part(field.then(affine), grid).inverse()))
    assert torch.allclose(affine_part(rest, grid).matrix, torch.eye(ndim + 1).double(), atol=0.05)


@pytest.mark.parametrize("ndim", [2, 3])
def test_grid_lines_are_straight_until_they_are_mapped_lines(ndim: int) -> None:
    grid = Grid.of_spacing(SHAPES[ndim], SPACINGS[:ndim])
    for plane in planes_of(grid):
        lines = plane.lines_mm(4.0)
        expected = [max(2, math.floor(side / 4.0)) for side in plane.size_mm]
        assert len(lines) == sum(expected)
        for number, line in enumerate(lines):
            across, up = line[:, plane.axes[0]], line[:, plane.axes[1]]
            constant = across if number < expected[0] else up
            assert float(constant.max() - constant.min()) < 1e-9
        motion = Rigid(torch.tensor([0.1, 1, 2] if ndim == 2 else [0, 0, 0.1, 1, 2, 3]).double(),
                     grid.centre_mm)  # fmt: skip
        for line, there in zip(lines, mapped_lines(lines, motion), strict=True):
            assert torch.equal(there, motion.forward(line))


def test_round_lengths() -> None:
    assert [round_length(x) for x in (70, 50, 49.9, 9.99, 0.3, 1000)] == [50, 50, 20, 5, 0.2, 1000]


def test_a_single_slice_is_one_plane() -> None:
    assert [p.name for p in planes_of(Grid.of_spacing((40, 30, 1), (1.0, 1.0, 3.0)))] == ["axial"]
    assert [p.name for p in planes_of(Grid.of_spacing((1, 30, 40)))] == ["sagittal"]
    assert len(planes_of(Grid.of_spacing((40, 30, 20)))) == 3
