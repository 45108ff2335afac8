"""Networks as stages: scans of any grid come in, transforms of the world come out; and weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

import stn3d
from stn3d.errors import InputError
from stn3d.grid import Grid, apply_matrix
from stn3d.losses.chart import COORDINATE_UNIT_MM
from stn3d.nets.cascade import Cascade
from stn3d.nets.chart import ChartNetwork
from stn3d.nets.frame import upright, working_image
from stn3d.nets.pose import find_pose, transform_between
from stn3d.nets.pyramid import PyramidCascade
from stn3d.nets.stages import NetworkStage, NetworkStart
from stn3d.nets.weights import Trained, load_weights, save_weights
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.transforms import Affine, Chain, DisplacementField, Linear, Rigid, Similarity
from stn3d.transforms.fit import fit_linear
from tests.helpers.geometry_cases import DIMS, make_grid, oblique, random, rotation
from tests.helpers.synthetic import Anatomy

SMALL = {
    "channels": (4, 6, 8),
    "hidden": (4, 6, 8),
    "radii": (1, 1, 1),
    "repeats": (1, 1, 1),
    "steps": (1, 0, 1),
}


def silent(*_: Any) -> None:
    """No progress is told."""


def turned(d: int, angle_deg: float, shift_mm: float, scale: float = 1.0) -> Affine:
    """A linear map of the world."""
    matrix = torch.eye(d + 1, dtype=torch.float64)
    matrix[:d, :d] = scale * rotation(d, (angle_deg, -angle_deg / 2, 10))
    matrix[:d, d] = shift_mm
    return Affine.from_matrix(matrix)


@pytest.mark.parametrize("d", DIMS)
def test_an_upright_grid_holds_all_of_the_other(d: int) -> None:
    grid = oblique(d, (17, 12, 9)[:d])
    around = upright(grid, 2.0)
    assert around.spacing_mm == pytest.approx([2.0] * d)
    assert torch.equal(around.world_from_index[:d, :d], 2 * torch.eye(d).double())
    corners = torch.cartesian_prod(*[torch.tensor([-0.5, n - 0.5]).double() for n in grid.shape])
    index = apply_matrix(around.index_from_world @ grid.world_from_index, corners.reshape(-1, d))
    assert (index >= -0.5 - 1e-6).all()
    assert (index <= torch.tensor(around.shape) - 0.5 + 1e-6).all()


@pytest.mark.parametrize("d", DIMS)
def test_a_working_scan_keeps_what_is_bright_where_it_is_in_the_world(d: int) -> None:
    centre = torch.tensor([-30.0, 12.0, 57.0]).double()[:d]
    anatomy = Anatomy(centre)
    grid = make_grid((50, 44, 40)[:d], (1.0, 1.3, 1.1), (20, -35, 10), left_handed=True)
    middle = Grid(grid.shape, torch.eye(d + 1).double() @ grid.world_from_index)
    shift = torch.eye(d + 1, dtype=torch.float64)
    shift[:d, d] = centre - middle.centre_mm
    grid = Grid(grid.shape, shift @ grid.world_from_index)
    scan = PreparedImage(anatomy(grid.points_mm())[None, None], grid)
    working = working_image(scan, 2.0, margin_mm=4.0)
    assert working.mask is not None
    assert max(working.grid.shape) < 28  # the body and its margin, not the field of view
    truth = anatomy(working.grid.points_mm())
    inner = (anatomy.body(working.grid.points_mm()) < 0.7) & (working.mask[0, 0] > 0.99)
    assert int(inner.sum()) > 50
    assert (working.image[0, 0] - truth)[inner].abs().mean() < 0.08


class TellsItsPlace(nn.Module):
    """Stands in for a trained chart: the image's own channels are the chart."""

    def forward(self, image: Tensor) -> Tensor:
        pool = F.avg_pool2d if image.ndim == 4 else F.avg_pool3d
        sides = [side for n in reversed(image.shape[2:]) for side in (0, n % 2)]
        chart = pool(F.pad(image, sides), 2)
        return torch.cat([chart[:, :-1], 40 * chart[:, -1:] - 30], dim=1)


def charted(common_from_world: Linear, grid: Grid, wrong: float = 0.0) -> PreparedImage:
    """An image of the coordinates themselves, and of a ball where they are known.

    ``wrong`` of the voxels tell a place 60 mm off.
    """
    points = grid.points_mm()
    d = grid.ndim
    inside = (points - grid.centre_mm).norm(dim=-1) < 0.4 * min(grid.size_mm)
    places = common_from_world(points) / COORDINATE_UNIT_MM
    places += 0.6 * (points[..., :1] - grid.centre_mm[0] > (0.4 - 0.8 * wrong) * grid.size_mm[0])
    image = torch.cat([places.movedim(-1, 0) + 1, inside[None]]).float()
    image[:d] -= 1
    return PreparedImage(image[None], grid)


