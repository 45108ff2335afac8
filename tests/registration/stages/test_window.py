"""The part of the fixed image that a level works on."""

from __future__ import annotations

import pytest
import torch

from stn3d.grid import Grid
from stn3d.losses.similarity import METRICS
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.stages.window import LevelWindow, boundary_weights, margins_vox
from tests.helpers.geometry_cases import uniform

GRID = Grid.of_spacing((40, 30), 1.0)


def body(start: int) -> PreparedImage:
    """Texture in a square of 10 voxels, and a flat background."""
    image = torch.zeros(1, 1, *GRID.shape)
    image[..., start : start + 10, 10:20] = uniform(0.2, 1, 10, 10).float()
    return PreparedImage(image, GRID)


def test_local_correlation_keeps_the_textured_part_and_a_margin() -> None:
    window = LevelWindow.of(body(12), METRICS["lncc"], 2.0, 4.0, everywhere=False)
    # windows of radius 2 reach 2 voxels beyond the square; then radius and margin again
    assert window.fixed.grid.shape == (10 + 2 * (2 + 2 + 4), 10 + 2 * (2 + 2 + 4))
    assert window.fixed.mask is None  # all windows lie within the image
    centres = window.centres.mask(window.fixed.grid.shape)
    covered = window.covered.mask(window.fixed.grid.shape)
    assert int(centres.sum()) == 14 * 14
    assert int(covered.sum()) == 18 * 18
    assert not bool((centres & ~covered).any())
    near = LevelWindow.of(body(1), METRICS["lncc"], 2.0, 4.0, everywhere=False)
    assert near.fixed.mask is not None


@pytest.mark.parametrize("name", ["mse", "mind"])
def test_other_metrics_keep_all_and_mask_the_margin(name: str) -> None:
    metric = METRICS[name]  # type: ignore[index]
    for window in (
        LevelWindow.of(metric.prepared(body(12)), metric, 2.0, 4.0, everywhere=False),
        LevelWindow.of(metric.prepared(body(12)), metric, 2.0, 4.0, everywhere=True),
    ):
        assert window.fixed.grid.shape == (48, 38)
        assert window.fixed.mask is not None
        assert int((window.fixed.mask > 0).sum()) == GRID.num_voxels


def test_other_terms_of_the_objective_keep_all_windows() -> None:
    window = LevelWindow.of(body(12), METRICS["lncc"], 2.0, 4.0, everywhere=True)
    assert window.fixed.grid.shape == (40 + 12, 30 + 12)
    assert window.fixed.mask is not None


def test_margins_are_radius_and_distance_in_voxels() -> None:
    assert margins_vox(Grid.of_spacing((9, 9), 2.0), [1, 0], 5.0) == [4, 3]


def test_boundary_weights_rise_from_0_to_1() -> None:
    first, flat = boundary_weights(
        Grid((11, 1), torch.diag(torch.tensor([2.0, 2, 1]).double())), 6.0
    )
    assert first.tolist()[:5] == pytest.approx([0, 1 / 3, 2 / 3, 1, 1])
    assert torch.equal(first, first.flip(0))
    assert flat.tolist() == [1]
