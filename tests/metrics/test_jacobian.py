"""Folding, SD of the log-Jacobian and extremes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from stn3d.errors import InputError
from stn3d.grid import Grid, homogeneous
from stn3d.metrics import (
    Determinants,
    jacobian_metrics,
    ndv_metrics,
)
from stn3d.transforms import Affine, DisplacementField, rotation_matrix


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("protocol", ["strict", "l2r"])
def test_jacobian_of_a_scaling_is_its_volume(d: int, protocol: Any) -> None:
    rotation = rotation_matrix(torch.tensor([0.3, 0.2, -0.5][: 2 * d - 3]).double())
    grid = Grid(
        (9, 8, 7)[:d],
        homogeneous(rotation * torch.tensor([1.0, 2.0, 0.7][:d]), -torch.ones(d).double()),
    )
    scaled = Affine(
        torch.cat([1.5 * rotation.flatten(), torch.ones(d).double()]), torch.ones(d).double()
    )
    found = jacobian_metrics(scaled, grid, protocol=protocol)
    expected = {
        "folding_pct": 0,
        "folding_whole_field_pct": 0,
        "log_jacobian_sd" if protocol == "strict" else "sdlogj": 0,
        "jacobian_min": 1.5**d,
        "jacobian_max": 1.5**d,
    }
    assert found == pytest.approx(expected, abs=1e-4)
    parameters = torch.cat([torch.diag(torch.tensor([-1.0, 1, 1][:d])).flatten(), torch.zeros(d)])
    mirrored = Affine(parameters.double(), torch.zeros(d).double())
    found = jacobian_metrics(mirrored, grid, protocol=protocol)
    assert (found["folding_pct"], found["folding_whole_field_pct"]) == (100, 100)


def folded_grid() -> tuple[Grid, DisplacementField]:
    """Rows 6 to 7 of 14 go backward along the first axis."""
    grid = Grid.of_spacing((14, 12))
    u = torch.zeros(1, 2, 14, 12).double()
    u[0, 0, :7], u[0, 0, 7:] = 2.0, -2.0
    return grid, DisplacementField(u, grid)


def test_folding_and_sd_are_computed_in_the_eroded_mask() -> None:
    grid, transform = folded_grid()
    found = jacobian_metrics(transform, grid)  # determinants 1, but -1 in rows 6 and 7 of 2 to 11
    logs = np.log(np.r_[np.full(8, 1.0), 1e-3, 1e-3])
    expected = {
        "folding_pct": 20,
        "folding_whole_field_pct": 100 / 7,
        "log_jacobian_sd": logs.std(),
        "jacobian_min": -1,
        "jacobian_max": 1,
    }
    assert found == pytest.approx(expected, abs=1e-5)
    logs = np.log(np.r_[np.full(8, 4.0), 2, 2])
    assert jacobian_metrics(transform, grid, protocol="l2r")["sdlogj"] == pytest.approx(
        logs.std(), abs=1e-5
    )
    mask = np.zeros((14, 12), np.uint8)
    mask[:8] = 1  # eroded: rows 2 to 5, which do not fold
    assert jacobian_metrics(transform, grid, mask)["folding_pct"] == 0
    assert jacobian_metrics(transform, grid, mask, "l2r")["folding_pct"] == pytest.approx(100 / 3)
    none = jacobian_metrics(transform, grid, np.zeros((14, 12)))
    assert none.pop("folding_whole_field_pct") == pytest.approx(100 / 7)  # of no mask
    assert len(none) == 4
    assert all(math.isnan(value) for value in none.values())


def test_a_thin_slab_keeps_its_slices() -> None:
    found = jacobian_metrics(Affine.identity(3), Grid.of_spacing((9, 9, 1)))
    assert found == pytest.approx(
        {
            "folding_pct": 0,
            "folding_whole_field_pct": 0,
            "log_jacobian_sd": 0,
            "jacobian_min": 1,
            "jacobian_max": 1,
        }
    )


def test_a_mask_that_does_not_fit_the_grid_is_refused() -> None:
    with pytest.raises(InputError, match="does not fit the grid"):
        jacobian_metrics(Affine.identity(2), Grid.of_spacing((4, 5)), np.ones((5, 4)))


def test_the_deviation_is_a_quantile_and_a_place() -> None:
    """A field that doubles the volume of one row in a thousand voxels and more in one of them."""
    grid = Grid.of_spacing((60, 60), 2.0)
    x = torch.zeros(60).double()
    x[30:] = 2.0  # the 29th and the 30th row expand, by central differences, to 1.5
    u = torch.zeros(1, 2, 60, 60).double()
    u[0, 0] = x[:, None]
    u[0, 1, 10, 20], u[0, 1, 10, 22] = -1.5, 1.5  # around one voxel, 1.75 times
    found = Determinants.of(DisplacementField(u, grid), grid).deviation()
    assert found["abs_log_jacobian_p999"] == pytest.approx(math.log(1.5), abs=1e-5)
    assert found["log_jacobian_extreme_at_mm"] == pytest.approx([20.0, 42.0])
    linear = Determinants.of(Affine.identity(2), grid).deviation()
    assert linear == {"abs_log_jacobian_p999": 0.0, "log_jacobian_extreme_at_mm": None}
    nothing = Determinants.of(Affine.identity(2), grid, np.zeros((60, 60))).deviation()
    assert math.isnan(nothing["abs_log_jacobian_p999"])


@pytest.mark.parametrize("d", [2, 3])
def test_ndv_of_a_reflection_is_its_volume(d: int) -> None:
    """On a grid of unlike spacings; a linear transform and the same as a displacement field."""
    spacing = (1.0, 2.0, 0.7)[:d]
    grid = Grid.of_spacing((12, 11, 10)[:d], spacing)
    linear = torch.diag(torch.tensor([-1.5, 1, 1][:d])).double()
    reflected = Affine.from_matrix(homogeneous(linear, torch.zeros(d).double()))
    points = grid.points_mm()
    field = DisplacementField((reflected(points) - points).movedim(-1, 0)[None], grid)
    inner = math.prod(n - 4 for n in grid.shape)
    for transform in (reflected, field, field.then(Affine.identity(d))):
        found = ndv_metrics(transform, grid)
        assert found["ndv_pct"] == pytest.approx(150, rel=1e-5)
        volume_ml = 1.5 * inner * math.prod(spacing) / 1000
        assert found["ndv_ml"] == pytest.approx(volume_ml, rel=1e-5)
        assert ndv_metrics(transform.then(reflected), grid)["ndv_pct"] == pytest.approx(0, abs=1e-4)


def test_ndv_is_that_of_digital_diffeomorphism() -> None:
    """Of its version 1.1.1, whose values are float32, by its authors."""
    volume_vox, percentage = 102.97627, 20.4318
    shape = (9, 10, 11)
    index = np.indices(shape)
    waves = np.stack([1.2 * np.sin(1.1 * index[(a + 1) % 3] + index[a]) for a in range(3)])
    grid = Grid.of_spacing(shape)
    field = DisplacementField(torch.from_numpy(waves)[None], grid)
    found = ndv_metrics(field, grid, protocol="l2r")
    assert found["ndv_pct"] == pytest.approx(percentage, abs=1e-4)
    assert found["ndv_ml"] == pytest.approx(volume_vox / 1000, rel=1e-5)


def test_ndv_finds_folding_that_central_differences_miss() -> None:
    grid = Grid.of_spacing((11, 11))
    u = torch.zeros(1, 2, 11, 11).double()
    u[0, 0, 5, 5] = 3.0
    field = DisplacementField(u, grid)
    mask = np.zeros((11, 11))
    mask[3:8, 3:8] = 1  # eroded: the voxel alone
    assert jacobian_metrics(field, grid, mask)["folding_pct"] == 0
    assert ndv_metrics(field, grid, mask)["ndv_pct"] == pytest.approx(100)
    nothing = ndv_metrics(field, grid, np.zeros((11, 11)))
    assert all(math.isnan(value) for value in nothing.values())