@pytest.mark.parametrize("d", DIMS)
def test_a_pose_is_found_on_any_grid(d: int) -> None:
    truth = turned(d, 40, 7.0, 1.1)
    grid = make_grid((60, 54, 50)[:d], (1.5, 2.0, 1.8), (10, 25, -15), (-40, 20, 8), True)
    pose = find_pose(TellsItsPlace(), charted(truth, grid), 4.0)  # type: ignore[arg-type]
    assert pose is not None
    points = grid.centre_mm + 30 * random(20, d)
    assert (pose.common_from_world(points) - truth(points)).norm(dim=-1).max() < 1.0
    assert pose.residual_mm < 1.5


def test_a_pose_is_hardly_moved_by_voxels_that_are_far_wrong() -> None:
    truth, grid = turned(3, 40, 7.0), make_grid((60, 54, 50), (1.5, 2.0, 1.8))
    pose = find_pose(TellsItsPlace(), charted(truth, grid, wrong=0.15), 4.0)  # type: ignore[arg-type]
    assert pose is not None
    points = grid.centre_mm + 20 * random(20, 3)
    assert (pose.common_from_world(points) - truth(points)).norm(dim=-1).max() < 2.0


@pytest.mark.parametrize("kind", ["rigid", "similarity", "affine"])
def test_a_start_is_the_transform_between_two_poses(kind: Any) -> None:
    fixed_grid = make_grid((60, 54, 50), (1.5, 2.0, 1.8), (10, 25, -15), (-40, 20, 8), True)
    moving_grid = make_grid((50, 60, 44), (2.0, 1.5, 2.2), (0, -30, 5), (300, 20, -80))
    to_common = turned(3, 35, 0.0)
    truth = Rigid(torch.tensor([0.3, -0.8, 0.2, 5, 4, -3]).double(), torch.zeros(3).double())
    near = Affine.from_matrix(torch.eye(4).double())
    moving_to_common = truth.inverse().then(near).then(to_common)
    fixed = charted(to_common, fixed_grid)
    moving = charted(moving_to_common, moving_grid)
    poses = [find_pose(TellsItsPlace(), s, 4.0) for s in (fixed, moving)]  # type: ignore[arg-type]
    assert poses[0] is not None
    assert poses[1] is not None
    found = transform_between(kind, *poses)  # type: ignore[arg-type]
    points = fixed_grid.centre_mm + 20 * random(20, 3)
    assert (found(points) - truth(points)).norm(dim=-1).max() < 1.0
    if kind == "rigid":
        linear = found.linear_part()
        assert torch.allclose(linear @ linear.T, torch.eye(3).double(), atol=1e-9)


def test_a_new_chart_finds_no_pose_and_a_start_that_is_not_credible_is_none() -> None:
    grid = make_grid((40, 40, 40), (4.0, 4.0, 4.0))
    scan = PreparedImage(torch.rand(1, 1, 40, 40, 40), grid)
    born = Trained(
        ChartNetwork(channels=(4, 6, 8)).eval(),
        {"spatial_dims": 3, "in_channels": 1},
        {"spacing_mm": 4.0},
        {},
    )
    assert find_pose(born.network, scan, 4.0) is None  # type: ignore[arg-type]
    assert NetworkStart(born)(Pair(scan, scan), "affine") is None
    flat = Pair(*[PreparedImage(torch.rand(1, 1, 20, 20), make_grid((20, 20), (4.0, 4.0)))] * 2)
    assert born.fits(Pair(scan, scan))
    assert not born.fits(flat)


class ShiftsBy(nn.Module):
    """Stands in for a trained dense network: moves all by the same."""

    def __init__(self, displacement_vox: tuple[float, ...]) -> None:
        super().__init__()
        self.displacement_vox = torch.tensor(displacement_vox)

    def forward(self, pair: Tensor) -> Tensor:
        d = pair.ndim - 2
        return self.displacement_vox.reshape(1, d, *[1] * d).repeat(1, 1, *pair.shape[2:])


def test_a_dense_stage_puts_its_residual_in_world_millimetres_before_what_was_found() -> None:
    grid = make_grid((40, 44, 36), (1.0, 1.2, 1.5), (10, 25, -15), (-40, 20, 8), True)
    image = torch.zeros(1, 1, *grid.shape)
    image[..., 8:32, 8:36, 8:28] = 1
    scan = PreparedImage(image, grid)
    trained = Trained(ShiftsBy((1.0, -0.5, 0.25)), {}, {"spacing_mm": 2.0}, {})
    current = Rigid(torch.tensor([0.1, 0, -0.1, 3, 4, 5]).double(), grid.centre_mm)
    found = NetworkStage(trained)(Pair(scan, scan), current, silent)
    assert isinstance(found, Chain)
    assert isinstance(found.transforms[0], DisplacementField)
    middle = grid.centre_mm[None]
    step_mm = torch.tensor([2.0, -1.0, 0.5]).double()
    assert torch.allclose(found(middle), current(middle + step_mm), atol=1e-4)
    field = found.transforms[0].displacement_mm
    assert not field[:, :, 0].any()  # it ends at its faces
    assert not field[..., -1].any()


