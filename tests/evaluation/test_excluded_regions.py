"""Volumes of excluded regions under known transforms."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from stn3d.evaluation import excluded_region_metrics
from stn3d.grid import Grid, homogeneous
from stn3d.io import Image, read_mask
from stn3d.transforms import Affine, DisplacementField
from tests.evaluation.cases import shifted
from tests.helpers.geometry_cases import DIMS
from tests.helpers.synthetic import dense_truth, grid_about, plain_grid


def ball(ndim: int, radius_mm: float = 7.0) -> Image:
    """A mask about a point off the middle, on an oblique grid of unlike spacings."""
    grid = grid_about(torch.zeros(ndim), [44] * ndim, (1.0, 1.3, 1.6)[:ndim], (20, -10, 30))
    middle = torch.tensor([3.0, -2, 1]).double()[:ndim]
    inside = torch.linalg.vector_norm(grid.points_mm() - middle, dim=-1) < radius_mm
    return read_mask((inside[None, None], grid))


@pytest.mark.parametrize("ndim", DIMS)
def test_a_linear_transform_changes_every_volume_by_its_determinant(ndim: int) -> None:
    mask = ball(ndim)
    linear = torch.diag(torch.tensor([1.2, 0.9, 1.1][:ndim]).double())
    linear[0, 1] = 0.3
    metrics = excluded_region_metrics(
        mask, Affine.from_matrix(homogeneous(linear, torch.ones(ndim)))
    )
    change = float(torch.linalg.det(linear))
    voxel_ml = float(np.prod(mask.grid.spacing_mm)) / 1000
    assert metrics["volume_ml"] == pytest.approx(voxel_ml * int(mask.values.sum()))
    assert metrics["volume_after_ml"] == pytest.approx(change * metrics["volume_ml"], rel=1e-4)
    for key in ("volume_change_pct", "surrounding_volume_change_pct"):
        assert metrics[key] == pytest.approx(100 * (change - 1), abs=0.01)
    json.dumps(metrics, allow_nan=False)


@pytest.mark.parametrize("ndim", DIMS)
def test_a_deformed_volume_is_that_of_the_deformed_voxels(ndim: int) -> None:
    """By other code: Jacobians by numpy's differences of mapped voxels, distances by a tree."""
    mask = ball(ndim)
    field: DisplacementField = dense_truth(mask.grid, 3.0)
    metrics = excluded_region_metrics(mask, field, surrounding_mm=5.0)
    points = mask.grid.points_mm().numpy()
    there = field(mask.grid.points_mm().flatten(0, -2)).double().numpy().reshape(points.shape)
    there_by_index = np.stack([np.gradient(there, axis=a) for a in range(ndim)], axis=-1)
    here_by_index = mask.grid.world_from_index[:ndim, :ndim].numpy()
    change = np.linalg.det(there_by_index) / np.linalg.det(here_by_index)
    part = mask.values[0, 0].numpy()
    distance = cKDTree(points[part]).query(points)[0]
    shell = ~part & (distance <= 5.0)
    assert metrics["volume_change_pct"] == pytest.approx(100 * (change[part].mean() - 1), abs=0.3)
    around = 100 * (change[shell].mean() - 1)
    assert metrics["surrounding_volume_change_pct"] == pytest.approx(around, abs=0.3)
    assert abs(metrics["volume_change_pct"] - around) > 0.5  # they are two metrics


def test_a_part_without_surroundings_has_no_figure_of_them() -> None:
    grid = plain_grid(2, 60, 15)
    mask = torch.zeros(1, 1, *grid.shape)
    mask[..., 1, 1] = 1
    metrics = excluded_region_metrics(read_mask((mask, grid)), shifted(2, 3.0))
    assert metrics["surrounding_volume_change_pct"] is None
    assert metrics["volume_change_pct"] == pytest.approx(0, abs=1e-4)


def test_the_width_of_the_surroundings_follows_the_unit() -> None:
    """Of a head 10 mm; of the same voxels in another unit as many voxels."""
    shape, changes = (200, 24, 24), []
    for scale in (1.0, 1e-3):
        grid = Grid.of_spacing(shape, scale)
        values = torch.zeros(1, 1, *shape)
        values[..., :4, :, :] = 1
        u = torch.zeros(1, 3, *shape)
        u[:, 0, 13:] = 0.5 * scale * torch.arange(187)[:, None, None]  # beyond the shell
        field = DisplacementField(u, grid)
        metrics = excluded_region_metrics(read_mask((values, grid)), field)
        changes.append(metrics["surrounding_volume_change_pct"])
    assert changes[0] == pytest.approx(100 * 0.25 / 10, abs=0.1)  # of ten planes one is affected
    assert changes[1] == pytest.approx(changes[0], abs=1e-3)
