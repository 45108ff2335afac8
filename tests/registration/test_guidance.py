"""Labels and landmarks that steer a registration beside its images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import stn3d
from stn3d.cli import main
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import read_image, write_image
from stn3d.preprocessing.landmark_term import LandmarkTerm
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import ChannelGroup, PreparedImage
from stn3d.registration.guidance import MOST_CHANNELS, label_channels
from stn3d.registration.result import Registration
from stn3d.registration.stages.landmark_force import LandmarkForce
from stn3d.transforms import Affine, Rigid
from tests.helpers.geometry_cases import DIMS, uniform
from tests.helpers.synthetic import (
    Known,
    dense_truth,
    grid_about,
    known_pair,
    linear_truth,
    plain_grid,
)


def a_pair(ndim: int, kind: str = "affine") -> Known:
    shift = torch.tensor([5.0, -4, 3]).double()[:ndim]
    zeros = torch.zeros(ndim).double()
    fixed = grid_about(zeros, [36] * ndim, [1, 1.3, 2][:ndim], (15, -10, 20), True)
    moving = grid_about(shift, [42] * ndim, [1.2] * ndim, (-20, 10, 5))
    return known_pair(linear_truth(kind, zeros, shift, 8), fixed, moving)


class Bodies:
    """A known pair of which the images show the outline alone; labels and landmarks know more."""

    def __init__(self, known: Known) -> None:
        self.known = known
        grids = known.fixed_grid, known.moving_grid
        self.bodies = (
            known.anatomy.body(known.truth(grids[0].points_mm())),
            known.anatomy.body(grids[1].points_mm()),
        )
        flat = [(0.6 * torch.sigmoid((1 - b) * 10)).float()[None, None] for b in self.bodies]
        self.sources = tuple(zip(flat, grids, strict=True))
        inner = (self.bodies[0] < 0.85).nonzero()
        rows = torch.randperm(len(inner), generator=torch.Generator().manual_seed(0))[:8]
        points = grids[0].points_mm()[tuple(inner[rows].T)].double()
        self.points = {"fixed_points": points, "moving_points": known.truth(points)}

    @property
    def labels(self) -> dict[str, Any]:
        images = (self.known.fixed, self.known.moving)
        grids = self.known.fixed_grid, self.known.moving_grid
        maps = [
            ((image > 0.75) * 1 + (image < 0.45) * 2).long() * (body < 1)
            for image, body in zip(images, self.bodies, strict=True)
        ]
        names = ("fixed_labels", "moving_labels")
        return dict(zip(names, zip(maps, grids, strict=True), strict=True))

    def run(self, **options: Any) -> Registration:
        return stn3d.register(*self.sources, **{"metric": "lncc", "threads": 1, **options})


@pytest.fixture(scope="module", params=DIMS)
def bodies(request: pytest.FixtureRequest) -> Bodies:
    return Bodies(a_pair(request.param))


def test_where_images_tell_nothing_labels_do(bodies: Bodies) -> None:
    known, options = bodies.known, {"kind": "affine", **bodies.labels}
    scored = bodies.run(**options)
    assert scored.metrics["steered_by"] == []
    steered = bodies.run(**options, label_weight=1.0)
    assert steered.metrics["steered_by"] == ["labels"]
    assert known.error_mm(scored.transform) > 1
    assert known.error_mm(steered.transform) < 0.3
    assert steered.metrics["after"]["dice"] > scored.metrics["after"]["dice"] + 0.05


@pytest.mark.parametrize("metric", ["mind", "nmi"])
def test_labels_steer_beside_every_kind_of_loss(metric: str) -> None:
    bodies = Bodies(a_pair(2))
    options: dict[str, Any] = {"kind": "deformable", "metric": metric, **bodies.labels}
    errors_mm = [
        bodies.known.error_mm(bodies.run(**options, label_weight=w).transform) for w in (0.0, 1.0)
    ]
    assert errors_mm[1] < 0.5 * errors_mm[0]


@pytest.mark.parametrize("kind", ["rigid", "affine"])
def test_where_images_tell_nothing_landmarks_do(bodies: Bodies, kind: str) -> None:
    own = Bodies(a_pair(bodies.known.fixed_grid.ndim, kind))
    found = own.run(kind=kind, **own.points)
    assert found.metrics["steered_by"] == ["landmarks"]
    assert "landmarks" in {one["name"] for one in found.metrics["initial"]}
    assert own.known.error_mm(found.transform) < 0.3
    assert found.metrics["after"]["tre_mm"]["mean"] < found.metrics["before"]["tre_mm"]["mean"] / 10


@pytest.mark.parametrize("ndim", DIMS)
def test_a_dense_field_takes_landmarks_along(ndim: int) -> None:
    """Landmarks of a bend in a body without any structure, more of them than steer judge."""
    grid = plain_grid(ndim, 40)
    truth = dense_truth(grid, 3.0)
    known = known_pair(truth, grid, grid)
    own = Bodies(known)
    inner = (own.bodies[0] < 0.7).nonzero()
    rows = torch.randperm(len(inner), generator=torch.Generator().manual_seed(1))
    some = grid.points_mm()[tuple(inner[rows[: 20 * (ndim - 1)]].T)].double()
    points = {"fixed_points": some, "moving_points": truth(some)}
    plain = own.run(kind="deformable", init="header", **points, landmark_weight=0)
    found = own.run(kind="deformable", init="header", **points)
    assert plain.metrics["steered_by"] == []
    others = grid.points_mm()[tuple(inner.T)].double()
    left = [
        float((r.transform(others) - truth(others)).norm(dim=-1).mean()) for r in (plain, found)
    ]
    assert left[1] < 0.5 * left[0]
    assert found.metrics["after"]["tre_mm"]["mean"] < 0.3
    assert found.metrics["after"]["folding_pct"] == 0


def test_at_weight_0_landmarks_are_measured_and_no_more() -> None:
    own = Bodies(a_pair(2))
    options: dict[str, Any] = {"kind": "affine"}
    plain = own.run(**options)
    measured = own.run(**options, **own.points, landmark_weight=0)
    where = own.known.fixed_grid.points_mm()
    assert torch.equal(plain.transform(where), measured.transform(where))
    assert "tre_mm" not in plain.metrics["after"]
    assert measured.metrics["after"]["tre_mm"]["mean"] > 0.5
    assert measured.metrics["steered_by"] == []


def test_one_landmark_steers_too() -> None:
    own = Bodies(a_pair(2))
    one = {name: points[:1] for name, points in own.points.items()}
    plain = own.run(kind="deformable", **one, landmark_weight=0).metrics["after"]["tre_mm"]["mean"]
    found = own.run(kind="deformable", **one).metrics["after"]["tre_mm"]["mean"]
    assert found < 0.5 < plain


# -- the parts -------------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000), ndim=st.sampled_from(DIMS))
def test_the_term_is_alike_both_ways_for_a_rigid_transform(seed: int, ndim: int) -> None:
    points = uniform(-30, 30, 5, ndim, seed=seed).double()
    targets = uniform(-30, 30, 5, ndim, seed=seed + 1).double()
    count = Rigid.num_parameters(ndim)
    rigid = Rigid(uniform(-1, 1, count, seed=seed + 2).double(), torch.zeros(ndim).double())
    term = LandmarkTerm(points, targets, 0.7)
    assert torch.allclose(term(rigid), term.swapped(rigid.inverse()))


def test_the_term_has_the_right_gradient() -> None:
    term = LandmarkTerm(uniform(-9, 9, 4, 3, seed=1).double(), torch.zeros(4, 3).double(), 2.0)

    def loss(numbers: Tensor) -> Tensor:
        return term(Affine(numbers, torch.zeros(3).double()))

    start = Affine.identity_parameters(3) + 0.1 * uniform(-1, 1, 12, seed=2).double()
    assert torch.autograd.gradcheck(loss, start.requires_grad_())


def test_the_term_counts_ten_millimetres_as_one() -> None:
    off = torch.tensor([[0.0, 6, 8], [0, 0, 0]]).double()
    term = LandmarkTerm(torch.zeros(2, 3).double(), off, 3.0)
    assert float(term(Affine.identity(3))) == pytest.approx(3 * (1 + 0) / 2)


@pytest.mark.parametrize("ndim", DIMS)
def test_pulled_again_and_again_a_field_reaches_its_landmarks(ndim: int) -> None:
    grid = Grid.of_spacing((30,) * ndim, 2.0)
    fixed = grid.centre_mm + uniform(-15, 15, 4, ndim, seed=4).double()
    term = LandmarkTerm(fixed, fixed + uniform(-5, 5, 4, ndim, seed=5).double(), 1.0)
    pull = LandmarkForce.of(term, grid, Affine.identity(ndim), [torch.ones(30)] * ndim)
    assert pull is not None
    u = torch.zeros(1, ndim, *grid.shape)
    before = pull.loss(u)
    assert before == pytest.approx(float(term(Affine.identity(ndim))), rel=1e-5)
    for _ in range(200):
        step = torch.zeros_like(u)
        pull.add_to(step, u, 1.0)
        assert float(torch.linalg.vector_norm(step, dim=1).max()) <= 0.5 + 1e-6
        u = u + step
    assert pull.loss(u) < 1e-4 * before
    corner = u[(0, slice(None), *(0,) * ndim)]
    assert float(corner.abs().max()) == 0  # far from all landmarks


def test_landmarks_beyond_the_grid_pull_nothing() -> None:
    grid = plain_grid(2, 20)
    far = torch.full((1, 2), 500.0).double()
    assert (
        LandmarkForce.of(
            LandmarkTerm(far, far, 1.0), grid, Affine.identity(2), [torch.ones(20)] * 2
        )
        is None
    )


def test_layers_of_a_scan_know_their_channels() -> None:
    image = torch.rand(1, 4, 12, 12, 12)
    layers = (ChannelGroup(1.0), ChannelGroup(0.5, 3, labels=True))
    scan = PreparedImage(image, plain_grid(3, 12), channel_groups=layers)
    assert [part.image.shape[1] for part in scan.parts] == [1, 3]
    assert scan.has_labels
    described = scan.described
    assert described.channel_groups is not None
    assert [layer.channels for layer in described.channel_groups] == [12, 3]
    assert torch.equal(described.image[:, 12:], image[:, 1:])  # labels have no descriptors
    first = Pair(scan, scan).first
    assert torch.equal(first.fixed.image, image[:, :1])
    assert not first.fixed.has_labels


def test_few_labels_have_a_channel_each_and_many_share() -> None:
    labels = torch.arange(40).reshape(1, 1, 5, 8) % 5
    few = label_channels(labels, (1, 2, 4))
    assert few.shape == (1, 3, 5, 8)
    for channel, label in zip(few[0], (1, 2, 4), strict=True):
        assert torch.equal(channel, (labels[0, 0] == label).float())
    sizes = torch.arange(1, 41)
    many = torch.repeat_interleave(sizes, sizes).reshape(1, 1, 20, 41)
    made = label_channels(many, sizes.tolist())
    assert made.shape == (1, MOST_CHANNELS, 20, 41)
    assert ((made > 0).sum(dim=1) == 1).all()
    power = torch.stack([(made**2)[(many == i).expand_as(made)].sum() for i in (1, 17, 33)])
    assert torch.allclose(power, power[:1].expand(3))  # of one channel, and count alike


def test_a_hundred_labels_steer_as_a_few_do() -> None:
    own = Bodies(a_pair(2))
    pieces = {}
    for name, role in (("fixed_labels", 0), ("moving_labels", 1)):
        grid = own.sources[role][1]
        points = grid.points_mm()
        there = own.known.truth(points) if role == 0 else points
        cells = ((there - there.new_tensor([5.0, -4.0]) + 40) / 5).floor().long()
        ids = 1 + cells[..., 0] + 16 * cells[..., 1]
        pieces[name] = ((ids * (own.bodies[role] < 1))[None, None], grid)
    found = own.run(kind="affine", label_weight=1.0, **pieces)
    assert len(pieces["fixed_labels"][0].unique()) > MOST_CHANNELS + 4
    assert own.known.error_mm(found.transform) < 0.3


# -- what is refused, and the command line ---------------------------------------------------------


def test_what_is_refused(tmp_path: Path) -> None:
    own = Bodies(a_pair(2))
    points, other = own.points["fixed_points"], own.labels
    other["moving_labels"] = (other["moving_labels"][0] * 5, other["moving_labels"][1])
    table = tmp_path / "points.csv"
    table.write_text("x,y\n1,2\n", encoding="utf8")
    for options, words in (
        ({"fixed_points": points}, "only fixed points are given; give --moving-points"),
        ({"moving_points": points}, "only moving points are given; give --fixed-points"),
        ({"fixed_points": points, "moving_points": points[:3]}, "8 fixed and 3 moving landmarks"),
        ({"fixed_points": table, "moving_points": points}, "both sides' landmarks as files"),
        (
            {"fixed_points": np.zeros((2, 3)), "moving_points": np.ones((2, 3))},
            "landmarks are 3D and the images are 2D",
        ),
        ({"label_weight": 1.0}, "label weight is 1 and there are no labels"),
        ({"label_weight": 1.0, **other}, "share no label above 0"),
        ({"label_weight": -1.0}, "label_weight is -1.0"),
        ({"landmark_weight": float("nan")}, "landmark_weight is nan"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            own.run(**options)
        assert "\n" not in str(caught.value)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = Bodies(a_pair(3, "rigid"))
    files = []
    both = zip(own.sources, own.labels.values(), ("fixed", "moving"), strict=True)
    for (values, grid), (labels, _), role in both:
        for name, one in ((role, values), (f"{role}_labels", labels.int())):
            image = read_image((one, grid)) if name == role else stn3d.io.read_labels((one, grid))
            write_image(tmp_path / f"{name}.nii.gz", image.values, image)
        table = tmp_path / f"{role}.csv"
        rows = own.points[f"{role}_points"].tolist()
        table.write_text("x,y,z\n" + "".join(f"{x},{y},{z}\n" for x, y, z in rows), "utf8")
        files.append(str(tmp_path / f"{role}.nii.gz"))
    out = tmp_path / "out"
    options = ["--out", str(out), "--kind", "rigid", "--metric", "lncc", "--threads", "1"]
    for role in ("fixed", "moving"):
        options += [f"--{role}-points", str(tmp_path / f"{role}.csv")]
        options += [f"--{role}-labels", str(tmp_path / f"{role}_labels.nii.gz")]
    assert main(["register", *files, *options, "--label-weight", "0.5"]) == 0
    figures = json.loads((out / "metrics.json").read_text())
    assert figures["steered_by"] == ["labels", "landmarks"]
    assert figures["settings"]["label_weight"] == 0.5
    assert figures["after"]["tre_mm"]["mean"] < 0.5
    assert "steered by labels and landmarks too" in capsys.readouterr().out
