"""Series of known motion: what is found, what is written, and that volumes stay on disk."""

from __future__ import annotations

import csv
import gc
import json
import re
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from torch import Tensor

import stn3d
from stn3d.cli import main
from stn3d.errors import InputError
from stn3d.grid import Grid, homogeneous
from stn3d.io import Volumes, open_series, read_transform
from stn3d.series.api import register_series
from stn3d.series.result import Motion
from stn3d.transforms import Rigid
from stn3d.warp import warp_image
from tests.cli.cases import without_opening
from tests.helpers import sitk_reference as judge
from tests.helpers.geometry_cases import uniform
from tests.helpers.synthetic import Anatomy, grid_about

SCALE = 4.0  # the synthetic anatomy is as small as a walnut; a head is four times its size
HEADERS = {"oblique": ((12.0, -8.0, 20.0), False), "LAS": ((0.0, 0.0, 0.0), True)}
COUNT = 5


@dataclass(frozen=True)
class Known:
    """A series on disk, its grid, and the true transforms from the middle volume to each."""

    path: Path
    grid: Grid
    truths: Sequence[Rigid]

    def error_mm(self, transforms: Sequence[stn3d.Transform], numbers: Sequence[int]) -> float:
        """Mean distance to the truth over the head and the volumes."""
        points = head_points(self.grid)
        gaps = [transforms[n](points) - self.truths[n](points) for n in numbers]
        return float(torch.stack(gaps).norm(dim=-1).mean())


def head(points_mm: Tensor) -> Tensor:
    """Brightness at world points."""
    return Anatomy(torch.zeros(points_mm.shape[-1]).double())(points_mm / SCALE)


def head_points(grid: Grid) -> Tensor:
    """``(N, d)`` voxels of the head."""
    points = grid.points_mm().flatten(0, -2)
    return points[Anatomy(torch.zeros(grid.ndim).double()).body(points / SCALE) < 1]


def epi_grid(header: str = "oblique") -> Grid:
    angles_deg, left_handed = HEADERS[header]
    return grid_about(torch.zeros(3), (129, 111, 96), (3, 3, 4), angles_deg, left_handed)


