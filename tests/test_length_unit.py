"""The unit of default lengths: from the images alone."""

from __future__ import annotations

import pytest

from stn3d.grid import Grid
from stn3d.length_unit import finest_common_mm, length_text, length_unit_mm, log2


def cube(n: int, spacing_mm: float) -> Grid:
    return Grid.of_spacing((n,) * 3, spacing_mm)


@pytest.mark.parametrize("n", [12, 64, 85, 169, 170, 171, 339, 340, 512])
def test_the_unit_scales_with_the_voxels_also_at_the_limits(n: int) -> None:
    expected = length_unit_mm(cube(n, 1.0), cube(n, 1.0))
    assert 170 <= n / expected < 340
    for scale in (1e-4, 0.01, 0.3, 0.7, 25.4, 1e3):
        grid = cube(n, scale)
        assert length_unit_mm(grid, grid) == pytest.approx(scale * expected, rel=1e-9)


def test_the_smaller_image_and_the_coarser_voxels_decide_in_either_role() -> None:
    head, slab = cube(200, 1.0), Grid.of_spacing((40, 80, 10), 0.5)
    assert finest_common_mm(head, slab) == finest_common_mm(slab, head) == 1.0
    assert length_unit_mm(head, slab) == length_unit_mm(slab, head) == 0.125  # 40 mm / 320


def test_the_thickness_of_a_single_slice_is_no_spacing() -> None:
    slice_ = Grid.of_spacing((200, 200, 1), (1.0, 1.0, 0.001))
    assert length_unit_mm(slice_, slice_) == 1.0


def test_logarithms_of_powers_of_two_are_whole_despite_rounding_errors() -> None:
    assert log2(64 * 0.1 / 0.1) == 6
    assert log2(8 * (1 - 1e-9)) == 3


def test_short_lengths_are_told_in_significant_digits() -> None:
    assert [length_text(v, 1) for v in (12.34, 0.06, 0.0, 0.0321, -0.0321)] == [
        *("12.3", "0.1", "0.0", "0.032", "-0.032")
    ]
