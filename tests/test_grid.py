"""Grids: physical domains, oblique axes, pyramids, crops, errors."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stn3d.errors import InputError
from stn3d.grid import Grid, apply_matrix, homogeneous
from tests.helpers.geometry_cases import DIMS, QUICK, grids, make_grid, oblique, random


def faces_mm(grid: Grid) -> Tensor:
    """Corners of the physical domain, computed from the outer faces in index coordinates."""
    corners = torch.tensor(
        list(itertools.product(*[(-0.5, n - 0.5) for n in grid.shape])), dtype=torch.float64
    )
    linear, origin = grid.world_from_index[:-1, :-1], grid.world_from_index[:-1, -1]
    return torch.stack([linear @ corner + origin for corner in corners])


@QUICK
@given(grids(), st.lists(st.integers(1, 9), min_size=3, max_size=3))
def test_with_shape_keeps_the_physical_domain(grid: Grid, shape: list[int]) -> None:
    other = grid.with_shape(shape[: grid.ndim])
    assert other.shape == tuple(shape[: grid.ndim])
    torch.testing.assert_close(faces_mm(other), faces_mm(grid), rtol=0, atol=1e-9)
    torch.testing.assert_close(other.centre_mm, grid.centre_mm, rtol=0, atol=1e-9)


@QUICK
@given(grids(), st.floats(0.1, 3))
def test_zoomed_is_a_fraction_of_the_domain_with_the_same_centre(
    grid: Grid, fraction: float
) -> None:
    other = grid.zoomed(fraction)
    assert other.shape == grid.shape
    wanted = grid.centre_mm + fraction * (faces_mm(grid) - grid.centre_mm)
    torch.testing.assert_close(faces_mm(other), wanted, rtol=0, atol=1e-9)
    assert grid.zoomed(1) is grid


@QUICK
@given(grids(), st.floats(-50, 50))
def test_mirrored_exchanges_left_and_right_about_a_plane(grid: Grid, x_mm: float) -> None:
    other = grid.mirrored(x_mm)
    assert other.shape == grid.shape
    signs = torch.ones(grid.ndim, dtype=torch.float64)
    signs[0] = -1
    wanted = faces_mm(grid) * signs
    wanted[:, 0] += 2 * x_mm
    torch.testing.assert_close(faces_mm(other), wanted, rtol=0, atol=1e-9)


@QUICK
@given(grids(), st.floats(0.3, 9))
def test_resampled_keeps_the_domain_with_the_nearest_spacing(grid: Grid, spacing: float) -> None:
    other = grid.resampled(spacing)
    torch.testing.assert_close(faces_mm(other), faces_mm(grid), rtol=0, atol=1e-9)
    for n, size in zip(other.shape, grid.size_mm, strict=True):
        assert n >= 1
        assert abs(n - max(1.0, size / spacing)) <= 0.5 + 1e-6


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("handed", [False, True])
def test_a_rotated_or_rounded_header_gives_the_same_levels(d: int, handed: bool) -> None:
    """Sizes of 4.5 or 9.5 voxels of a level, where rounding errors could change the shape."""
    shape, spacing = (36, 76, 44)[:d], (1.0, 1.0, 3.0)[:d]
    upright = Grid.of_spacing(shape, spacing)
    levels = [level.shape for level in upright.pyramid([16, 8, 4, 2])]
    for k in range(40):
        rotated = make_grid(shape, spacing, (9.1 * k, -7.7 * k, 5.3 * k), (k, -k, 3), handed)
        stored = rotated.world_from_index.float().double()  # as stored in a NIfTI header
        for grid in (rotated, Grid(shape, stored)):
            assert [level.shape for level in grid.pyramid([16, 8, 4, 2])] == levels
            assert grid.resampled(8.0).shape == upright.resampled(8.0).shape


@QUICK
@given(grids())
def test_pyramid_keeps_the_domain_and_never_refines(grid: Grid) -> None:
    levels = grid.pyramid([8.0, 4.0, 2.0, 1.0, 0.1])
    assert levels[-1].same_as(grid)
    for coarse, fine in itertools.pairwise(levels):
        assert coarse.shape != fine.shape
        assert all(a <= b for a, b in zip(coarse.shape, fine.shape, strict=True))
    for level in levels:
        torch.testing.assert_close(faces_mm(level), faces_mm(grid), rtol=0, atol=1e-9)


def test_anisotropic_pyramid_coarsens_the_fine_axes_first() -> None:
    grid = Grid.of_spacing((64, 64, 10), (1, 1, 5))
    assert [level.shape for level in grid.pyramid([4, 2, 2, 1])] == [
        (16, 16, 10),
        (32, 32, 10),
        (64, 64, 10),
    ]


@QUICK
@given(grids(), st.integers(-3, 2), st.integers(1, 4))
def test_cropped_keeps_world_positions(grid: Grid, start: int, extent: int) -> None:
    part = grid.cropped([start] * grid.ndim, [start + extent] * grid.ndim)
    assert part.shape == (extent,) * grid.ndim
    expected = apply_matrix(grid.world_from_index, part.points_index() + start)
    torch.testing.assert_close(part.points_mm(), expected, rtol=0, atol=1e-9)


@QUICK
@given(grids(), st.floats(0, 11))
def test_padded_covers_the_margin_and_keeps_voxels(grid: Grid, margin: float) -> None:
    wide = grid.padded(margin)
    added = [(b - a) // 2 for a, b in zip(grid.shape, wide.shape, strict=True)]
    for m, spacing in zip(added, grid.spacing_mm, strict=True):
        assert m * spacing >= margin - 1e-9
        assert (m - 1) * spacing < margin
    back = wide.cropped(added, [m + n for m, n in zip(added, grid.shape, strict=True)])
    assert back.same_as(grid, 1e-9)


@QUICK
@given(grids())
def test_unit_cube_spans_the_faces(grid: Grid) -> None:
    cube = torch.tensor(list(itertools.product((0.0, 1.0), repeat=grid.ndim)), dtype=torch.float64)
    torch.testing.assert_close(
        apply_matrix(grid.world_from_unit, cube), faces_mm(grid), rtol=0, atol=1e-9
    )
    torch.testing.assert_close(grid.centre_mm, faces_mm(grid).mean(0), rtol=0, atol=1e-9)


@QUICK
@given(grids())
def test_world_and_index_are_inverse(grid: Grid) -> None:
    back = apply_matrix(grid.index_from_world, grid.points_mm())
    torch.testing.assert_close(back, grid.points_index(), rtol=0, atol=1e-9)


def test_spacing_of_an_oblique_grid_is_the_voxel_distance() -> None:
    grid = oblique(3)
    points = grid.points_mm()
    assert grid.spacing_mm == pytest.approx((0.8, 1.7, 2.5), abs=1e-12)
    assert float((points[1, 0, 0] - points[0, 0, 0]).norm()) == pytest.approx(0.8)
    assert float((points[0, 0, 1] - points[0, 0, 0]).norm()) == pytest.approx(2.5)
    assert grid.size_mm == pytest.approx((5.6, 10.2, 12.5))
    assert grid.num_voxels == 210


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("max_voxels", [1, 7, 60, 10**9])
def test_slabs_cover_every_row_once(d: int, max_voxels: int) -> None:
    grid = oblique(d)
    slabs = grid.slabs(max_voxels)
    rows = [row for slab in slabs for row in range(grid.shape[0])[slab]]
    assert rows == list(range(grid.shape[0]))
    together = torch.cat([grid.points_mm(slab) for slab in slabs])
    torch.testing.assert_close(together, grid.points_mm(), rtol=0, atol=0)
    row = grid.num_voxels // grid.shape[0]
    assert all((s.stop - s.start) * row <= max(max_voxels, row) for s in slabs)


@QUICK
@given(grids(), st.integers(0, 99))
def test_a_covering_grid_contains_the_points_and_keeps_the_lattice(grid: Grid, seed: int) -> None:
    points = grid.centre_mm + 9 * random(20, grid.ndim, seed=seed)
    other = grid.covering(points)
    index = apply_matrix(other.index_from_world, points)
    assert bool((index >= -1e-6).all())
    assert bool((index <= torch.tensor(other.shape) - 1 + 1e-6).all())
    first = apply_matrix(grid.index_from_world @ other.world_from_index, torch.zeros(grid.ndim))
    torch.testing.assert_close(first, first.round(), rtol=0, atol=1e-4)
    spacing = torch.tensor(other.spacing_mm)
    torch.testing.assert_close(spacing, torch.tensor(grid.spacing_mm))


def test_a_covering_grid_has_orthogonal_axes() -> None:
    matrix = torch.eye(4).double()
    matrix[0, 1] = 0.3
    axes = Grid((5, 6, 7), matrix).covering(torch.zeros(1, 3)).world_from_index[:3, :3]
    torch.testing.assert_close(axes[:, 0], matrix[:3, 0])
    torch.testing.assert_close(axes.T @ axes, torch.diag((axes * axes).sum(0)))


def test_points_have_the_requested_dtype() -> None:
    points = oblique(3).points_mm(slice(1, 3), dtype=torch.float32)
    assert points.dtype == torch.float32
    assert points.shape == (2, 6, 5, 3)


def test_same_as_measures_in_voxels() -> None:
    grid = oblique(3)
    nudged = grid.world_from_index.clone()
    nudged[0, 3] += 0.5e-3 * 0.8
    assert grid.same_as(Grid(grid.shape, nudged))
    nudged[0, 3] += 1e-3 * 0.8
    assert not grid.same_as(Grid(grid.shape, nudged))
    assert not grid.same_as(grid.with_shape((7, 6, 4)))
    assert not grid.same_as(oblique(2))


def test_same_as_detects_a_rotation_about_the_first_voxel() -> None:
    plain = make_grid((50, 50, 50), (1, 1, 1))
    rotated = make_grid((50, 50, 50), (1, 1, 1), (0.05, 0, 0))
    assert not plain.same_as(rotated)


def test_a_grid_copies_its_matrix() -> None:
    matrix = torch.eye(4, dtype=torch.float64)
    grid = Grid((2, 2, 2), matrix)
    matrix[0, 3] = 9
    assert grid.world_from_index[0, 3] == 0


@pytest.mark.parametrize(
    ("shape", "matrix", "message"),
    [
        ((4, 4, 0), torch.eye(4), "one voxel"),
        ((), torch.eye(1), "2 or 3 axes"),
        ((4,), torch.eye(2), "2 or 3 axes"),
        ((4, 4, 4, 4), torch.eye(5), "2 or 3 axes"),
        ((4, 4), torch.eye(4), "3x3"),
        ((4, 4, 4), torch.diag(torch.tensor([1.0, math.nan, 1, 1])), "NaN"),
        ((4, 4, 4), torch.diag(torch.tensor([1.0, math.inf, 1, 1])), "NaN"),
        ((4, 4, 4), torch.zeros(4, 4), "singular"),
        ((4, 4, 4), torch.diag(torch.tensor([1.0, 0, 1, 1])), "singular"),
        ((4, 4), torch.tensor([[1.0, 2, 0], [2, 4, 0], [0, 0, 1]]), "singular"),
        ((4, 4), torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 2]]), "last row"),
        ((4, 4), torch.tensor([[1.0, 0, 0], [0, 1, 0], [0.1, 0, 1]]), "last row"),
    ],
)
def test_invalid_grids_are_rejected(shape: tuple[int, ...], matrix: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Grid(shape, matrix)


def test_zero_spacing_and_empty_crops_are_rejected() -> None:
    with pytest.raises(InputError, match="singular"):
        Grid.of_spacing((4, 4, 4), (1, 0, 1))
    with pytest.raises(InputError, match="one voxel"):
        Grid.of_spacing((4, 4)).cropped((2, 2), (2, 3))
    with pytest.raises(InputError, match="one voxel"):
        Grid.of_spacing((4, 4)).with_shape((0, 4))


@pytest.mark.parametrize("scale", [1e-7, 1e7])
def test_tiny_and_huge_voxels_are_not_singular(scale: float) -> None:
    grid = make_grid((3, 4, 5), [scale, scale, scale], (10, 20, 30))
    assert grid.spacing_mm == pytest.approx((scale,) * 3)


@pytest.mark.parametrize("d", DIMS)
def test_apply_matrix_in_batches_equals_a_loop(d: int) -> None:
    matrices = homogeneous(random(3, d, d), random(3, d, seed=1))
    points = random(3, 4, 2, d, seed=2)
    looped = torch.stack([apply_matrix(m, p) for m, p in zip(matrices, points, strict=True)])
    torch.testing.assert_close(apply_matrix(matrices, points), looped)
    by_hand = matrices[1, :d, :d] @ points[1, 2, 1] + matrices[1, :d, d]
    torch.testing.assert_close(looped[1, 2, 1], by_hand)