def motions(grid: Grid, count: int = COUNT, most: float = 3.0, seed: int = 0) -> list[Rigid]:
    """Turns and shifts of a few degrees and mm; the middle one is the reference, so none."""
    steps = uniform(-most, most, count, Rigid.num_parameters(grid.ndim), seed=seed)
    steps[:, : -grid.ndim] = torch.deg2rad(steps[:, : -grid.ndim])
    steps[count // 2] = 0
    return [Rigid(step, grid.centre_mm) for step in steps]


def volumes_of(grid: Grid, truths: Sequence[Rigid], noise: float = 0.02) -> np.ndarray:
    """``(*shape, N)`` 16-bit volumes with Rician noise and a brightness of their own."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for number, truth in enumerate(truths):
        clean = head(truth.inverse()(grid.points_mm())) * (1 + 0.01 * number)
        a, b = (noise * torch.randn(clean.shape, generator=generator) for _ in "ab")
        made.append(1000 * torch.hypot(clean + a, b))
    return torch.stack(made, dim=-1).numpy().astype(np.int16)


def write(path: Path, array: np.ndarray, grid: Grid) -> Path:
    affine = grid.world_from_index.numpy()
    if grid.ndim == 2:
        affine = np.eye(4)
        affine[:2, :2], affine[:2, 3] = grid.world_from_index[:2, :2], grid.world_from_index[:2, 2]
        array = array[:, :, None]
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 2)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4], image.header["toffset"] = 2.5, 1.0
    image.to_filename(path)
    return path


def a_series(folder: Path, header: str = "oblique", name: str = "bold.nii.gz") -> Known:
    grid = epi_grid(header)
    truths = motions(grid)
    return Known(write(folder / name, volumes_of(grid, truths), grid), grid, truths)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    return a_series(tmp_path_factory.mktemp("series"))


@pytest.fixture(scope="module")
def result(known: Known) -> Path:
    """The series registered once by the command line."""
    out = known.path.parent / "out"
    assert main(["series", str(known.path), "--out", str(out), "--threads", "1"]) == 0
    return out


def table_of(folder: Path) -> list[dict[str, float]]:
    with open(folder / "motion.csv", newline="", encoding="utf8") as file:
        return [{key: float(v) for key, v in row.items()} for row in csv.DictReader(file)]


# -- what is found --------------------------------------------------------------------------------


@pytest.mark.parametrize("header", HEADERS)
def test_known_motion_is_found(tmp_path: Path, header: str) -> None:
    known = a_series(tmp_path, header)
    found = register_series(known.path, threads=1)
    still = [Rigid.identity(3)] * COUNT
    assert known.error_mm(still, range(COUNT)) > 2
    assert known.error_mm(found.transforms, range(COUNT)) < 0.2  # mm; voxels have 3 x 3 x 4
    assert torch.equal(found.transforms[COUNT // 2].parameters, torch.zeros(6).double())
    assert min(found.correlations) > 0.98


def test_simpleitk_reads_the_transforms(known: Known, result: Path) -> None:
    points = head_points(known.grid)[::50]
    for number, truth in enumerate(known.truths):
        found = sitk.ReadTransform(str(result / "transforms" / f"{number:04d}.h5"))
        assert float((judge.mapped(found, points) - truth(points)).norm(dim=-1).mean()) < 0.3


def test_another_image_may_be_the_reference(known: Known, tmp_path: Path) -> None:
    away = Rigid(torch.tensor([0.1, -0.15, 0.2, 6.0, -9.0, 12.0]).double(), known.grid.centre_mm)
    grid = grid_about(torch.tensor([5.0, -8.0, 3.0]), (120, 130, 110), (2, 2.2, 2), (5, 0, -10))
    anatomical = head(away(grid.points_mm()))[None, None]
    found = register_series(known.path, (anatomical, grid), threads=1)
    points = head_points(known.grid)
    start = away.inverse()(points)
    for transform, truth in zip(found.transforms, known.truths, strict=True):
        gap = transform(start) - truth(points)
        assert float(gap.norm(dim=-1).mean()) < 0.3
    assert next(iter(found.moved)).shape == (1, 1, *grid.shape)
    found.save(tmp_path / "out")
    moved = nib.load(tmp_path / "out" / "moved.nii.gz")
    assert moved.shape == (*grid.shape, COUNT)
    np.testing.assert_allclose(moved.affine, grid.world_from_index.numpy(), atol=1e-4)


def test_volumes_of_unlike_contrast_by_nmi(known: Known, tmp_path: Path) -> None:
    array = np.asanyarray(nib.load(known.path).dataobj).astype(np.float32)
    inside = array[..., ::2] > 300
    array[..., ::2] = np.where(inside, 1500 - array[..., ::2], array[..., ::2])
    path = write(tmp_path / "dwi.nii.gz", array.astype(np.int16), known.grid)
    found = register_series(path, reference_volume=2, metric="nmi", threads=1)
    assert known.error_mm(found.transforms, range(COUNT)) < 0.4


def test_a_sudden_jump_is_followed(tmp_path: Path) -> None:
    grid = epi_grid()
    steps = torch.zeros(6, 6).double()
    steps[1:3] = torch.tensor([0.2, -0.15, 0.1, 8.0, -6.0, 10.0])
    steps[4] = torch.tensor([-0.15, 0.1, -0.2, -9.0, 8.0, -8.0])
    truths = [Rigid(step, grid.centre_mm) for step in steps]
    known = Known(write(tmp_path / "a.nii.gz", volumes_of(grid, truths), grid), grid, truths)
    found = register_series(known.path, reference_volume=0, threads=1)
    assert known.error_mm(found.transforms, range(6)) < 0.25


def test_planes_over_time(tmp_path: Path) -> None:
    grid = grid_about(torch.zeros(2), (120, 111), (2, 3))
    truths = motions(grid)
    known = Known(write(tmp_path / "cine.nii.gz", volumes_of(grid, truths), grid), grid, truths)
    found = register_series(known.path, threads=1)
    assert known.error_mm(found.transforms, range(COUNT)) < 0.25
    found.save(tmp_path / "out")
    assert nib.load(tmp_path / "out" / "moved.nii.gz").shape == (*grid.shape, 1, COUNT)
    head = "volume,rotation_z_deg,translation_x_mm,translation_y_mm"
    assert (tmp_path / "out" / "motion.csv").read_text().startswith(head)


def test_every_source_gives_the_same(known: Known, tmp_path: Path) -> None:
    image = nib.load(known.path)
    array = np.asanyarray(image.dataobj)
    nib.save(image, tmp_path / "bold.nii")
    tensor = MetaTensor(torch.from_numpy(np.moveaxis(array, -1, 0).copy()), affine=image.affine)
    expected = register_series(known.path, threads=1).motion
    for source in (tmp_path / "bold.nii", image, tensor):
        motion = register_series(source, threads=1).motion
        assert torch.allclose(motion.rotation_deg, expected.rotation_deg, atol=1e-4)
        assert torch.allclose(motion.translation_mm, expected.translation_mm, atol=1e-4)


# -- what is written ------------------------------------------------------------------------------


def test_framewise_displacement_by_hand() -> None:
    centre = torch.tensor([10.0, -5.0, 3.0]).double()
    steps = torch.tensor(
        [[0, 0, 0, 0, 0, 0], [0.01, 0, -0.02, 1, -2, 0.5], [0.01, 0.01, -0.02, 1, -2, 0]]
    )
    motion = Motion.of([Rigid(step.double(), centre) for step in steps])
    expected = torch.tensor([0, 50 * 0.03 + 3.5, 50 * 0.01 + 0.5]).double()
    assert torch.allclose(motion.framewise_displacement_mm, expected, atol=1e-6)


def test_the_table_tells_the_transforms(known: Known, result: Path) -> None:
    rows = table_of(result)
    assert [row["volume"] for row in rows] == list(range(COUNT))
    points = head_points(known.grid)[::100]
    for number, row in enumerate(rows):
        turn = torch.tensor([row[f"rotation_{a}_deg"] for a in "xyz"]).double()
        shift = torch.tensor([row[f"translation_{a}_mm"] for a in "xyz"]).double()
        told = Rigid(torch.cat([torch.deg2rad(turn), shift]), known.grid.centre_mm)
        saved = read_transform(result / "transforms" / f"{number:04d}.h5")
        assert torch.allclose(told(points), saved(points), atol=1e-4)
        assert row["correlation"] > 0.98
    assert rows[0]["framewise_displacement_mm"] == 0
    figures = json.loads((result / "metrics.json").read_text())
    displacements = [row["framewise_displacement_mm"] for row in rows[1:]]
    mean = figures["motion"]["framewise_displacement_mean_mm"]
    assert mean == pytest.approx(np.mean(displacements), abs=1e-5)
    assert figures["after"]["correlation"] > figures["before"]["correlation"] + 0.005


def test_moved_volumes_keep_space_and_time(known: Known, result: Path) -> None:
    before, after = nib.load(known.path), nib.load(result / "moved.nii.gz")
    for key in ("sform_code", "qform_code", "srow_x", "srow_z", "quatern_b", "pixdim", "toffset"):
        np.testing.assert_array_equal(before.header[key], after.header[key], err_msg=key)
    assert after.header.get_xyzt_units() == ("mm", "sec")
    assert after.get_data_dtype() == np.float32
    series = open_series(known.path)
    for number in range(COUNT):
        transform = read_transform(result / "transforms" / f"{number:04d}.h5")
        image = series.image(number)
        expected = warp_image(image.values, image.grid, transform, image.grid)[0, 0].numpy()
        np.testing.assert_allclose(after.dataobj[..., number], expected, atol=0.05)


def test_simpleitk_moves_a_volume_alike(known: Known, result: Path) -> None:
    image = open_series(known.path).image(1)
    transform = sitk.ReadTransform(str(result / "transforms" / "0001.h5"))
    moving = judge.image_of(image.values, image.grid)
    expected = judge.resampled(moving, image.grid, transform, sitk.sitkLinear, 0.0)[0, 0].numpy()
    moved = np.asanyarray(nib.load(result / "moved.nii.gz").dataobj[..., 1])
    assert float(np.sqrt(np.square(moved - expected).mean())) < 0.002 * expected.max()


def test_cubic_is_cubic(known: Known) -> None:
    found = register_series(known.path, interpolation="cubic", threads=1)
    image, transform = open_series(known.path).image(0), found.transforms[0]
    expected = warp_image(image.values, image.grid, transform, image.grid, "cubic")
    assert torch.equal(next(iter(found.moved)), expected)


def test_same_series_same_bytes(known: Known, result: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    (out / "transforms").mkdir(parents=True)
    (out / "transforms" / "0123.h5").write_text("of a longer series")
    (out / "transforms" / "notes.txt").write_text("somebody's own")
    assert main(["series", str(known.path), "--out", str(out), "--threads", "1"]) == 0
    names = [path.relative_to(result) for path in result.rglob("*") if path.is_file()]
    assert len(names) == COUNT + 3
    for name in names:
        if name.name != "metrics.json":
            assert (out / name).read_bytes() == (result / name).read_bytes(), name
    kept = {path.name for path in (out / "transforms").iterdir()}
    assert kept == {*(f"{number:04d}.h5" for number in range(COUNT)), "notes.txt"}


def test_the_command_tells_what_it_does(
    known: Known, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "out"
    options = ["--reference-volume", "0", "--metric", "lncc", "--threads", "1"]
    assert main(["series", str(known.path), "--out", str(out), *options]) == 0
    told, progress = (text.splitlines() for text in capfd.readouterr())
    progress = without_opening(progress)
    assert [line.split(":")[0] for line in progress] == [f"volume {n}" for n in range(COUNT)]
    assert all(re.search(r"correlation \d\.\d{4} \(\d of 5\)$", line) for line in progress)
    assert any("framewise displacement, mean, mm" in line for line in told)
    names = ("moved.nii.gz", "transforms", "motion.csv", "metrics.json")
    assert [line for line in told if line.startswith("wrote")] == [
        f"wrote {out / n}" for n in names
    ]
    figures = json.loads((out / "metrics.json").read_text())
    assert figures["settings"] == {"metric": "lncc", "interpolation": "linear"}
    assert figures["reference"]["name"].endswith("(volume 0)")


# -- streaming ------------------------------------------------------------------------------------


def test_few_volumes_are_in_memory_and_none_is_read_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid, count = grid_about(torch.zeros(3), (120, 108, 96), (6, 6, 8)), 16
    truths = motions(grid, count)
    path = write(tmp_path / "long.nii.gz", volumes_of(grid, truths), grid)
    alive: set[int] = set()
    most, reads = 0, [0] * count
    plain = Volumes.image

    def counted(self: Volumes, n: int) -> stn3d.Image:
        nonlocal most
        image = plain(self, n)
        key = sum(reads)
        reads[n] += 1
        alive.add(key)
        weakref.finalize(image.values, alive.discard, key)
        most = max(most, len(alive))
        return image

    monkeypatch.setattr(Volumes, "image", counted)
    gc.collect()
    found = register_series(path, threads=1)
    found.save(tmp_path / "out")
    assert most <= 3
    assert max(reads) <= 3  # checked, registered, moved
    assert isinstance(found.series, Volumes)


# -- refused --------------------------------------------------------------------------------------


def spoilt(known: Known, folder: Path, number: int, value: float) -> Path:
    """The series with one volume, or one voxel of it, gone wrong."""
    array = np.asanyarray(nib.load(known.path).dataobj).astype(np.float32)
    if np.isnan(value):
        array[3, 4, 5, number] = value
    else:
        array[..., number] = value
    return write(folder / "spoilt.nii.gz", array, known.grid)


def refused(command: list[str], out: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """The one sentence with which a command ends; nothing is written."""
    capfd.readouterr()
    assert main(["series", *command, "--out", str(out)]) == 2
    told, errors = capfd.readouterr()
    assert told == ""
    (line,) = [one for one in without_opening(errors.splitlines()) if not one.startswith("volume ")]
    assert not out.exists()
    return line


def test_what_is_no_series_is_refused(
    known: Known, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out, series = tmp_path / "a" / "out", str(known.path)
    nib.save(nib.load(known.path).slicer[..., 0], tmp_path / "one.nii.gz")
    plane = grid_about(torch.zeros(2), (60, 60), (2, 2))
    write(tmp_path / "plane.nii.gz", volumes_of(plane, motions(plane, 1)), plane)
    cases = {
        (
            str(tmp_path / "one.nii.gz"),
        ): "one.nii.gz has a single volume (43 x 37 x 24 voxels); give a",
        (str(tmp_path / "gone.nii.gz"),): "there is no series image",
        (series, "--reference", str(tmp_path / "plane.nii.gz")): "are 3D and the reference",
        (series, "--reference", series): "holds 5 volumes; choose one with --reference-volume N",
        (series, "--reference-volume", "5"): "has no volume 5; it holds 5, counted from 0",
        (series, "--reference-volume", "-1"): "has no volume -1; it holds 5, counted from 0",
        (series, "--metric", "nccc"): "the metric 'nccc' is unknown; did you mean ncc?",
        (series, "--interpolation", "linar"): "did you mean linear?",
        (series, "--threads", "0"): "the setting threads is 0; give at least 1",
    }
    for command, words in cases.items():
        assert words in refused(list(command), out, capfd)
    constant, broken = spoilt(known, tmp_path, 3, 7), tmp_path / "nan.nii.gz"
    line = refused([str(constant)], out, capfd)
    assert "volume 3 of the series" in line
    assert "is constant (every voxel is 7); leave it out" in line
    spoilt(known, tmp_path, 1, np.nan).rename(broken)
    assert "nan.nii.gz (volume 1) has NaN or Inf in 1 of" in refused([str(broken)], out, capfd)
    assert not out.parent.exists()


def test_a_damaged_series_is_refused(
    known: Known, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cut.nii.gz"
    path.write_bytes(known.path.read_bytes()[:-200000])
    assert "is truncated or damaged" in refused([str(path)], tmp_path / "out", capfd)


def test_out_that_is_a_file_is_refused(
    known: Known, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    assert main(["series", str(known.path), "--out", str(tmp_path / "file")]) == 2
    assert "cannot make the folder" in capfd.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_a_failure_while_writing_leaves_nothing(known: Known, tmp_path: Path) -> None:
    path = tmp_path / "bold.nii.gz"
    path.write_bytes(known.path.read_bytes())
    found = register_series(path, threads=1)
    path.unlink()
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(InputError):
        found.save(out)
    assert list(out.rglob("*")) == []


def test_a_rigid_matrix_and_its_parameters() -> None:
    for d, parameters in ((2, [0.3, 4.0, -2.0]), (3, [0.3, -2.0, 1.0, 4.0, -2.0, 9.0])):
        centre = torch.tensor([3.0, 5.0, -7.0][:d]).double()
        rigid = Rigid(torch.tensor(parameters).double(), centre)
        again = Rigid.from_matrix(rigid.matrix, centre)
        assert torch.allclose(again.parameters, rigid.parameters, atol=1e-12)
        none = Rigid.from_matrix(homogeneous(torch.eye(d), torch.zeros(d)).double(), centre)
        assert torch.equal(none.parameters, Rigid.identity_parameters(d))
