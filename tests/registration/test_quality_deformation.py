"""The change of volume is that of the content, without the linear part."""

from __future__ import annotations

import pytest
import torch

from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.quality_deformation import content_volume_change
from stn3d.transforms import Affine, DisplacementField
from tests.helpers.geometry_cases import DIMS
from tests.helpers.synthetic import plain_grid


def ball(ndim: int, radius_mm: float) -> PreparedImage:
    grid = plain_grid(ndim, 60)
    inside = grid.points_mm().norm(dim=-1) < radius_mm
    return PreparedImage(inside.float()[None, None], grid)


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("scale", [0.8, 1.25])
def test_a_field_that_scales_the_content_changes_its_volume(ndim: int, scale: float) -> None:
    pair = Pair(ball(ndim, 12.0), ball(ndim, 12.0 * scale))
    grid = pair.fixed.grid
    points = grid.points_mm()
    # Scales the ball and fades out beyond it.
    fade = (1 - (points.norm(dim=-1, keepdim=True) - 14).clamp(min=0) / 14).clamp(min=0)
    field = DisplacementField(((scale - 1) * fade * points).movedim(-1, 0)[None].float(), grid)
    expected = max(scale, 1 / scale) ** ndim
    assert content_volume_change(pair, field) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("ndim", DIMS)
def test_linear_transforms_and_fields_of_zeros_change_nothing(ndim: int) -> None:
    pair = Pair(ball(ndim, 12.0), ball(ndim, 12.0))
    half = Affine.from_matrix(torch.diag(torch.tensor([0.5] * ndim + [1.0]).double()))
    assert content_volume_change(pair, half) == 1
    zeros = DisplacementField(torch.zeros(1, ndim, *pair.fixed.grid.shape), pair.fixed.grid)
    assert content_volume_change(pair, zeros.then(half)) == pytest.approx(1, abs=1e-5)
