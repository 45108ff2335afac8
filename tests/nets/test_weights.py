"""The weights that ship: what they are, and that a head is found at any angle."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import stn3d
from stn3d.grid import Grid
from stn3d.nets.weights import load_weights, shipped
from stn3d.preprocessing.intensity import scaled
from stn3d.transforms import Rigid
from stn3d.warp import resample_image
from tests.helpers.synthetic import Anatomy

SHIPPED = sorted(shipped("affine").parent.glob("*.safetensors"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_weights_are_small_and_tell_how_they_were_made(path: Path) -> None:
    assert path.stat().st_size <= 8e6
    trained = load_weights(path)
    assert trained.record["data"] == "label_maps"
    assert {"seed", "iterations", "versions", "validation"} <= trained.record.keys()
    assert trained.preparation["spacing_mm"] in (2.0, 4.0)
    assert trained.images == (3, 1)


@pytest.fixture(scope="module")
def template() -> tuple[torch.Tensor, Grid]:
    """A real head, the MNI template, at 4 mm; no network saw it in training."""
    datasets = pytest.importorskip("nilearn.datasets")
    image = datasets.load_mni152_template(resolution=2)
    grid = Grid(image.shape, torch.from_numpy(image.affine.copy()))
    coarse = grid.resampled(4.0)
    values = torch.from_numpy(image.get_fdata().astype("float32"))[None, None]
    return resample_image(scaled(values), grid, coarse), coarse


@pytest.mark.parametrize("axis", [(1.0, 0.0, 0.0), (0.0, 1.0, 1.0), (-1.0, 1.0, 0.5)])
def test_a_head_that_is_turned_far_is_found(
    axis: tuple[float, float, float], template: tuple[torch.Tensor, Grid]
) -> None:
    image, grid = template
    direction = torch.tensor(axis).double()
    turn = math.radians(55) * direction / direction.norm()
    truth = Rigid(torch.cat([turn, torch.tensor([30.0, -20, 10]).double()]), grid.centre_mm)
    moving = (image, Grid(grid.shape, truth.matrix @ grid.world_from_index))
    found = stn3d.register((image, grid), moving, kind="rigid", estimator="network")
    points = grid.points_mm()[image[0, 0] > 0.3]
    error_mm = (found.transform(points) - truth(points)).norm(dim=-1).mean()
    assert found.metrics["initial_candidates"][0]["name"] == "network"
    assert error_mm < 0.5
    assert abs(torch.linalg.det(found.transform.matrix) - 1) < 1e-6  # type: ignore[attr-defined]


def test_what_is_no_head_is_left_to_the_optimiser() -> None:
    """With ``auto`` no network is asked where a plain guess is good."""
    anatomy = Anatomy(torch.zeros(3).double())
    grid = Grid.of_spacing((32, 26, 22))
    shift = torch.eye(4, dtype=torch.float64)
    shift[:3, 3] = torch.tensor([-16.0, -13, -11])
    grid = Grid(grid.shape, shift)
    image = (anatomy(grid.points_mm())[None, None], grid)
    found = stn3d.register(image, image, kind="rigid")
    assert {c["name"] for c in found.metrics["initial_candidates"]} == {
        "header",
        "centres",
        "centre_of_mass",
        "moments",
    }
