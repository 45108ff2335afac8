"""Perturbations stay within what the images show, and say what they leave out."""

from __future__ import annotations

import itertools

import pytest
import torch

from stn3d.grid import Grid
from stn3d.registration.quality_perturbations import Visible, axes_of, untested
from stn3d.transforms import Affine, Rigid
from tests.helpers.geometry_cases import DIMS
from tests.helpers.synthetic import grid_about


def visible(fixed: Grid, moving: Grid) -> Visible:
    return Visible(
        fixed, moving, Affine.identity(fixed.ndim), fixed.points_mm().flatten(0, -2), 0.5
    )


@pytest.mark.parametrize("ndim", DIMS)
def test_whole_images_are_perturbed_in_full(ndim: int) -> None:
    grid = grid_about(torch.zeros(ndim), [40] * ndim, [2.0] * ndim)
    shown = visible(grid, grid)
    largest = shown.largest(0.2, 4.0)
    assert largest.rotation_rad == (0.2,) * (3 if ndim == 3 else 1)
    assert largest.translation_mm == (4.0,) * ndim
    assert untested(largest) == ()
    perturbed = shown.perturbed(largest)
    assert len(perturbed) == 2**ndim
    # On the axes of the world they are rigid transforms by these angles and translations.
    count = len(largest.rotation_rad)
    full = torch.tensor([0.2] * count + [4.0] * ndim).double()
    allowed = [
        Rigid(torch.tensor(signs).double() * full, grid.centre_mm).matrix
        for signs in itertools.product((1, -1), repeat=count + ndim)
    ]
    for one in perturbed:
        assert any(torch.allclose(one.matrix, matrix) for matrix in allowed)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("slices", [1, 2, 5, 7])
def test_few_slices_are_perturbed_in_their_plane(axis: int, slices: int) -> None:
    size, spacing = [100.0] * 3, [2.0] * 3
    size[axis], spacing[axis] = 5.0 * slices, 5.0
    grid = grid_about(torch.zeros(3), size, spacing)
    largest = visible(grid, grid).largest(0.2, 6.0)
    letter = "xyz"[axis]
    tilts = [f"rotation about {other}" for other in "xyz" if other != letter]
    assert untested(largest) == (*tilts, f"translation along {letter}")
    for perturbation in visible(grid, grid).perturbed(largest):
        moved = perturbation(grid.points_mm())
        assert torch.allclose(moved[..., axis], grid.points_mm()[..., axis])


def test_a_slab_inside_a_volume_is_perturbed_along_all_axes() -> None:
    slab = grid_about(torch.zeros(3), [80, 80, 20], [2, 2, 5])
    volume = grid_about(torch.zeros(3), [100, 100, 100], [2, 2, 2])
    assert untested(visible(slab, volume).largest(0.2, 8.0)) == ()


def test_amplitudes_shrink_until_half_of_the_foreground_stays() -> None:
    grid = grid_about(torch.zeros(3), [80, 80, 20], [2, 2, 2])
    shown = visible(grid, grid)
    largest = shown.largest(0.2, 16.0)
    assert largest.translation_mm == (16.0, 16.0, 8.0)
    for perturbation in shown.perturbed(largest):
        inside = (perturbation(shown.points_mm).abs() < torch.tensor([40.0, 40, 10])).all(-1)
        assert float(inside.double().mean()) >= 0.3


def test_axes_are_sorted_and_directed_like_the_worlds() -> None:
    turned = grid_about(torch.zeros(3), [40, 30, 20], [1, 2, 3], (25, -15, 30), True)
    axes = axes_of(turned)
    assert torch.allclose(axes.T @ axes, torch.eye(3).double())
    assert bool((axes.diagonal() > 0.7).all())
    swapped = Grid((4, 5, 6), turned.world_from_index[:, [2, 0, 1, 3]])
    assert torch.allclose(axes_of(swapped), axes)
