"""The known motion of the sliding study: a jump along the wall, nothing torn or doubled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from scripts.bench.studies import sliding


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("upwards", [1, -1])
def test_columns_sink_from_their_tops_and_no_voxel_passes_another(axis: int, upwards: int) -> None:
    lungs = np.zeros((40, 8, 8), bool)
    lungs[10:30, 2:5, 2:6] = True
    moves = sliding.moves_vox(np.moveaxis(lungs, 0, axis), axis, upwards, 6.0, 25.0)
    along = np.moveaxis(moves, axis, 0)[::-upwards]  # from the top downwards
    column = along[:, 3, 3] * upwards
    top = 10
    assert (column[: top + 1] == 0).all()
    assert (np.diff(column) >= 0).all()
    assert column.max() == pytest.approx(6.0)
    index = np.arange(40) + np.moveaxis(moves, axis, 0)[:, 3, 3]
    assert (np.diff(index) > 0).all()
    assert (along[:, 0, 0] == 0).all()  # the wall beside it stays


def test_the_vertical_axis_is_found_in_any_orientation() -> None:
    assert sliding.vertical(np.diag([-2.0, -2, 3, 1])) == (2, 1)
    lsp = np.array([[-1.0, 0, 0, 0], [0, 0, -1, 0], [0, 4, 0, 0], [0, 0, 0, 1]])
    assert sliding.vertical(lsp) == (1, 1)
    assert sliding.vertical(np.diag([1.0, 1, -1, 1])) == (2, -1)


def test_a_pair_of_real_lungs_keeps_its_landmarks(shared_data: Path) -> None:
    fixed, moving = sliding.sliding_pair("0006", 20.0, 150.0, 1)
    back = np.linalg.inv(fixed.affine)
    start, goal = ((one.points_mm @ back[:3, :3].T + back[:3, 3]).T for one in (fixed, moving))
    there = ndimage.map_coordinates(fixed.values, start, order=1)
    here = ndimage.map_coordinates(moving.values, goal, order=1)
    noise = 0.01 * np.percentile(moving.values, 99)
    assert np.abs(there - here).mean() < 3 * noise
    labels = [ndimage.map_coordinates(fixed.labels.astype(float), start, order=0)]
    labels += [ndimage.map_coordinates(moving.labels.astype(float), goal, order=0)]
    assert labels[0].all()
    assert labels[1].mean() > 0.95
    length = np.linalg.norm(fixed.points_mm - moving.points_mm, axis=1)
    assert 3 < length.mean() < 20.1
    assert length.max() < 20.1
