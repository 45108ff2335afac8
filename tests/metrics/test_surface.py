"""HD95: analytic cases, distance transforms and MONAI."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from stn3d.errors import InputError
from stn3d.grid import Grid, homogeneous
from stn3d.metrics import (
    hd95_mm,
)

RNG_SEED = 7


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 0.5)])
def test_hd95_of_a_shifted_square_is_the_shift(spacing: tuple[float, float]) -> None:
    fixed, moved = np.zeros((1, 1, 40, 40), int), np.zeros((40, 40), int)
    fixed[0, 0, 10:20, 5:30], moved[13:23, 5:30] = 4, 4
    fixed[0, 0, 0, 0], moved[39, 39] = 6, 7
    found = hd95_mm(fixed, moved, Grid.of_spacing((40, 40), spacing), [4, 6, 7, 0])
    assert found[4] == pytest.approx(3 * spacing[0])
    assert all(math.isnan(found[label]) for label in (6, 7, 0))
    single = hd95_mm(moved, np.roll(moved, -9, 1), Grid.of_spacing((40, 40), spacing), [7])
    assert single[7] == pytest.approx(9 * spacing[1])


@pytest.mark.parametrize("d", [2, 3])
def test_hd95_is_that_of_distance_transforms_also_at_the_faces(d: int) -> None:
    shape, spacing = (13, 11, 9)[:d], (1.0, 0.6, 2.0)[:d]
    rng = np.random.default_rng(RNG_SEED)
    maps = [ndimage.zoom(rng.integers(0, 4, (5,) * d), np.array(shape) / 5, order=0) for _ in "ab"]
    found = hd95_mm(*maps, Grid.of_spacing(shape, spacing), [1, 2, 3])
    for label in (1, 2, 3):
        a, b = ((m == label) & ~ndimage.binary_erosion(m == label) for m in maps)
        to_a, to_b = (ndimage.distance_transform_edt(~x, spacing) for x in (a, b))
        directed = np.percentile(to_b[a], 95), np.percentile(to_a[b], 95)
        assert found[label] == pytest.approx(max(directed))


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize("d", [2, 3])
def test_hd95_is_monais(d: int) -> None:
    """Labels touch the faces of the image and differ in size, so the two directions differ."""
    monai = pytest.importorskip("monai.metrics")
    shape, spacing = (26, 22, 18)[:d], (1.0, 0.6, 2.0)[:d]
    rng = np.random.default_rng(RNG_SEED)
    a, b = (ndimage.zoom(rng.integers(0, 4, (5,) * d), np.array(shape) / 5, order=0) for _ in "ab")
    b[(slice(0, 9),) * d] = 0
    one_hot = [torch.stack([torch.from_numpy(m == k) for k in range(4)])[None] for m in (a, b)]
    theirs = monai.compute_hausdorff_distance(*one_hot, percentile=95, spacing=list(spacing))[0]
    found = hd95_mm(a, b, Grid.of_spacing(shape, spacing), [1, 2, 3])
    assert list(found.values()) == pytest.approx(theirs.tolist(), abs=1e-5)


def test_hd95_is_the_larger_directed_percentile() -> None:
    """A small square in a large one: from the small one all is near, from the large one far."""
    large, small = np.zeros((40, 40), int), np.zeros((40, 40), int)
    large[5:35, 5:35], small[5:9, 5:9] = 1, 1
    found = hd95_mm(large, small, Grid.of_spacing((40, 40)), [1])[1]
    a, b = (m.astype(bool) & ~ndimage.binary_erosion(m) for m in (large, small))
    from_large = ndimage.distance_transform_edt(~b)[a]
    from_small = ndimage.distance_transform_edt(~a)[b]
    assert found == pytest.approx(np.percentile(from_large, 95))
    assert found > np.percentile(np.r_[from_large, from_small], 95) > from_small.max()


def test_hd95_measures_along_the_world_and_not_along_sheared_axes() -> None:
    linear = torch.tensor([[1.0, 1.0], [0.0, 1.0]]).double()
    grid = Grid((8, 8), homogeneous(linear, torch.zeros(2).double()))
    fixed, moved = np.zeros((8, 8), int), np.zeros((8, 8), int)
    fixed[4, 2], moved[1, 5] = 1, 1  # index (-3, 3) is world (0, 3)
    assert hd95_mm(fixed, moved, grid, [1])[1] == pytest.approx(3)


def test_a_map_that_does_not_fit_the_grid_is_refused() -> None:
    with pytest.raises(InputError, match="does not fit the grid"):
        hd95_mm(np.zeros((5, 4), int), np.zeros((5, 4), int), Grid.of_spacing((4, 5)), [1])
