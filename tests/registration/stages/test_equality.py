"""Images that agree already are left alone by every stage, whatever a metric gains by a change."""

from __future__ import annotations

import pytest
import torch

from stn3d.choices import MetricName
from stn3d.losses.similarity import METRICS
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.stages import DeformableStage, LinearStage
from stn3d.registration.stages.equality import agree_already
from stn3d.transforms import Affine, Translation
from tests.helpers.geometry_cases import DIMS
from tests.helpers.stages import run
from tests.helpers.synthetic import known_pair, plain_grid


def equal_pair(ndim: int) -> Pair:
    grid = plain_grid(ndim, 32)
    known = known_pair(Affine.identity(ndim), grid, grid)
    noise = 0.02 * torch.randn(known.fixed.shape, generator=torch.Generator().manual_seed(0))
    image = PreparedImage(known.fixed + noise, grid)
    return Pair(image, PreparedImage(image.image.clone(), grid))


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("metric", list(METRICS))
def test_equal_images_do_not_move(ndim: int, metric: MetricName) -> None:
    pair, identity = equal_pair(ndim), Affine.identity(ndim)
    points = pair.fixed.grid.points_mm()
    linear = LinearStage("affine", metric, (4, 2, 1))
    for stage in (linear, DeformableStage(metric, (4, 2, 1), (20, 20, 10))):
        assert torch.equal(run(pair, identity, stage)(points), points)


@pytest.mark.parametrize("ndim", DIMS)
def test_images_agree_only_where_the_transform_makes_them_equal(ndim: int) -> None:
    pair = equal_pair(ndim)
    identity = Affine.identity(ndim)
    assert agree_already(pair, identity, [4, 1])
    shift = Translation(torch.full((ndim,), 0.3).double(), torch.zeros(ndim).double())
    assert not agree_already(pair, shift, [4, 1])
    other = Pair(pair.fixed, PreparedImage(pair.moving.image.square(), pair.moving.grid))
    assert not agree_already(other, identity, [4, 1])
    far = Translation(torch.full((ndim,), 30.0).double(), torch.zeros(ndim).double())
    assert not agree_already(pair, far, [4, 1])
