"""Summaries of transforms: kinds, displacements, folding, errors of inverses."""

from __future__ import annotations

import math

import pytest
import torch

from stn3d import Affine, DisplacementField, Grid, Rigid, Similarity
from stn3d.inspection import inversion_error_mm, summarise_transform
from stn3d.transforms import Translation, chain, invert_fields

GRID = Grid.of_spacing((12, 10, 8), (1.0, 1.5, 2.0))


def test_the_kind_is_the_most_special_one() -> None:
    centre = torch.zeros(3, dtype=torch.float64)
    turned = torch.tensor([0, 0, math.radians(30), 1, 2, 3], dtype=torch.float64)
    larger = torch.cat([turned, torch.tensor([math.log(1.2)]).double()])
    sheared = torch.eye(4, dtype=torch.float64)
    sheared[0, 1] = 0.1
    cases = [
        (Affine.identity(3), "identity"),
        (Translation(torch.tensor([0.0, 1.0, 0.0]).double(), centre), "translation"),
        (Rigid(turned, centre), "rigid"),
        (Similarity(larger, centre), "similarity"),
        (Affine.from_matrix(sheared), "affine"),
    ]
    for transform, kind in cases:
        part = summarise_transform(transform).parts[0]
        assert part.kind == kind
        assert not part.reflection
    assert summarise_transform(Rigid(turned, centre)).parts[0].rotation_deg == pytest.approx(30)


def test_a_mirror_is_called_a_reflection() -> None:
    mirror = Affine.from_matrix(torch.diag(torch.tensor([-1.0, 1, 1, 1]).double()))
    summary = summarise_transform(mirror)
    assert summary.parts[0].reflection
    assert summary.parts[0].rotation_deg is None
    assert any("mirror" in line for line in summary.lines())


def test_the_largest_displacement_and_its_place() -> None:
    u = torch.zeros(1, 3, *GRID.shape)
    u[0, :, 4, 5, 6] = torch.tensor([3.0, 0.0, 4.0])
    field = DisplacementField(u, GRID)
    whole = summarise_transform(field, GRID, GRID).over_fixed
    assert whole is not None
    assert whole.max_mm == pytest.approx(5)
    assert whole.max_at_mm == pytest.approx((4.0, 7.5, 12.0))
    assert whole.mean_mm == pytest.approx(5 / GRID.num_voxels)
    shifted = chain(
        field, Translation(torch.tensor([100.0, 0, 0]).double(), torch.zeros(3).double())
    )
    summary = summarise_transform(shifted, GRID, GRID)
    assert summary.inside_moving_fraction == 0
    assert [part.kind for part in summary.parts] == ["displacement field", "translation"]


def test_folded_voxels_are_counted() -> None:
    points = GRID.points_mm()
    u = torch.zeros(1, 3, *GRID.shape)
    u[0, 0] = -2.0 * (points[..., 0] - points[..., 0].mean())  # x -> -x
    summary = summarise_transform(DisplacementField(u, GRID)).parts[0].displacements
    assert summary is not None
    assert summary.folding_pct == 100
    assert summary.jacobian_max == pytest.approx(-1, abs=1e-4)


def test_the_inverse_of_a_field_that_is_not_0_at_its_border() -> None:
    wave = torch.sin(GRID.points_mm()[..., 1] / 6)
    u = torch.stack([wave, 0 * wave, 0.5 * wave])[None].float() + 1.5
    field = DisplacementField(u, GRID)
    inverse, _ = invert_fields(field)
    inner = GRID.cropped([3, 3, 3], [9, 7, 5]).points_mm().reshape(-1, 3)
    torch.testing.assert_close(inverse(field(inner)), inner, atol=0.02, rtol=0)


def test_an_inverse_without_fields_has_no_error() -> None:
    shift = Translation(torch.tensor([1.0, 0, 0]).double(), torch.zeros(3).double())
    assert inversion_error_mm(shift, shift.inverse()) is None
    u = torch.zeros(1, 3, *GRID.shape)
    u[0, 0, 4:8, 3:6, 2:5] = 0.4
    field = DisplacementField(u, GRID)
    error = inversion_error_mm(field, Affine.identity(3))
    assert error is not None
    assert error["max"] == pytest.approx(0.4, abs=1e-3)
