"""The keys of metrics.json."""

from __future__ import annotations

import json

import pytest
import torch

import stn3d
from stn3d.registration.result import Registration
from stn3d.transforms import Affine, describe_linear
from tests.helpers.registration import sides
from tests.helpers.synthetic import dense_truth, known_pair, plain_grid

KEYS = {
    "schema_version",
    "quality",
    "auto_selected",
    "fixed",
    "moving",
    "before",
    "after",
    "outside_value",
    "linear_parameters",
    "excluded_regions",
    "geometry",
    "initial_candidates",
    "stages",
    "memory",
    "uncertainty",
    "settings",
    "channel_weights",
    "used_in_optimisation",
    "seed",
    "timings_s",
    "versions",
    "device",
    "threads",
}


@pytest.fixture(scope="module")
def result() -> Registration:
    grid = plain_grid(2, 24)
    known = known_pair(dense_truth(grid, 0.5), grid, grid)
    points = torch.tensor([[0.0, 0], [3, 4]])
    mask = torch.zeros_like(known.moving)
    mask[..., 10:12, 10:12] = 1
    given = sides(
        known.sources,
        window=("0,1", None),
        landmarks=(points, points),
        exclude=(None, (mask, grid)),
    )
    options = {"metric": "lncc", "preset": "fast", "init": "mass", "threads": 1, "seed": 3}
    return stn3d.register(*given, **options)  # type: ignore[arg-type]


def test_the_keys_are_these_and_json_knows_their_values(result: Registration) -> None:
    metrics = json.loads(json.dumps(result.metrics, allow_nan=False))
    assert set(metrics) == KEYS
    assert metrics["schema_version"] == 1
    assert set(metrics["fixed"]) == {
        "name", "shape", "spacing_mm", "window", "colour", "sources",
    }  # fmt: skip
    assert (metrics["fixed"]["window"], metrics["moving"]["window"]) == ("0,1", None)
    assert set(metrics["initial_candidates"][0]) == {"name", "loss", "fov_overlap_fraction"}
    assert metrics["initial_candidates"][0]["name"] == "centre_of_mass"
    assert set(metrics["excluded_regions"]) == {"moving"}
    assert metrics["used_in_optimisation"] == ["landmarks"]
    assert metrics["seed"] == metrics["settings"]["seed"] == 3
    assert metrics["channel_weights"] == [1.0]


def test_steps_have_names_and_times(result: Registration) -> None:
    timings_s = result.metrics["timings_s"]
    assert list(timings_s) == [
        "read",
        "prepare",
        "initialise",
        "rigid",
        "affine",
        "large_motion",
        "deformable",
        "inverse",
        "metrics",
        "warp",
        "quality_check",
    ]
    assert all(seconds >= 0 for seconds in timings_s.values())


def test_the_linear_part_of_a_deformable_result_is_described(result: Registration) -> None:
    _, linear = result.transform.parts
    assert isinstance(linear, Affine)
    assert result.metrics["linear_parameters"] == describe_linear(linear).as_dict()


def test_a_result_that_ends_in_a_field_has_no_linear_parameters() -> None:
    grid = plain_grid(2, 24)
    field = dense_truth(grid, 0.5)
    known = known_pair(field, grid, grid)
    options = {"kind": "rigid", "metric": "mse", "init": field, "threads": 1}
    found = stn3d.register(*known.sources, **options)  # type: ignore[arg-type]
    assert found.metrics["linear_parameters"] is None
