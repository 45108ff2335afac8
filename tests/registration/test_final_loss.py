"""The loss that was optimised, before and after."""

from __future__ import annotations

import pytest
import torch

import stn3d
from stn3d.choices import MetricName
from stn3d.grid import homogeneous
from stn3d.losses.image_loss import ImageLoss
from stn3d.losses.similarity import METRICS
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.final_loss import loss_of_transform, optimised_loss
from stn3d.registration.settings import settings_from
from stn3d.transforms import Affine
from tests.helpers.geometry_cases import DIMS
from tests.helpers.synthetic import Known, dense_truth, known_pair, plain_grid


def pair_of(known: Known) -> Pair:
    return Pair(
        PreparedImage(known.fixed, known.fixed_grid), PreparedImage(known.moving, known.moving_grid)
    )


@pytest.mark.parametrize("metric", list(METRICS))
@pytest.mark.parametrize("ndim", DIMS)
def test_the_loss_of_a_linear_transform_is_that_of_its_matrix(
    ndim: int, metric: MetricName
) -> None:
    grid = plain_grid(ndim, 32)
    pair = pair_of(known_pair(Affine.identity(ndim), grid, grid))
    shift = torch.full((ndim,), 0.7).double()
    moved = Affine.from_matrix(homogeneous(torch.eye(ndim).double(), shift))
    found = loss_of_transform(pair, moved, METRICS[metric])
    matrix = grid.index_from_world @ moved.matrix @ grid.world_from_index
    expected = float(ImageLoss(pair.fixed, pair.moving, METRICS[metric])(matrix))
    # Only the weights of voxels at the faces of the moving image differ.
    assert found == pytest.approx(expected, rel=0.15, abs=2e-3)


@pytest.mark.parametrize("metric", list(METRICS))
def test_the_true_deformation_has_a_lower_loss_than_the_identity(metric: MetricName) -> None:
    grid = plain_grid(2, 40)
    known = known_pair(dense_truth(grid, 2.0), grid, grid)
    pair = pair_of(known)
    settings = settings_from({"kind": "deformable", "metric": metric}, {})
    levels = [{"spacing_mm": 8.0}, {"spacing_mm": pair.finest_mm}]
    before, after = (
        optimised_loss(pair, transform, settings, levels)
        for transform in (Affine.identity(2), known.truth)
    )
    assert after["value"] < before["value"]
    assert {**before, "value": 0} == {"metric": metric, "spacing_mm": pair.finest_mm, "value": 0}


def test_a_registration_reports_the_loss_on_its_last_level() -> None:
    grid = plain_grid(2, 40)
    known = known_pair(dense_truth(grid, 2.0), grid, grid)
    options = {"metric": "ncc", "preset": "fast", "threads": 1}
    config = {"deformable_metric": "lncc"}
    found = stn3d.register(*known.sources, kind="deformable", config=config, **options)  # type: ignore[arg-type]
    before, after = (found.metrics[when]["image_loss"] for when in ("before", "after"))
    last = found.metrics["stages"][-1]
    assert (after["metric"], after["spacing_mm"]) == ("lncc", last["spacing_mm"])
    # The last field comes one step after the last loss.
    assert after["value"] == pytest.approx(last["last_loss"], rel=0.4)
    assert after["value"] < 0.7 * before["value"]
    rigid = stn3d.register(*known.sources, kind="rigid", **options)  # type: ignore[arg-type]
    after, last = rigid.metrics["after"]["image_loss"], rigid.metrics["stages"][-1]
    assert (after["metric"], after["spacing_mm"]) == ("ncc", last["spacing_mm"])
    assert after["value"] == pytest.approx(last["last_loss"], rel=0.1)
