"""Loss and metrics of coordinate maps."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("ignite")

from stn3d.losses.coordinates import CoordinateLoss
from stn3d.train import (
    CoordinateMetrics,
)


def test_coordinate_loss_and_metrics() -> None:
    shape = (5, 8)  # padded to 8 voxels on the coarsest level
    coordinates = torch.rand(2, 2, *shape, generator=torch.Generator().manual_seed(0))
    weight = torch.zeros(2, 1, *shape)
    weight[..., :4] = 1.0
    batch = {"coordinates": coordinates, "coordinates_weight": weight}
    loss, exact = CoordinateLoss(), []
    for level in ((2, 2), (4, 4)):
        places, shares = loss.targets(torch.zeros(2, 3, *level), batch)
        exact.append(torch.cat([places, 40 * (shares - 0.5)], dim=1))
    places, shares = loss.targets(exact[-1], batch)
    assert shares[0, 0, :, 0].tolist() == [1.0, 1.0, 0.5, 0.0]
    assert shares[0, 0, 0].tolist() == [1.0, 1.0, 0.0, 0.0]
    torch.testing.assert_close(places[0, 0, 0, 0], coordinates[0, 0, :2, :2].mean())
    torch.testing.assert_close(places[0, 0, 2, 0], coordinates[0, 0, 4, :2].mean())
    low, terms = loss(exact, batch)
    assert terms["coordinates_mm"] == 0
    wrong = [stage.clone() for stage in exact]
    wrong[1][:, 0] += 0.05
    high, terms = loss(wrong, batch)
    assert terms["coordinates_mm"] == pytest.approx(5.0, rel=1e-4)
    both = [stage.clone() for stage in wrong]
    both[0][:, 0] += 0.05
    highest = loss(both, batch)[0]
    assert float(highest - high) == pytest.approx(0.5 * float(high - low), rel=1e-3)
    far = [stage.clone() for stage in exact]
    far[1][:, :2, :, 2:] = 7.0  # coordinates outside tissue have no weight
    assert float(loss(far, batch)[0]) == float(low)
    found = CoordinateMetrics(loss)({"pred": wrong, "label": batch})
    assert found["coordinate_error_mm"] == pytest.approx([5.0, 5.0], rel=1e-4)
    assert found["tissue_dice"] == [1.0, 1.0]
