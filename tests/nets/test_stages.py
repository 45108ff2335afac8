"""Networks as parts of a registration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import stn3d
from stn3d.errors import InputError
from stn3d.nets.coordinates import CoordinateRegressor
from stn3d.nets.pose import estimate_pose
from stn3d.nets.pyramid import PyramidCascade
from stn3d.nets.stages import NetworkInitialiser, NetworkStage
from stn3d.nets.weights import TrainedNetwork, load_weights, save_weights
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.stages import DeformableStage
from stn3d.transforms import Chain, DisplacementField, Rigid
from tests.helpers.geometry_cases import make_grid, random
from tests.helpers.networks import SMALL, with_gains
from tests.helpers.synthetic import Anatomy, Known, dense_truth, grid_about, known_pair


def no_progress(*_: Any) -> None:
    """Progress callback that does nothing."""


def test_an_untrained_network_gives_no_pose_and_no_initial_transform() -> None:
    grid = make_grid((40, 40, 40), (4.0, 4.0, 4.0))
    image = PreparedImage(torch.rand(1, 1, 40, 40, 40), grid)
    untrained = TrainedNetwork(
        CoordinateRegressor(channels=(4, 6, 8)).eval(),
        {"spatial_dims": 3, "in_channels": 1},
        {"spacing_mm": 4.0},
        {},
    )
    assert estimate_pose(untrained.network, image, 4.0) is None  # type: ignore[arg-type]
    assert NetworkInitialiser(untrained)(Pair(image, image), "affine") is None
    flat = Pair(*[PreparedImage(torch.rand(1, 1, 20, 20), make_grid((20, 20), (4.0, 4.0)))] * 2)
    assert untrained.accepts(Pair(image, image))
    assert not untrained.accepts(flat)


class ConstantDisplacement(nn.Module):
    """A network with the same displacement everywhere."""

    def __init__(self, displacement_vox: tuple[float, ...]) -> None:
        super().__init__()
        self.displacement_vox = torch.tensor(displacement_vox)

    def forward(self, pair: Tensor) -> Tensor:
        d = pair.ndim - 2
        return self.displacement_vox.reshape(1, d, *[1] * d).repeat(1, 1, *pair.shape[2:])


STEP_MM = torch.tensor([2.0, -1.0, 0.5]).double()


def shifted_pair(shift_mm: Tensor) -> tuple[Pair, Rigid]:
    """A pair that a current transform and, before it, a shift align."""
    grid = make_grid((40, 44, 36), (1.0, 1.2, 1.5), (10, 25, -15), (-40, 20, 8), True)
    current = Rigid(torch.tensor([0.1, 0, -0.1, 3, 4, 5]).double(), grid.centre_mm)

    def blob(points_mm: Tensor) -> Tensor:
        u = (points_mm - grid.centre_mm) / torch.tensor([9.0, 11, 10])
        waves = (1 + 0.3 * torch.sin(points_mm).prod(dim=-1)).clamp(min=0)
        return torch.sigmoid(8 * (1 - u.square().sum(dim=-1))) * waves

    values = blob(grid.points_mm()), blob(current.inverse()(grid.points_mm()) - shift_mm)
    images = [PreparedImage(one.float()[None, None], grid) for one in values]
    return Pair(*images), current


def network_of(displacement_vox: tuple[float, ...]) -> NetworkStage:
    network = ConstantDisplacement(displacement_vox)
    trained = TrainedNetwork(network, {}, {"spacing_mm": 2.0}, {})
    return NetworkStage(trained, DeformableStage("lncc", (2,), (1,)))


def test_a_network_stage_composes_its_residual_with_the_current_transform() -> None:
    pair, current = shifted_pair(STEP_MM)
    found = network_of((1.0, -0.5, 0.25))(pair, current, no_progress)
    assert isinstance(found, Chain)
    assert isinstance(found.transforms[0], DisplacementField)
    middle = pair.fixed.grid.centre_mm[None]
    assert torch.allclose(found(middle), current(middle + STEP_MM), atol=1e-4)
    field = found.transforms[0].displacement_mm
    assert not field[:, :, 0].any()  # zero at the border of its grid
    assert not field[..., -1].any()


def test_a_network_that_raises_the_loss_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    pair, current = shifted_pair(STEP_MM)
    stage = network_of((-1.0, 0.5, -0.25))
    assert stage(pair, current, no_progress) is current
    assert "network is not used: its displacements raise the loss from 0." in caplog.text
    assert stage.estimate(pair, current, no_progress) is not current
    broken = network_of((float("nan"), 0, 0))
    assert broken(pair, current, no_progress) is current


def test_untrained_weights_give_the_identity(tmp_path: Path) -> None:
    """The result is that of the linear stages."""
    path = tmp_path / "model.safetensors"
    save_weights(path, PyramidCascade(**SMALL), {"spacing_mm": 2.0}, {})
    anatomy = Anatomy(torch.zeros(3).double())
    grid = make_grid((32, 26, 22), (1.0, 1.0, 1.0), origin_mm=(-16, -13, -11))
    image = (anatomy(grid.points_mm())[None, None], grid)
    options: Any = {"init": "header", "estimator": "network", "deformable_weights": path}
    registration = stn3d.register(image, image, **options)
    points = 8 * random(10, 3)
    field = registration.transform.transforms[0]  # type: ignore[attr-defined]
    assert not field.displacement_mm.any()
    assert torch.allclose(registration.transform(points), points, rtol=0, atol=0.02)
    assert registration.metrics["settings"]["estimator"] == "network"
    assert "network" in registration.metrics["timings_s"]


@pytest.fixture(scope="module")
def deformed() -> Known:
    """A pair on grids of different spacing and orientation under a known deformation."""
    moving = grid_about(torch.zeros(3), (40, 40, 40), (1.0, 1.3, 1.1), (8, -6, 4), True)
    fixed = grid_about(torch.zeros(3), (40, 40, 40), (1.0, 1.0, 1.0))
    return known_pair(dense_truth(fixed, 3.0), fixed, moving)


def test_a_registration_uses_the_network_of_the_user(deformed: Known, tmp_path: Path) -> None:
    """Demons steps of one gain, from a file and from an object; and the optimiser after them."""
    path = tmp_path / "model.safetensors"
    network = with_gains(PyramidCascade(3, **SMALL | {"steps": (12, 8, 4)}))
    save_weights(path, network, {"spacing_mm": 1.0, "shape": [40, 40, 40]}, {})
    options: Any = {"init": "header", "preset": "fast", "metric": "lncc", "threads": 1}
    affine = stn3d.register(*deformed.sources, kind="affine", **options)
    options |= {"kind": "deformable"}
    given: dict[str, Any] = {
        "network": {"deformable_weights": path},
        "both": {"network": load_weights(path)},
    }
    for estimator, network in given.items():
        found = stn3d.register(*deformed.sources, estimator=estimator, **network, **options)
        assert deformed.error_mm(found.transform) < 0.65 * deformed.error_mm(affine.transform)
        own = {"network", "deformable"} & found.metrics["timings_s"].keys()
        assert own == ({"network"} if estimator == "network" else {"network", "deformable"})
        used = str(path) if estimator == "network" else None
        assert found.metrics["settings"]["deformable_weights"] == used


def test_a_network_for_other_images_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(path, PyramidCascade(2, **SMALL), {"spacing_mm": 2.0}, {})
    grid = make_grid((12, 12, 12), (1.0, 1.0, 1.0))
    image = (torch.rand(1, 1, 12, 12, 12), grid)
    options: Any = {"init": "header", "estimator": "network", "deformable_weights": path}
    with pytest.raises(InputError, match="2D images with 1 channel"):
        stn3d.register(image, image, **options)
