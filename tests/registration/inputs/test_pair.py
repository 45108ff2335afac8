"""Labels and landmarks in the objective, beside the images."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import stn3d
from stn3d.cli import main
from stn3d.errors import InputError
from stn3d.io import read_image, write_image
from stn3d.registration.inputs import MAX_LABEL_CHANNELS
from stn3d.registration.result import Registration
from tests.helpers.geometry_cases import DIMS
from tests.helpers.registration import sides
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
        self.points = points, known.truth(points)

    @property
    def labels(self) -> tuple[Any, Any]:
        images = (self.known.fixed, self.known.moving)
        grids = self.known.fixed_grid, self.known.moving_grid
        maps = [
            ((image > 0.75) * 1 + (image < 0.45) * 2).long() * (body < 1)
            for image, body in zip(images, self.bodies, strict=True)
        ]
        fixed, moving = zip(maps, grids, strict=True)
        return fixed, moving

    def run(self, data: dict[str, Any] | None = None, **options: Any) -> Registration:
        """Register, with fields of both `RegistrationImage`s."""
        given = sides(self.sources, **(data or {}))
        return stn3d.register(*given, **{"metric": "lncc", "threads": 1, **options})


@pytest.fixture(scope="module", params=DIMS)
def bodies(request: pytest.FixtureRequest) -> Bodies:
    return Bodies(a_pair(request.param))


def test_where_images_tell_nothing_labels_do(bodies: Bodies) -> None:
    known, labels = bodies.known, {"labels": bodies.labels}
    scored = bodies.run(labels, kind="affine")
    assert scored.metrics["used_in_optimisation"] == []
    guided = bodies.run(labels, kind="affine", label_weight=1.0)
    assert guided.metrics["used_in_optimisation"] == ["labels"]
    assert known.error_mm(scored.transform) > 1
    assert known.error_mm(guided.transform) < 0.3
    assert guided.metrics["after"]["dice"] > scored.metrics["after"]["dice"] + 0.05


@pytest.mark.parametrize("metric", ["mind", "nmi"])
def test_labels_guide_beside_every_kind_of_loss(metric: str) -> None:
    bodies = Bodies(a_pair(2))
    labels, options = {"labels": bodies.labels}, {"kind": "deformable", "metric": metric}
    errors_mm = [
        bodies.known.error_mm(bodies.run(labels, **options, label_weight=w).transform)
        for w in (0.0, 1.0)
    ]
    assert errors_mm[1] < 0.5 * errors_mm[0]


@pytest.mark.parametrize("kind", ["rigid", "affine"])
def test_where_images_tell_nothing_landmarks_do(bodies: Bodies, kind: str) -> None:
    own = Bodies(a_pair(bodies.known.fixed_grid.ndim, kind))
    found = own.run({"landmarks": own.points}, kind=kind)
    assert found.metrics["used_in_optimisation"] == ["landmarks"]
    assert "landmarks" in {one["name"] for one in found.metrics["initial_candidates"]}
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
    data, options = {"landmarks": (some, truth(some))}, {"kind": "deformable", "init": "header"}
    plain = own.run(data, **options, landmark_weight=0)
    found = own.run(data, **options)
    assert plain.metrics["used_in_optimisation"] == []
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
    measured = own.run({"landmarks": own.points}, **options, landmark_weight=0)
    where = own.known.fixed_grid.points_mm()
    assert torch.equal(plain.transform(where), measured.transform(where))
    assert "tre_mm" not in plain.metrics["after"]
    assert measured.metrics["after"]["tre_mm"]["mean"] > 0.5
    assert measured.metrics["used_in_optimisation"] == []


def test_one_landmark_guides_too() -> None:
    own = Bodies(a_pair(2))
    one = {"landmarks": tuple(points[:1] for points in own.points)}
    plain, found = (own.run(one, kind="deformable", landmark_weight=w) for w in (0, 1))
    assert found.metrics["after"]["tre_mm"]["mean"] < 0.5
    assert plain.metrics["after"]["tre_mm"]["mean"] > 0.5


def test_a_hundred_labels_guide_as_a_few_do() -> None:
    own = Bodies(a_pair(2))
    pieces: list[Any] = []
    for role in (0, 1):
        grid = own.sources[role][1]
        points = grid.points_mm()
        there = own.known.truth(points) if role == 0 else points
        cells = ((there - there.new_tensor([5.0, -4.0]) + 40) / 5).floor().long()
        ids = 1 + cells[..., 0] + 16 * cells[..., 1]
        pieces.append(((ids * (own.bodies[role] < 1))[None, None], grid))
    found = own.run({"labels": pieces}, kind="affine", label_weight=1.0)
    assert len(pieces[0][0].unique()) > MAX_LABEL_CHANNELS + 4
    assert own.known.error_mm(found.transform) < 0.3


# -- what is refused, and the command line ---------------------------------------------------------


def test_what_is_refused(tmp_path: Path) -> None:
    own = Bodies(a_pair(2))
    (points, others), labels = own.points, own.labels
    unlike = labels[0], (labels[1][0] * 5, labels[1][1])
    table = tmp_path / "points.csv"
    table.write_text("x,y\n1,2\n", encoding="utf8")
    for data, options, words in (
        (("landmarks", (points, None)), {}, "only fixed points are given; give --moving-points"),
        (("landmarks", (None, points)), {}, "only moving points are given; give --fixed-points"),
        (("landmarks", (points, others[:3])), {}, "8 fixed and 3 moving landmarks"),
        (("landmarks", (table, points)), {}, "landmarks of both images as files"),
        (
            ("landmarks", (np.zeros((2, 3)), np.ones((2, 3)))),
            {},
            "landmarks are 3D and the images are 2D",
        ),
        (None, {"label_weight": 1.0}, "label weight is 1 and there are no labels"),
        (("labels", unlike), {"label_weight": 1.0}, "share no label above 0"),
        (None, {"label_weight": -1.0}, "label_weight is -1.0"),
        (None, {"landmark_weight": float("nan")}, "landmark_weight is nan"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            own.run(dict([data]) if data else None, **options)
        assert "\n" not in str(caught.value)


def test_labels_in_common_are_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    own, calls = Bodies(a_pair(2)), []
    pair = importlib.import_module("stn3d.registration.inputs.pair")
    found = pair.common_labels

    def counted(*arguments: Any) -> tuple[int, ...]:
        calls.append(arguments)
        return found(*arguments)

    monkeypatch.setattr(pair, "common_labels", counted)
    own.run({"labels": own.labels}, kind="rigid", label_weight=1.0)
    assert len(calls) == 1


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = Bodies(a_pair(3, "rigid"))
    files = []
    both = zip(own.sources, own.labels, own.points, ("fixed", "moving"), strict=True)
    for (values, grid), (labels, _), points, role in both:
        for name, one in ((role, values), (f"{role}_labels", labels.int())):
            image = read_image((one, grid)) if name == role else stn3d.io.read_labels((one, grid))
            write_image(tmp_path / f"{name}.nii.gz", image.values, image)
        table = tmp_path / f"{role}.csv"
        rows = points.tolist()
        table.write_text("x,y,z\n" + "".join(f"{x},{y},{z}\n" for x, y, z in rows), "utf8")
        files.append(str(tmp_path / f"{role}.nii.gz"))
    out = tmp_path / "out"
    options = ["--out", str(out), "--kind", "rigid", "--metric", "lncc", "--threads", "1"]
    for role in ("fixed", "moving"):
        options += [f"--{role}-points", str(tmp_path / f"{role}.csv")]
        options += [f"--{role}-labels", str(tmp_path / f"{role}_labels.nii.gz")]
    assert main(["register", *files, *options, "--label-weight", "0.5"]) == 0
    figures = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert figures["used_in_optimisation"] == ["labels", "landmarks"]
    assert figures["settings"]["label_weight"] == 0.5
    assert figures["after"]["tre_mm"]["mean"] < 0.5
    assert "note: labels and landmarks were used in the registration" in capsys.readouterr().out
