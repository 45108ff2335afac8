"""Motion parameters, moved volumes and files of a registered series."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from stn3d.cli import main
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import open_series, read_transform
from stn3d.series.api import register_series
from stn3d.series.result import HEAD_RADIUS_MM, Motion, rotation_radius_mm
from stn3d.transforms import Rigid
from stn3d.warp import warp_image
from tests.helpers import sitk_reference
from tests.helpers.series_cases import COUNT, Known, head_points


def table_of(folder: Path) -> list[dict[str, float]]:
    with open(folder / "motion.csv", newline="", encoding="utf8") as file:
        return [{key: float(v) for key, v in row.items()} for row in csv.DictReader(file)]


def test_simpleitk_reads_the_transforms(known: Known, result: Path) -> None:
    points = head_points(known.grid)[::50]
    for number, truth in enumerate(known.truths):
        found = sitk.ReadTransform(str(result / "transforms" / f"{number:04d}.h5"))
        assert (
            float((sitk_reference.mapped(found, points) - truth(points)).norm(dim=-1).mean()) < 0.3
        )


def test_framewise_displacement_equals_a_manual_computation() -> None:
    centre = torch.tensor([10.0, -5.0, 3.0]).double()
    steps = torch.tensor(
        [[0, 0, 0, 0, 0, 0], [0.01, 0, -0.02, 1, -2, 0.5], [0.01, 0.01, -0.02, 1, -2, 0]]
    )
    motion = Motion.of([Rigid(step.double(), centre) for step in steps])
    expected = torch.tensor([0, 50 * 0.03 + 3.5, 50 * 0.01 + 0.5]).double()
    assert torch.allclose(motion.framewise_displacement_mm, expected, atol=1e-6)


def test_the_table_matches_the_transforms(known: Known, result: Path) -> None:
    rows = table_of(result)
    assert [row["volume"] for row in rows] == list(range(COUNT))
    points = head_points(known.grid)[::100]
    for number, row in enumerate(rows):
        rotation = torch.tensor([row[f"rotation_{a}_deg"] for a in "xyz"]).double()
        translation = torch.tensor([row[f"translation_{a}_mm"] for a in "xyz"]).double()
        tabulated = Rigid(torch.cat([torch.deg2rad(rotation), translation]), known.grid.centre_mm)
        saved = read_transform(result / "transforms" / f"{number:04d}.h5")
        assert torch.allclose(tabulated(points), saved(points), atol=1e-4)
        assert row["correlation"] > 0.98
    assert rows[0]["framewise_displacement_mm"] == 0
    metrics = json.loads((result / "metrics.json").read_text(encoding="utf-8"))
    displacements = [row["framewise_displacement_mm"] for row in rows[1:]]
    mean = metrics["motion"]["framewise_displacement_mean_mm"]
    assert mean == pytest.approx(np.mean(displacements), abs=1e-5)
    assert metrics["after"]["correlation"] > metrics["before"]["correlation"] + 0.005


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


def test_simpleitk_warps_a_volume_equally(known: Known, result: Path) -> None:
    image = open_series(known.path).image(1)
    transform = sitk.ReadTransform(str(result / "transforms" / "0001.h5"))
    moving = sitk_reference.image_of(image.values, image.grid)
    expected = sitk_reference.resampled(moving, image.grid, transform, sitk.sitkLinear, 0.0)[
        0, 0
    ].numpy()
    moved = np.asanyarray(nib.load(result / "moved.nii.gz").dataobj[..., 1])
    assert float(np.sqrt(np.square(moved - expected).mean())) < 0.002 * expected.max()


def test_cubic_interpolation_of_the_moved_volumes(known: Known) -> None:
    found = register_series(known.path, interpolation="cubic", threads=1)
    image, transform = open_series(known.path).image(0), found.transforms[0]
    expected = warp_image(image.values, image.grid, transform, image.grid, "cubic")
    assert torch.equal(next(iter(found.moved)), expected)


def test_equal_series_give_equal_bytes(known: Known, result: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    (out / "transforms").mkdir(parents=True)
    (out / "transforms" / "0123.h5").write_text("of a longer series")
    (out / "transforms" / "notes.txt").write_text("somebody's own")
    assert main(["series", str(known.path), "--out", str(out), "--threads", "1"]) == 0
    names = [path.relative_to(result) for path in result.rglob("*") if path.is_file()]
    assert len(names) == COUNT + 5
    for name in names:
        if name.name not in ("metrics.json", "report.html"):  # they hold times
            assert (out / name).read_bytes() == (result / name).read_bytes(), name
    kept = {path.name for path in (out / "transforms").iterdir()}
    assert kept == {*(f"{number:04d}.h5" for number in range(COUNT)), "notes.txt"}


def test_a_failure_while_writing_leaves_no_files(known: Known, tmp_path: Path) -> None:
    path = tmp_path / "bold.nii.gz"
    path.write_bytes(known.path.read_bytes())
    found = register_series(path, threads=1)
    path.unlink()
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(InputError):
        found.save(out)
    assert list(out.rglob("*")) == []


def test_the_radius_of_rotations_is_50_mm_for_heads_and_follows_other_images() -> None:
    scan = Grid.of_spacing((64, 64, 30), 3.5)
    assert rotation_radius_mm(scan) == HEAD_RADIUS_MM == 50
    for scale in (1e-3, 0.08):
        assert rotation_radius_mm(Grid.of_spacing(scan.shape, 3.5 * scale)) == pytest.approx(
            56 * scale
        )
