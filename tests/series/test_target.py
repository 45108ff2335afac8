"""Motion correction and normalisation in one resampling, against SimpleITK."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

import stn3d
from stn3d.cli import main
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import open_series
from stn3d.series.api import register_series
from stn3d.series.gradients import rotated_bvecs
from stn3d.series.result import SeriesRegistration
from stn3d.series.target import Normalisation, Target
from stn3d.transforms import Affine, DisplacementField, Rigid, chain
from tests.cli.cases import without_opening
from tests.helpers import sitk_reference
from tests.helpers.geometry_cases import uniform
from tests.helpers.series_cases import COUNT, Known
from tests.helpers.synthetic import grid_about


def template_grid() -> Grid:
    return grid_about(torch.tensor([20.0, -10.0, 5.0]), (150, 140, 120), (2.5, 2.5, 3), (4, 8, -6))


@pytest.fixture(scope="module")
def normalisation(tmp_path_factory: pytest.TempPathFactory, known: Known) -> Path:
    """A template, its deformable transform to a T1, and the rigid one from that to the series."""
    folder, grid = tmp_path_factory.mktemp("normalisation"), template_grid()
    coarse = grid.padded(10.0).resampled(12.0)
    u = stn3d.kernels.gaussian_smooth(
        uniform(-25, 25, 1, 3, *coarse.shape, seed=3).float(), [1.0] * 3
    )
    linear = torch.eye(4).double()
    linear[:3, :3] += uniform(-0.1, 0.1, 3, 3, seed=4)
    linear[:3, 3] = torch.tensor([-20.0, 12.0, -3.0])
    stn3d.write_transform(
        folder / "to_t1.h5", chain(DisplacementField(u, coarse), Affine.from_matrix(linear))
    )
    tilt = Rigid(torch.tensor([0.1, -0.05, 0.2, 4.0, -3.0, 2.0]).double(), known.grid.centre_mm)
    stn3d.write_transform(folder / "to_bold.tfm", tilt)
    stn3d.as_image((torch.zeros(grid.shape), grid)).save(folder / "template.nii.gz")
    np.savetxt(folder / "bvecs", uniform(-1, 1, 3, COUNT, seed=5).numpy())
    return folder


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_simpleitk_resamples_equally_by_the_composite_transform(
    known: Known, normalisation: Path, tmp_path: Path, interpolation: str
) -> None:
    out, specs = tmp_path / "out", [normalisation / "to_t1.h5", normalisation / "to_bold.tfm"]
    options = ["--then", str(specs[0]), "--then", str(specs[1]), "--threads", "1"]
    options += ["--like", str(normalisation / "template.nii.gz"), "--interpolation", interpolation]
    options += ["--bvecs", str(normalisation / "bvecs")]
    assert main(["series", str(known.path), "--out", str(out), *options]) == 0
    moved, grid = nib.load(out / "moved.nii.gz"), template_grid()
    assert moved.shape == (*grid.shape, COUNT)
    np.testing.assert_allclose(moved.affine, grid.world_from_index.numpy(), atol=1e-4)
    assert moved.header["pixdim"][4] == 2.5  # the repetition time of the series
    target = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["target"]
    assert target["transforms"] == [str(path) for path in specs]
    how = sitk.sitkLinear if interpolation == "linear" else sitk.sitkBSpline
    for number in (0, COUNT - 1):
        parts = [*specs, out / "transforms" / f"{number:04d}.h5"]  # in the order of a point
        whole = sitk_reference.composite([sitk.ReadTransform(str(path)) for path in parts], 3)
        image = open_series(known.path).image(number)
        source = sitk_reference.image_of(image.values, image.grid)
        expected = sitk_reference.resampled(source, grid, whole, how, 0.0)[0, 0].numpy()
        gap = np.asanyarray(moved.dataobj[..., number]) - expected
        assert expected.max() > 500
        assert float(np.sqrt(np.square(gap).mean())) < 0.003 * expected.max()
        assert np.quantile(np.abs(gap), 0.99) < 0.5  # of 1000


def test_directions_take_the_rotation_of_the_whole_transform(
    known: Known, normalisation: Path
) -> None:
    """Against the exact composed rotation, for a linear transform with scaling and shear."""
    tilt = Rigid(torch.tensor([0.3, -0.2, 0.5, 4.0, -3.0, 2.0]).double(), known.grid.centre_mm)
    stretch = torch.diag(torch.tensor([1.2, 0.9, 1.05, 1.0]).double())  # V of F = R V
    then = chain(Affine.from_matrix(stretch), tilt)
    motion = Rigid(torch.tensor([0.05, 0.1, -0.1, 1.0, 2.0, 0.0]).double(), known.grid.centre_mm)
    grid, series = template_grid(), open_series(known.path)
    image = stn3d.read_image((torch.rand(grid.shape), grid))
    target = Target(then, image)
    found = SeriesRegistration(
        (motion,) * COUNT, series, series.image(0), "linear", (1.0,) * COUNT, {}, target=target
    )
    bvecs = uniform(-1, 1, COUNT, 3, seed=5).numpy()
    exact = Affine.from_matrix(motion.matrix @ tilt.matrix)
    expected = rotated_bvecs(bvecs, [exact] * COUNT, known.grid, grid)
    turned = found.with_bvecs(bvecs).bvecs
    assert turned is not None
    np.testing.assert_allclose(turned, expected, atol=1e-6)


def test_all_volumes_share_one_field(known: Known, normalisation: Path) -> None:
    image = stn3d.read_image(normalisation / "template.nii.gz", allow_constant=True)
    target = Normalisation(image, (normalisation / "to_t1.h5",)).read(
        open_series(known.path).image(0)
    )
    composed = target.composed(tuple(known.truths))
    fields = {id(one.parts[0].displacement_mm) for one in composed}  # type: ignore[attr-defined]
    assert len(composed) == COUNT
    assert len(fields) == 1
    points = image.grid.points_mm()[::5, ::5, ::5]
    gap = composed[0](points) - known.truths[0](target.then(points))
    assert float(gap.norm(dim=-1).max()) < 1e-3


def test_a_target_grid_alone_changes_the_grid(known: Known) -> None:
    fine = known.grid.resampled(5.0)
    found = register_series(
        known.path, normalisation=Normalisation((torch.zeros(fine.shape), fine)), threads=1
    )
    assert next(iter(found.moved)).shape == (1, 1, *fine.shape)


def test_invalid_targets_are_rejected(
    known: Known, normalisation: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    far = Affine.from_matrix(
        torch.tensor([[1, 0, 0, 900], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    )
    stn3d.write_transform(tmp_path / "far.tfm", far)
    stn3d.write_transform(tmp_path / "flat.tfm", Affine.identity(2))
    template, out = str(normalisation / "template.nii.gz"), tmp_path / "out"
    cases = {
        ("--then", str(tmp_path / "far.tfm")): "--then needs --like IMAGE",
        ("--then", str(tmp_path / "far.tfm"), "--like", template): "map no voxel of",
        ("--then", str(tmp_path / "flat.tfm"), "--like", template): "is 2D and the volumes are 3D",
        ("--then", str(tmp_path / "gone.h5"), "--like", template): "gone.h5",
        ("--like", str(tmp_path / "gone.nii.gz")): "gone.nii.gz",
    }
    for options, words in cases.items():
        capfd.readouterr()
        assert main(["series", str(known.path), "--out", str(out), *options]) == 2
        printed, errors = capfd.readouterr()
        (line,) = without_opening(errors.splitlines())
        assert words in line
        assert printed == ""
        assert not out.exists()
    with pytest.raises(InputError, match="no transform"):
        Normalisation(template, (object(),)).read(open_series(known.path).image(0))  # type: ignore[arg-type]