@pytest.mark.parametrize("kind", [Rigid, Similarity, Affine])
@pytest.mark.parametrize("d", DIMS)
def test_fitting_points_finds_the_transform_that_moved_them(kind: type[Linear], d: int) -> None:
    start = kind.identity_parameters(d)
    truth = kind(start + 0.3 * random(len(start)), random(d, seed=3))
    points, weight = 30 * random(2, 25, d), random(2, 25).abs()
    name: Any = kind.__name__.lower()
    targets = truth(points)
    targets[:, -1] += 50  # of no weight
    weight[:, -1] = 0
    found = fit_linear(name, points, targets, weight)
    assert torch.allclose(found(points[:, :-1]), targets[:, :-1], atol=1e-8)


def test_a_fit_never_mirrors() -> None:
    points = 30 * random(25, 3)
    mirrored = points * torch.tensor([-1.0, 1, 1])
    linear = fit_linear("rigid", points, mirrored).linear_part()
    assert torch.linalg.det(linear) == pytest.approx(1)


def test_a_cascade_of_spatial_transformers_is_a_network_like_any_other(tmp_path: Path) -> None:
    stage = {"head": "affine", "spatial_dims": 2, "in_channels": 1, "channels": [4, 6]}
    made = Cascade([stage, {**stage, "head": "velocity"}], [2, 1])
    path = tmp_path / "model.safetensors"
    save_weights(path, made, {"spacing_mm": 1.0}, {})
    read = load_weights(path)
    assert read.images == (2, 1)
    assert isinstance(read.network, Cascade)
    assert read.network.series.repeats == [2, 1]


def network(seed: int = 0) -> PyramidCascade:
    torch.manual_seed(seed)
    made = PyramidCascade(**SMALL)
    for parameter in made.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return made.eval()


def test_weights_come_back_with_all_that_is_known_of_them(tmp_path: Path) -> None:
    path, made = tmp_path / "model.safetensors", network()
    preparation, record = {"spacing_mm": 2.0}, {"seed": 3, "data": "shapes"}
    save_weights(path, made, preparation, record)
    read = load_weights(path)
    assert (read.preparation, read.record) == (preparation, record)
    assert read.options == made.options
    pair = torch.rand(1, 2, 12, 9, 10)
    assert torch.equal(read.network(pair), made(pair))
    assert path.stat().st_mode & 0o044  # others may read it
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def other_format(path: Path) -> None:
    save_file({"a": torch.zeros(3)}, path)


def unknown_architecture(path: Path) -> None:
    told = {"architecture": "Oracle", "options": {}, "preparation": {}, "record": {}}
    save_file({"a": torch.zeros(3)}, path, {"format": "stn3d weights 1", "stn3d": json.dumps(told)})


def other_tensors(path: Path) -> None:
    told = {
        "architecture": "PyramidCascade",
        "options": network().options,
        "preparation": {},
        "record": {},
    }
    save_file({"a": torch.zeros(3)}, path, {"format": "stn3d weights 1", "stn3d": json.dumps(told)})


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "there are no weights"),
        (lambda path: path.write_bytes(b"nothing of the kind" * 10), "cannot be read"),
        (other_format, "holds no weights of stn3d"),
        (unknown_architecture, "Oracle"),
        (other_tensors, "do not fit"),
    ],
)
def test_what_is_no_file_of_weights_is_told(write: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write(path)
    with pytest.raises(InputError, match=message):
        load_weights(path)


def test_a_registration_by_a_network_of_ones_own(tmp_path: Path) -> None:
    """Weights of birth: the identity, so the linear stages have the last word."""
    path = tmp_path / "model.safetensors"
    save_weights(path, PyramidCascade(**SMALL), {"spacing_mm": 2.0}, {})
    anatomy = Anatomy(torch.zeros(3).double())
    grid = make_grid((32, 26, 22), (1.0, 1.0, 1.0), origin_mm=(-16, -13, -11))
    image = (anatomy(grid.points_mm())[None, None], grid)
    config = {"deformable_weights": str(path)}
    registration = stn3d.register(image, image, init="header", estimator="network", config=config)
    points = 8 * random(10, 3)
    field = registration.transform.transforms[0]  # type: ignore[attr-defined]
    assert not field.displacement_mm.any()
    assert torch.allclose(registration.transform(points), points, rtol=0, atol=0.02)
    assert registration.metrics["settings"]["estimator"] == "network"
    assert "network" in registration.metrics["timings_s"]


def test_a_network_for_other_images_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(path, PyramidCascade(2, **SMALL), {"spacing_mm": 2.0}, {})
    grid = make_grid((12, 12, 12), (1.0, 1.0, 1.0))
    image = (torch.rand(1, 1, 12, 12, 12), grid)
    config = {"deformable_weights": str(path)}
    with pytest.raises(InputError, match="2D images of 1 channel"):
        stn3d.register(image, image, init="header", estimator="network", config=config)
