"""Translations by the correlation over the shared part alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from stn3d.grid import Grid
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.initialisation.initialise import initialise
from stn3d.registration.initialisation.shifts import masked_correlation
from stn3d.registration.settings import Settings
from stn3d.transforms import Rigid
from tests.helpers.geometry_cases import DIMS


@pytest.mark.parametrize("ndim", DIMS)
def test_the_correlation_is_that_of_the_voxels_both_have(ndim: int) -> None:
    draws = torch.Generator().manual_seed(ndim)
    shapes = (7, 6, 5)[:ndim], (5, 8, 6)[:ndim]
    values = [torch.rand(shape, generator=draws, dtype=torch.float64) for shape in shapes]
    weights = [(torch.rand(shape, generator=draws) > 0.2).double() for shape in shapes]
    found, shifts = masked_correlation((values[0], weights[0]), (values[1], weights[1]))
    assert len(found) == len({tuple(one) for one in shifts.tolist()})  # each shift once
    checked = 0
    for correlation, shift in zip(found.tolist(), shifts.long(), strict=True):
        index = torch.cartesian_prod(*[torch.arange(n) for n in shapes[0]])
        there = index + shift
        within = ((there >= 0) & (there < torch.tensor(shapes[1]))).all(1)
        a, b = tuple(index[within].T), tuple(there[within].T)
        both = (weights[0][a] * weights[1][b]) > 0
        if both.sum() < 0.2 * min(float(one.sum()) for one in weights):
            assert correlation == -1
            continue
        pair = torch.stack([values[0][a][both], values[1][b][both]])
        assert correlation == pytest.approx(float(torch.corrcoef(pair)[0, 1]), abs=1e-9)
        checked += 1
    assert checked > 10


@pytest.mark.parametrize("ndim", DIMS)
def test_fields_of_view_that_share_a_third_are_aligned(ndim: int) -> None:
    """The loss over the whole fixed image is lower where more of it is covered, by whatever, and
    neither the headers nor the centres are near."""
    shape = (60, 36, 32)[:ndim]
    noise = np.random.default_rng(ndim).standard_normal(shape)
    texture = torch.from_numpy(ndimage.gaussian_filter(noise, 2.5)).float()
    texture = (texture - texture.min()) / (texture.max() - texture.min())
    whole = Grid.of_spacing(shape)
    angle = torch.zeros(1 if ndim == 2 else 3).double()
    angle[-1] = 0.1
    shift = torch.tensor([30.0, -4.0, 3.0]).double()[:ndim]
    truth = Rigid(torch.cat([angle, shift]), whole.centre_mm)
    images = []
    for start, matrix in ((0, torch.eye(ndim + 1).double()), (24, truth.matrix)):
        part = whole.cropped([start] + [0] * (ndim - 1), [start + 36, *shape[1:]])
        grid = Grid(part.shape, matrix @ part.world_from_index)
        images.append(PreparedImage(texture[start : start + 36][None, None], grid))
    found = initialise(Pair(images[0], images[1]), Settings(kind="rigid", metric="lncc")).best
    points = images[0].grid.points_mm().flatten(0, -2).double()
    assert float((found.transform(points) - truth(points)).norm(dim=1).mean()) < 1.0
    assert found.name == "shared_part"
    assert found.fov_overlap_fraction < 0.4
