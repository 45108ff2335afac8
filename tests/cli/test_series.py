"""The command `series`: what it prints, and invalid input."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from stn3d.cli import main
from tests.cli.cases import without_opening
from tests.helpers.series_cases import COUNT, Known, make_series, motions, simulated_volumes, write
from tests.helpers.synthetic import grid_about


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    """A series with known motion."""
    return make_series(tmp_path_factory.mktemp("series"))


def test_progress_and_metrics_are_printed(
    known: Known, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "out"
    options = ["--reference-volume", "0", "--metric", "lncc", "--threads", "1"]
    assert main(["series", str(known.path), "--out", str(out), *options]) == 0
    printed, progress = (text.splitlines() for text in capfd.readouterr())
    progress = without_opening(progress)
    assert [line.split(":")[0] for line in progress] == [f"volume {n}" for n in range(COUNT)]
    assert all(re.search(r"correlation \d\.\d{4} \(\d of 5\)$", line) for line in progress)
    assert any("framewise displacement, mean, mm" in line for line in printed)
    names = ["moved.nii.gz", "transforms", "motion.csv", "metrics.json"]
    names += ["report.html", "motion.svg"]
    assert [line for line in printed if line.startswith("wrote")] == [
        f"wrote {out / n}" for n in names
    ]
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["settings"] == {"metric": "lncc", "interpolation": "linear", "fill": "auto"}
    assert metrics["outside_value"] == 0
    assert metrics["reference"]["name"].endswith("(volume 0)")


def corrupted(known: Known, folder: Path, number: int, value: float) -> Path:
    """The series with one volume, or one voxel of it, gone wrong."""
    array = np.asanyarray(nib.load(known.path).dataobj).astype(np.float32)
    if np.isnan(value):
        array[3, 4, 5, number] = value
    else:
        array[..., number] = value
    return write(folder / "corrupted.nii.gz", array, known.grid)


def error_of(command: list[str], out: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """The one sentence with which a command ends; nothing is written."""
    capfd.readouterr()
    assert main(["series", *command, "--out", str(out)]) == 2
    printed, errors = capfd.readouterr()
    assert printed == ""
    (line,) = [one for one in without_opening(errors.splitlines()) if not one.startswith("volume ")]
    assert not out.exists()
    return line


def test_invalid_input_is_rejected(
    known: Known, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out, series = tmp_path / "a" / "out", str(known.path)
    nib.save(nib.load(known.path).slicer[..., 0], tmp_path / "one.nii.gz")
    plane = grid_about(torch.zeros(2), (60, 60), (2, 2))
    image = sitk.GetImageFromArray(simulated_volumes(plane, motions(plane, 1))[..., 0])
    sitk.WriteImage(image, str(tmp_path / "plane.mha"))
    cases = {
        (
            str(tmp_path / "one.nii.gz"),
        ): "one.nii.gz has a single volume (43 x 37 x 24 voxels); give a",
        (str(tmp_path / "gone.nii.gz"),): "there is no series image",
        (series, "--reference", str(tmp_path / "plane.mha")): "are 3D and the reference",
        (series, "--reference", series): "holds 5 volumes; choose one with --reference-volume N",
        (series, "--reference-volume", "5"): "has no volume 5; it holds 5, counted from 0",
        (series, "--reference-volume", "-1"): "has no volume -1; it holds 5, counted from 0",
        (series, "--metric", "nccc"): "the metric 'nccc' is unknown; did you mean ncc?",
        (series, "--interpolation", "linar"): "did you mean linear?",
        (series, "--threads", "0"): "the setting threads is 0; give at least 1",
    }
    for command, words in cases.items():
        assert words in error_of(list(command), out, capfd)
    constant, broken = corrupted(known, tmp_path, 3, 7), tmp_path / "nan.nii.gz"
    line = error_of([str(constant)], out, capfd)
    assert "volume 3 of the series" in line
    assert "is constant (every voxel is 7); remove it from" in line
    corrupted(known, tmp_path, 1, np.nan).rename(broken)
    assert "nan.nii.gz (volume 1) has NaN or Inf in 1 of" in error_of([str(broken)], out, capfd)
    assert not out.parent.exists()


def test_a_damaged_series_is_rejected(
    known: Known, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cut.nii.gz"
    path.write_bytes(known.path.read_bytes()[:-200000])
    assert "is truncated or damaged" in error_of([str(path)], tmp_path / "out", capfd)


def test_an_output_folder_that_is_a_file_is_rejected(
    known: Known, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    assert main(["series", str(known.path), "--out", str(tmp_path / "file")]) == 2
    assert "cannot make the folder" in capfd.readouterr().err
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"
