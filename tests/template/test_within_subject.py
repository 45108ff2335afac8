"""Templates of visits: halfway between them, whatever their order, grids and brightness."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

import stn3d
from stn3d.cli import main
from stn3d.errors import InputError
from stn3d.registration.outputs import Outputs
from stn3d.template import TemplateSettings, build_within_subject
from stn3d.template.linear_mean import product
from stn3d.transforms import Linear
from tests.cli.cases import without_opening
from tests.helpers.synthetic import Anatomy, plain_grid
from tests.helpers.template_cases import Shape, make_visits


@pytest.fixture(scope="module")
def visits(tmp_path_factory: pytest.TempPathFactory) -> list[Shape]:
    return make_visits(tmp_path_factory.mktemp("visits"))


def test_the_template_is_halfway_in_either_order(
    visits: list[Shape], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = [str(one.path) for one in visits]
    options = ["--within-subject", "--threads", "1"]
    assert main(["template", *paths, "--out", str(tmp_path / "a"), *options]) == 0
    printed, progress = capfd.readouterr()
    assert f"wrote {tmp_path / 'a' / 'template.nii.gz'}" in printed
    assert "both directions agree within" in printed
    assert without_opening(progress.splitlines())[-1].endswith("visit0_to_visit1 (2 of 2)") or (
        "(2 of 2)" in progress
    )
    assert main(["template", *paths[::-1], "--out", str(tmp_path / "b"), *options]) == 0
    files = [p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()]
    assert len(files) == 2 + 2 * 4
    for name in files:
        if name.suffix != ".json":
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    poses = [stn3d.read_transform(tmp_path / "a" / f"visit{n}" / "transform.h5") for n in (0, 1)]
    assert isinstance(poses[0], Linear)
    assert isinstance(poses[1], Linear)
    both = product(poses[0], poses[1]).matrix  # the square root and its inverse
    torch.testing.assert_close(both, torch.eye(4).double(), atol=1e-5, rtol=0)
    points = plain_grid(3, 16, 4).points_mm() + visits[0].grid.centre_mm
    found = poses[1](poses[0].inverse()(points))
    truth = product(visits[0].truth, visits[1].truth.inverse())  # type: ignore[arg-type]
    assert float((truth(points) - points).norm(dim=-1).mean()) > 3
    assert float((found - truth(points)).norm(dim=-1).mean()) < 0.15  # mm; voxels have 1.2 to 2


def test_volume_change_between_visits(tmp_path: Path) -> None:
    """A ball inside the body grows from 5 to 5.6 mm, at another position and brightness."""
    grid, radii, made = plain_grid(3, 36, 1.25), (5.0, 5.6), []
    for n, radius in enumerate(radii):
        shift = torch.tensor([1.5 * n, -n, 0.5 * n])
        distance = (grid.points_mm() - shift).norm(dim=-1)
        body = Anatomy(shift.double())(grid.points_mm())
        values = (100 + 50 * n) * body * (1 - 0.7 * torch.sigmoid((radius - distance) * 2))
        stn3d.as_image((values, grid)).save(tmp_path / f"v{n}.nii.gz")
        labels = (distance < radius).to(torch.int16)
        nib.save(
            nib.Nifti1Image(labels.numpy(), grid.world_from_index.numpy()),
            tmp_path / f"l{n}.nii.gz",
        )
        made.append(float(labels.sum()) * 1.25**3 / 1000)
    paths, maps = ([tmp_path / f"{letter}{n}.nii.gz" for n in (0, 1)] for letter in "vl")
    settings = TemplateSettings(iterations=1, sharpening=0.0, threads=1)
    found = build_within_subject(
        paths,
        tmp_path / "out",
        jacobian=True,
        labels=maps,
        settings=settings,
        outputs=Outputs(report=False),
    )
    (change,) = found.metrics["volume_changes"]
    assert change["from"] == "v0"
    assert change["volume_before_ml"] == pytest.approx(made[0], rel=0.12)
    # 40 %; the smoothness of the field leaves a part of the change of a small ball undetected
    assert 0.55 < change["change_pct"] / (100 * (5.6**3 / 5.0**3 - 1)) < 1.05
    jacobians = [
        np.asanyarray(nib.load(tmp_path / "out" / f"v{n}" / "jacobian.nii.gz").dataobj)
        for n in (0, 1)
    ]
    ratio = np.asanyarray(nib.load(tmp_path / "out" / "changes" / "v0_to_v1.nii.gz").dataobj)
    np.testing.assert_allclose(ratio, jacobians[1] / jacobians[0], rtol=1e-4)
    assert ratio.max() > 1.3
    written = json.loads((tmp_path / "out" / "template.json").read_text(encoding="utf8"))
    assert written["within_subject"] is True


def test_bad_visits_are_rejected(
    visits: list[Shape], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths, out = [str(one.path) for one in visits], str(tmp_path / "out")
    cases = {
        ("--jacobian",): "--jacobian belongs to visits of one subject; add --within-subject",
        ("--within-subject", "--labels", paths[0]): "add --jacobian",
        ("--within-subject", "--jacobian", "--labels", paths[0]): "1 label maps and 2 visits",
        ("--within-subject", "--symmetric"): "cannot be symmetric",
        ("--within-subject", "--start", paths[0]): "--start biases",
        ("--within-subject", "--iterations", "0"): "iterations is 0",
        ("--within-subject", "--metric", "lnc"): "did you mean lncc?",
    }
    for options, words in cases.items():
        capfd.readouterr()
        assert main(["template", *paths, "--out", out, *options]) == 2
        printed, errors = capfd.readouterr()
        assert words in errors
        assert printed == ""
        assert not Path(out).exists()
    with pytest.raises(InputError, match="at least 2 images"):
        build_within_subject(paths[:1], out)
