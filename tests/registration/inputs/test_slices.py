"""Registration of images that repeat thick slices: as if they came with their slices."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import stn3d
from stn3d.grid import Grid
from stn3d.registration.result import Registration
from stn3d.transforms import DisplacementField
from stn3d.warp import warp_image
from tests.helpers.geometry_cases import smooth_field
from tests.helpers.images import noise
from tests.helpers.slices import acquired, interpolated, texture

SHAPE, THICKNESS, AXIS = (64, 60, 60), 6, 2


class Case:
    """A body with structures of all sizes; the moving image has slices of 6 voxels."""

    def __init__(self) -> None:
        self.grid = Grid.of_spacing(SHAPE, 2.0)
        half_mm = torch.tensor(self.grid.size_mm) / 2
        centred = (self.grid.points_mm() - self.grid.centre_mm) / half_mm
        self.body = centred.norm(dim=-1) < 0.85
        whole = texture(SHAPE) * self.body
        self.truth = DisplacementField(smooth_field(self.grid, 5.0, seed=2).float(), self.grid)
        self.fixed = warp_image(whole, self.grid, self.truth, self.grid)
        slices = acquired(whole, AXIS, THICKNESS)
        self.slices = slices + 0.02 * noise(*slices.shape, seed=1).float().abs() * (slices > 0)
        self.slices_grid = self.grid.with_shape(slices.shape[2:])
        self.moving = interpolated(self.slices, AXIS, SHAPE[AXIS], "lines")

    def error_mm(self, found: Registration) -> float:
        points = self.grid.points_mm()[self.body]
        return float((found.transform(points) - self.truth(points)).norm(dim=-1).mean())


def registered(fixed: Any, moving: Any, **options: Any) -> Registration:
    given = {"kind": "deformable", "metric": "lncc", "init": "header", "large_motion": "off"}
    return stn3d.register(fixed, moving, **given | {"threads": 1} | options)


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


@pytest.fixture(scope="module")
def found(case: Case) -> Registration:
    return registered((case.fixed, case.grid), (case.moving, case.grid), uncertainty=True)


def test_most_of_what_interpolation_costs_is_regained(
    case: Case, found: Registration, monkeypatch: pytest.MonkeyPatch
) -> None:
    native = registered((case.fixed, case.grid), (case.slices, case.slices_grid))
    monkeypatch.setattr("stn3d.registration.inputs.image.on_slices", lambda image: image)
    before = registered((case.fixed, case.grid), (case.moving, case.grid))
    best_mm, found_mm, before_mm = map(case.error_mm, (native, found, before))
    assert best_mm < before_mm
    assert found_mm < best_mm + 0.25 * (before_mm - best_mm)


def test_only_the_comparison_changes(case: Case, found: Registration) -> None:
    assert found.moved.grid.same_as(case.grid)
    assert found.uncertainty is not None
    assert found.uncertainty.grid.same_as(case.grid)
    for role in ("fixed", "moving"):
        assert found.metrics[role]["shape"] == list(SHAPE)
    expected = warp_image(case.moving, case.grid, found.transform, case.grid)
    assert torch.allclose(found.moved.values, expected, atol=1e-5)


def test_the_slices_are_told(found: Registration) -> None:
    told = found.metrics["auto_selected"]["slices"]
    assert told["choice"] == "moving"
    (one,) = told["evidence"]["images"]
    assert (one["image"], one["axis"], one["voxel_mm"]) == ("moving", "third", 2.0)
    assert one["thickness_mm"] == 2 * THICKNESS
    assert "along its third axis (voxels of 2 mm)" in told["reason"]
