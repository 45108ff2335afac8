"""The levels of a pair."""

from __future__ import annotations

import pytest
import torch

from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
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


def empty_pair(ndim: int, voxels: int) -> Pair:
    """Two images of voxels of 1 mm that show nothing."""
    grid = plain_grid(ndim, voxels)
    return Pair(*[PreparedImage(torch.zeros(1, 1, *grid.shape), grid)] * 2)


@pytest.mark.parametrize(
    ("ndim", "voxels", "spacings"), [(3, 60, [2, 1]), (3, 200, [8, 4, 2]), (2, 800, [8, 4, 2])]
)
def test_levels_in_units_scale_with_a_small_field_of_view(
    ndim: int, voxels: int, spacings: list[float]
) -> None:
    pair = empty_pair(ndim, voxels)
    assert pair.level_spacings_mm((8, 4, 2), in_units=True) == pytest.approx(spacings)
