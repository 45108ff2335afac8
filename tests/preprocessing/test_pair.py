"""The levels of a pair."""

from __future__ import annotations

import pytest
import torch

from stn3d.transforms import Affine
from tests.helpers.synthetic import grid_about, known_pair, plain_grid


def test_levels_are_multiples_of_the_finest_spacing_that_both_have() -> None:
    pair = known_pair(
        Affine.identity(3),
        grid_about(torch.zeros(3), [60] * 3, [1, 1, 3]),
        grid_about(torch.zeros(3), [60] * 3, [1.5] * 3),
    ).pair
    assert pair.finest_mm == pytest.approx(1.5)
    assert pair.level_spacings_mm((8, 4, 2, 1)) == pytest.approx([6, 3, 1.5])


def test_a_tiny_image_is_not_coarsened_to_nothing() -> None:
    pair = known_pair(Affine.identity(3), plain_grid(3, 36, 4), plain_grid(3, 36, 4)).pair
    for factors in ((8, 4), (8, 4, 2)):
        spacings = pair.level_spacings_mm(factors)
        assert min(pair.fixed.at(spacings[-1]).grid.shape) >= 8


def test_a_few_thick_slices_do_not_stop_the_pyramid() -> None:
    slab = grid_about(torch.zeros(3), [64, 64, 12], [1, 1, 3])
    pair = known_pair(Affine.identity(3), slab, plain_grid(3, 64)).pair
    assert pair.level_spacings_mm((8, 4, 2)) == pytest.approx([8, 4, 2])
    assert min(pair.fixed.at(8).grid.shape) >= 1


@pytest.mark.parametrize(("voxels", "spacings"), [(60, [2, 1]), (200, [8, 4, 2])])
def test_levels_in_units_scale_with_the_field_of_view(voxels: int, spacings: list[float]) -> None:
    pair = known_pair(Affine.identity(3), *[plain_grid(3, voxels)] * 2).pair
    assert pair.level_spacings_mm((8, 4, 2), in_units=True) == pytest.approx(spacings)


def test_levels_in_units_are_never_coarser_than_those_in_voxels() -> None:
    large = known_pair(Affine.identity(2), *[plain_grid(2, 800)] * 2).pair
    assert large.unit_mm > large.finest_mm
    assert large.level_spacings_mm((8, 4), in_units=True) == pytest.approx([8, 4])
