"""The command line from end to end: files in, files out, with SimpleITK and score.py as judges."""

from __future__ import annotations

import json
import os
import re
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch import Tensor

import stn3d
from stn3d.cli import main, screen
from stn3d.grid import Grid
from stn3d.io import read_image, read_labels, write_image, write_transform
from stn3d.registration.memory import estimated_gb
from stn3d.registration.settings import settings_from
from stn3d.registration.stages import ProgressEvent
from tests.helpers import sitk_reference as judge
from tests.helpers.paths import ROOT
from tests.helpers.synthetic import Known, dense_truth, grid_about, known_pair, linear_truth

SCORE = ROOT.parent / "shared" / "bench" / "score.py"
RESULTS = {"moved.nii.gz", "transform.h5", "inverse.h5", "metrics.json"}
QUICK = ["--preset", "fast", "--threads", "1"]


# -- pairs on disk --------------------------------------------------------------------------------


def write(path: Path, values: Tensor, grid: Grid, *, labels: bool = False) -> Path:
    image = read_labels((values, grid)) if labels else read_image((values, grid))
    write_image(path, image.values, image)
    return path


def bands(values: Tensor) -> Tensor:
    """Three nested labels by brightness."""
    return (values * 3).round().clamp(0, 3).int()


@dataclass(frozen=True)
class Files:
    """A synthetic pair in a folder, and what is known about it."""

    folder: Path
    known: Known

    def __getattr__(self, name: str) -> str:
        return str(self.folder / f"{name}.nii.gz")

    @property
    def pair(self) -> list[str]:
        return [self.fixed, self.moving]

    @property
    def labels(self) -> list[str]:
        return ["--fixed-labels", self.fixed_labels, "--moving-labels", self.moving_labels]


def make_files(folder: Path, ndim: int) -> Files:
    """Two views of one anatomy on grids that share nothing, bent a little against each other."""
    far = torch.tensor([15.0, -10.0, 5.0][:ndim])
    fixed = grid_about(torch.zeros(ndim), [36.0] * ndim, (1.5, 1.8, 1.5)[:ndim])
    moving = grid_about(far, [40.0] * ndim, (1.6, 1.5, 1.8)[:ndim], (15, -10, 5))
    bent = dense_truth(fixed, 1.5).then(
        linear_truth("affine", fixed.centre_mm, moving.centre_mm, 8)
    )
    known = known_pair(bent, fixed, moving)
    write(folder / "fixed.nii.gz", known.fixed, fixed)
    write(folder / "moving.nii.gz", known.moving, moving)
    write(folder / "fixed_labels.nii.gz", bands(known.fixed), fixed, labels=True)
    write(folder / "moving_labels.nii.gz", bands(known.moving), moving, labels=True)
    write_transform(folder / "truth.h5", known.truth)
    return Files(folder, known)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for each other cost more than they bring on images this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def both_files(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Files]:
    return {d: make_files(tmp_path_factory.mktemp(f"pair{d}"), d) for d in (2, 3)}


@pytest.fixture(scope="module")
def both_results(both_files: dict[int, Files]) -> dict[int, Path]:
    """Each pair registered once, for all tests."""
    for files in both_files.values():
        out = str(files.folder / "out")
        assert main(["register", *files.pair, "--out", out, *QUICK, *files.labels]) == 0
    return {d: files.folder / "out" for d, files in both_files.items()}


@pytest.fixture(params=[2, 3])
def ndim(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def files(both_files: dict[int, Files], ndim: int) -> Files:
    return both_files[ndim]


@pytest.fixture
def result(both_results: dict[int, Path], ndim: int) -> Path:
    return both_results[ndim]


def said(capfd: pytest.CaptureFixture[str]) -> tuple[list[str], list[str]]:
    """The lines on stdout and on stderr, those of C++ libraries too."""
    out, err = capfd.readouterr()
    return out.splitlines(), err.splitlines()


def figures_of(folder: Path) -> dict[str, Any]:
    """metrics.json without what differs from run to run."""
    figures = json.loads((folder / "metrics.json").read_text())
    return {key: value for key, value in figures.items() if key != "timings_s"}


def resampled(moving: str, fixed: str, transform: Path, how: int = sitk.sitkLinear) -> np.ndarray:
    """The moving image by SimpleITK alone, float32, in nibabel's axis order."""
    images = [sitk.ReadImage(path, sitk.sitkFloat32) for path in (moving, fixed)]
    moved = sitk.Resample(*images, sitk.ReadTransform(str(transform)), how, 0.0)
    return np.transpose(sitk.GetArrayFromImage(moved))


def voxels(path: str | Path) -> np.ndarray:
    return np.squeeze(np.asanyarray(nib.load(path).dataobj))


# -- register -------------------------------------------------------------------------------------


def test_register_finds_the_truth(files: Files, result: Path) -> None:
    transform = sitk.ReadTransform(str(result / "transform.h5"))
    points = files.known.fixed_grid.points_mm()[files.known.foreground]
    gap = judge.mapped(transform, points) - files.known.truth(points)
    assert float(gap.norm(dim=-1).mean()) < 1.5  # a voxel; the headers are 15 mm off or more
    assert {path.name for path in result.iterdir()} == RESULTS


def test_simpleitk_reproduces_the_moved_image(files: Files, result: Path) -> None:
    moved = voxels(result / "moved.nii.gz")
    by_itk = resampled(files.moving, files.fixed, result / "transform.h5")
    rms = float(np.sqrt(np.square(moved - by_itk).mean()))
    assert rms <= 0.002 * float(np.percentile(by_itk, 99))
    fixed, kept = nib.load(files.fixed).header, nib.load(result / "moved.nii.gz").header
    for key in ("sform_code", "qform_code", "srow_x", "srow_y", "srow_z"):
        np.testing.assert_array_equal(fixed[key], kept[key])


def test_simpleitk_follows_the_inverse_back(files: Files, result: Path) -> None:
    there = sitk.ReadTransform(str(result / "transform.h5"))
    back = sitk.ReadTransform(str(result / "inverse.h5"))
    points = files.known.fixed_grid.points_mm()[files.known.foreground]
    gap = (judge.mapped(back, judge.mapped(there, points)) - points).norm(dim=-1)
    assert float(gap.mean()) <= 0.1


def test_metrics_tell_before_and_after(result: Path) -> None:
    figures = json.loads((result / "metrics.json").read_text())
    assert {"before", "after", "timings_s", "settings", "seed", "versions", "stages"} <= set(
        figures
    )
    before, after = figures["before"], figures["after"]
    assert after["dice"] > before["dice"] + 0.3
    assert after["correlation"] > before["correlation"] + 0.3
    assert after["folding_pct"] == 0
    assert figures["settings"]["preset"] == "fast"
    assert {"read", "initialise", "rigid", "affine", "deformable", "metrics"} <= set(
        figures["timings_s"]
    )


def test_same_seed_same_bytes(files: Files, result: Path, tmp_path: Path) -> None:
    again = ["register", *files.pair, "--out", str(tmp_path), *QUICK, *files.labels, "--seed", "0"]
    assert main(again) == 0
    for name in RESULTS - {"metrics.json"}:
        assert (tmp_path / name).read_bytes() == (result / name).read_bytes(), name
    assert figures_of(tmp_path) == figures_of(result)


def test_register_shows_a_table_and_levels(
    both_files: dict[int, Files], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = both_files[2]
    code = main(["register", *files.pair, "--out", str(tmp_path / "new" / "out"), *QUICK])
    out, err = said(capfd)
    assert code == 0
    assert any(re.match(r" *before +after", line) for line in out)
    assert any(re.match(r" *correlation +-?0\.\d{4} +0\.\d{4}", line) for line in out)
    assert not any("Dice" in line for line in out)  # no labels were given
    written = {line.removeprefix("wrote ") for line in out if line.startswith("wrote ")}
    assert written == {str(tmp_path / "new" / "out" / name) for name in RESULTS}
    assert re.fullmatch(r"\d+\.\d seconds", out[-1])
    # a line for each level and nothing else, from no library
    assert all(
        re.match(r"(rigid|affine|deformable), [\d.]+ mm: loss .* iterations$", e) for e in err
    )
    assert {line.split(",")[0] for line in err} == {"rigid", "affine", "deformable"}


def test_config_init_and_mask_are_heard(
    both_files: dict[int, Files], both_results: dict[int, Path], tmp_path: Path
) -> None:
    files = both_files[2]
    config = tmp_path / "config.yaml"
    config.write_text("kind: rigid\nmetric: mse\nseed: 5\nlinear:\n  iterations: 7\n")
    options = ["--config", str(config), "--metric", "ncc", "--threads", "1"]
    options += ["--init", str(both_results[2] / "transform.h5"), "--kind", "affine"]
    options += ["--fixed-mask", files.fixed_labels, "--moving-mask", files.moving_labels]
    assert main(["register", *files.pair, "--out", str(tmp_path / "out"), *options]) == 0
    figures = figures_of(tmp_path / "out")
    settings = figures["settings"]
    assert (settings["kind"], settings["metric"], settings["seed"]) == ("affine", "ncc", 5)
    assert settings["linear"]["iterations"] == 7
    assert [one["name"] for one in figures["initial_candidates"]] == ["given"]
    assert {one["stage"] for one in figures["stages"]} == {"rigid", "affine"}


def test_what_was_decided_is_said_with_its_reason(
    both_files: dict[int, Files], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files, out = both_files[2], str(tmp_path / "out")
    assert main(["register", *files.pair, "--out", out, *QUICK]) == 0
    told = [line for line in said(capfd)[0] if line.startswith(("metric: ", "kind: "))]
    assert re.fullmatch(r"metric: lncc, since the images have the same contrast: .*%.*", told[0])
    assert told[1] == "kind: deformable, since the images have the same contrast"
    decided = figures_of(tmp_path / "out")["auto_selected"]
    assert [line.split("since ")[1] for line in told] == [
        decided[key]["reason"] for key in ("metric", "kind")
    ]
    given = ["--metric", "lncc", "--kind", "rigid"]
    assert main(["register", *files.pair, "--out", out, *QUICK, *given]) == 0
    assert not any(line.startswith(("metric: ", "kind: ")) for line in said(capfd)[0])
    assert figures_of(tmp_path / "out")["auto_selected"] == {}
    asked = ["--metric", "auto", "--kind", "auto"]
    assert main(["register", *files.pair, "--out", out, *QUICK, *asked]) == 0
    assert set(figures_of(tmp_path / "out")["auto_selected"]) == {"metric", "kind"}


def test_exclude_masks_are_heard_and_told(
    files: Files, ndim: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = []
    for role in ("fixed", "moving"):
        image = nib.load(getattr(files, role))
        lesion = np.zeros(image.shape, np.uint8)
        lesion[(*[slice(9, 14)] * ndim, ...)] = 1
        path = tmp_path / f"{role}_lesion.nii.gz"
        nib.Nifti1Image(lesion, image.affine).to_filename(path)
        options += [f"--{role}-exclude", str(path)]
    out = tmp_path / "out"
    assert main(["register", *files.pair, "--out", str(out), *QUICK, *options]) == 0
    told = [line for line in said(capfd)[0] if line.startswith("excluded of ")]
    excluded = figures_of(out)["excluded_regions"]
    assert list(excluded) == ["fixed", "moving"]
    for line, (role, part) in zip(told, excluded.items(), strict=True):
        grid = read_image(getattr(files, role)).grid
        assert part["volume_ml"] == pytest.approx(5**ndim * np.prod(grid.spacing_mm) / 1000)
        assert f"excluded of the {role} image: {part['volume_ml']:.2f} ml" in line
        assert f"{part['volume_change_pct']:+.1f} %" in line


def test_exclude_masks_of_no_use_are_refused(
    files: Files, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    image = nib.load(files.fixed)
    everything = tmp_path / "everything.nii.gz"
    nib.Nifti1Image(np.ones(image.shape, np.uint8), image.affine).to_filename(everything)
    for option, mask, words in (
        ("--fixed-exclude", str(everything), "covers the whole image"),
        ("--fixed-exclude", files.moving_labels, "another grid"),
        ("--moving-exclude", files.fixed_labels, "another grid"),
        ("--moving-exclude", str(tmp_path / "none.nii.gz"), "none.nii.gz"),
    ):
        out = tmp_path / "out"
        command = ["register", *files.pair, "--out", str(out), option, mask]
        assert main(command) == 2
        (line,) = said(capfd)[1]
        assert words in line
        assert option.strip("-").replace("-", " ") in line
        assert not out.exists()


def test_windows_are_heard(
    both_files: dict[int, Files], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = both_files[2]
    command = ["register", *files.pair, "--out", str(tmp_path / "out"), *QUICK]
    assert main([*command, "--fixed-window", "0.1,0.9", "--moving-window", "0,1"]) == 0
    figures = figures_of(tmp_path / "out")
    assert (figures["fixed"]["window"], figures["moving"]["window"]) == ("0.1,0.9", "0,1")
    capfd.readouterr()
    for window, words in (("head", "is for CT in HU"), ("9,5", "give LOW,HIGH or one of head")):
        assert main([*command, "--moving-window", window]) == 2
        (line,) = said(capfd)[1]
        assert words in line
        assert files.moving in line


def test_a_failed_registration_ends_with_3_and_leaves_its_files(
    both_files: dict[int, Files],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Whatever makes it fail; that is decided elsewhere."""
    from stn3d.registration.quality import Quality, QualityMeasures

    def failing(measures: QualityMeasures) -> Quality:
        return Quality("failed", "the images do not match", "Try --init mass.", measures)

    monkeypatch.setattr(sys.modules["stn3d.registration.api"], "assess_quality", failing)
    out = tmp_path / "out"
    assert main(["register", *both_files[2].pair, "--out", str(out), *QUICK]) == 3
    assert "quality: failed; the images do not match. Try --init mass." in said(capfd)[0]
    assert {path.name for path in out.iterdir()} == RESULTS
    assert figures_of(out)["quality"]["status"] == "failed"


def test_a_linear_registration_in_little_memory_has_a_record_that_json_knows(
    both_files: dict[int, Files], tmp_path: Path
) -> None:
    files, out = both_files[3], tmp_path / "out"
    asked = settings_from({"kind": "rigid", "metric": "lncc"})
    enough_gb = estimated_gb(*[read_image(path).grid for path in files.pair], asked)
    command = ["register", *files.pair, "--out", str(out), "--kind", "rigid", "--metric", "lncc"]
    assert main([*command, "--max-memory", str(enough_gb - 1e-6), "--threads", "1"]) == 0
    text = (out / "metrics.json").read_text()
    assert "Infinity" not in text
    assert "NaN" not in text
    assert json.loads(text)["memory"]["note"] is not None


def test_less_memory_takes_a_coarser_level_and_says_so(
    both_files: dict[int, Files], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files, out = both_files[3], tmp_path / "out"
    grids = [read_image(path).grid for path in files.pair]
    enough_gb = estimated_gb(*grids, settings_from({"preset": "fast"}))
    command = ["register", *files.pair, "--out", str(out), *QUICK, "--max-memory"]
    assert main([*command, str(enough_gb - 1e-6)]) == 0
    (note,) = [line for line in said(capfd)[1] if line.startswith("note: ")]
    assert "are allowed (by --max-memory), so the finest level is 4.24 mm instead of 3 mm" in note
    assert note == "note: " + figures_of(out)["memory"]["note"]
    assert voxels(out / "moved.nii.gz").shape == voxels(Path(files.fixed)).shape
    # the same level asked for is the same registration
    config = tmp_path / "coarser.json"
    dense = figures_of(out)["settings"]["deformable"]
    levels = {key: dense[key] for key in ("factors", "iterations")}
    config.write_text(json.dumps({"deformable": levels}))
    again = ["--out", str(tmp_path / "again"), *QUICK, "--config", str(config)]
    assert main(["register", *files.pair, *again]) == 0
    one, two = (voxels(folder / "moved.nii.gz") for folder in (out, tmp_path / "again"))
    np.testing.assert_array_equal(one, two)
    assert not any(line.startswith("note: ") for line in said(capfd)[1])


def test_too_little_memory_is_refused(
    both_files: dict[int, Files], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["register", *both_files[2].pair, "--out", str(out)]
    assert main([*command, "--max-memory", "0.1"]) == 2
    (line,) = said(capfd)[1]
    assert "needs about 0." in line
    assert "0.10 GB are allowed (by --max-memory)" in line
    assert not out.exists()


def test_volumes_of_4d_images(both_files: dict[int, Files], tmp_path: Path) -> None:
    files = both_files[2]
    image = nib.load(files.moving)
    plane = np.asanyarray(image.dataobj).reshape(*image.shape[:2], 1)
    series = np.stack([np.zeros_like(plane), plane], axis=-1)
    nib.Nifti1Image(series, image.affine).to_filename(tmp_path / "series.nii.gz")
    moving = str(tmp_path / "series.nii.gz")
    quick = ["--kind", "rigid", "--threads", "1"]
    for name, source, extra in (
        ("one", files.moving, []),
        ("two", moving, ["--moving-volume", "1"]),
    ):
        out = ["--out", str(tmp_path / name)]
        assert main(["register", files.fixed, source, *out, *quick, *extra]) == 0
    one, two = (voxels(tmp_path / name / "moved.nii.gz") for name in ("one", "two"))
    np.testing.assert_array_equal(one, two)
    onto = ["--like", files.fixed, "--out", str(tmp_path / "applied.nii.gz")]
    assert main(["apply", str(tmp_path / "one/transform.h5"), moving, *onto, "--volume", "1"]) == 0
    np.testing.assert_array_equal(voxels(tmp_path / "applied.nii.gz"), one)
    assert main(["apply", str(tmp_path / "one/transform.h5"), moving, *onto]) == 0
    both = voxels(tmp_path / "applied.nii.gz")
    np.testing.assert_array_equal(both, np.stack([np.zeros_like(one), one], axis=-1))


def test_headers_without_geometry_are_noted_once(
    both_files: dict[int, Files], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare.nii.gz"
    image = nib.load(both_files[2].fixed)
    header = nib.Nifti1Header()
    header.set_data_shape(image.shape)
    header.set_zooms(image.header.get_zooms())
    nib.Nifti1Image(np.asanyarray(image.dataobj), None, header).to_filename(bare)
    out = ["--out", str(tmp_path / "out"), "--kind", "rigid", "--threads", "1"]
    assert main(["register", str(bare), both_files[2].moving, *out]) == 0
    notes = [line for line in said(capfd)[1] if line.startswith("note: ")]
    assert len(notes) == 1
    assert str(bare) in notes[0]
    assert (tmp_path / "out" / "moved.nii.gz").exists()


def test_real_heads_through_the_script(shared_data: Path, tmp_path: Path) -> None:
    names = {"fixed": "mni152_t1_2mm.nii.gz", "moving": "single_subj_T1.nii.gz"}
    for role, name in names.items():
        image = read_image(shared_data / "ct_mr" / name)
        grid = image.grid.coarsened(8.0)
        small = stn3d.apply(stn3d.Affine.identity(3), image, (torch.rand(1, *grid.shape), grid))
        write_image(tmp_path / f"{role}.nii.gz", small.values, small)
    turned = nib.load(tmp_path / "moving.nii.gz")
    motion = np.eye(4)
    motion[:3, :3] = judge_rotation(20)
    motion[:3, 3] = (30, -20, 10)
    turned = nib.Nifti1Image(turned.get_fdata(dtype=np.float32), motion @ turned.affine)
    turned.to_filename(tmp_path / "moving.nii.gz")
    command = [sys.executable, str(ROOT / "scripts" / "register.py"), "fixed.nii.gz"]
    done = subprocess.run(
        [*command, "moving.nii.gz", "--out", "out", *QUICK],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert all(re.match(r"(rigid|affine|deformable), ", line) for line in done.stderr.splitlines())
    figures = figures_of(tmp_path / "out")
    assert figures["after"]["correlation"] > max(0.85, figures["before"]["correlation"] + 0.3)
    assert figures["after"]["folding_pct"] == 0
    by_itk = resampled(
        str(tmp_path / "moving.nii.gz"),
        str(tmp_path / "fixed.nii.gz"),
        tmp_path / "out" / "transform.h5",
    )
    rms = np.sqrt(np.square(voxels(tmp_path / "out" / "moved.nii.gz") - by_itk).mean())
    assert rms <= 0.002 * np.percentile(by_itk, 99)


def judge_rotation(angle_deg: float) -> np.ndarray:
    """About the axis (1, 1, 1), by SimpleITK."""
    return np.reshape(
        sitk.VersorTransform([1.0, 1.0, 1.0], np.radians(angle_deg)).GetMatrix(), (3, 3)
    )


# -- apply, points --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interpolation", "by_itk"),
    [
        ("linear", sitk.sitkLinear),
        ("nearest", sitk.sitkNearestNeighbor),
        ("cubic", sitk.sitkBSpline),
    ],
)
def test_apply_agrees_with_simpleitk(
    files: Files, result: Path, tmp_path: Path, interpolation: str, by_itk: int
) -> None:
    out = tmp_path / "out.nii.gz"
    onto = ["--like", files.fixed, "--out", str(out), "--interpolation", interpolation]
    assert main(["apply", str(result / "transform.h5"), files.moving, *onto]) == 0
    expected = resampled(files.moving, files.fixed, result / "transform.h5", by_itk)
    gap = np.abs(voxels(out) - expected)
    # A point half-way between voxels may go either way by nearest neighbour.
    assert float(np.quantile(gap, 0.995)) <= 0.002 * float(np.percentile(expected, 99))


@pytest.mark.parametrize(("role", "chosen"), [("moving", "linear"), ("moving_labels", "label")])
def test_apply_says_what_auto_chose(
    files: Files,
    result: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    role: str,
    chosen: str,
) -> None:
    command = ["apply", str(result / "transform.h5"), getattr(files, role), "--like", files.fixed]
    assert main([*command, "--out", str(tmp_path / "auto.nii.gz")]) == 0
    out, err = said(capfd)
    assert next(line for line in out if "interpolation" in line).count(chosen) >= 1
    assert err == []
    told = [*command, "--out", str(tmp_path / "told.nii.gz"), "--interpolation", chosen]
    assert main(told) == 0
    assert not any("interpolation" in line for line in said(capfd)[0])
    auto, told_file = ((tmp_path / f"{n}.nii.gz").read_bytes() for n in ("auto", "told"))
    assert auto == told_file


def test_applied_labels_are_labels(files: Files, result: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.nii.gz"
    onto = ["--like", files.fixed, "--out", str(out)]
    assert main(["apply", str(result / "transform.h5"), files.moving_labels, *onto]) == 0
    moved, fixed = voxels(out), voxels(files.fixed_labels)
    assert moved.dtype.kind in "ui"
    assert set(np.unique(moved)) <= {0, 1, 2, 3}
    assert (moved == fixed).mean() > (fixed == 0).mean() + 0.1


def test_points_there_and_back(files: Files, result: Path, tmp_path: Path) -> None:
    d = files.known.fixed_grid.ndim
    points = files.known.fixed_grid.points_mm()[files.known.foreground][::97]
    lines = [",".join("xyz"[:d]) + ",name"]
    lines += [",".join(f"{v:.6f}" for v in p) + f",p{n}" for n, p in enumerate(points.tolist())]
    (tmp_path / "in.csv").write_text("\n".join(lines) + "\n")
    for transform, source, out in (("transform", "in", "there"), ("inverse", "there", "back")):
        paths = [str(result / f"{transform}.h5"), str(tmp_path / f"{source}.csv")]
        assert main(["points", *paths, "--out", str(tmp_path / f"{out}.csv")]) == 0
    there, back = (
        [line.split(",") for line in (tmp_path / f"{n}.csv").read_text().splitlines()]
        for n in ("there", "back")
    )
    assert there[0] == [*"xyz"[:d], "name"]
    assert [row[-1] for row in back] == [line.split(",")[-1] for line in lines]
    by_itk = judge.mapped(sitk.ReadTransform(str(result / "transform.h5")), points)
    moved, again = (np.array([row[:d] for row in rows[1:]], float) for rows in (there, back))
    np.testing.assert_allclose(moved, by_itk.numpy(), atol=1e-4)
    assert np.linalg.norm(again - points.numpy(), axis=1).max() < 0.3


# -- evaluate -------------------------------------------------------------------------------------


def landmarks(files: Files, folder: Path) -> list[str]:
    """Twenty points and where the truth puts them, as options."""
    points = files.known.fixed_grid.points_mm()[files.known.foreground][::211][:20]
    options = []
    for role, one in (("fixed", points), ("moving", files.known.truth(points))):
        rows = [",".join(f"{v:.6f}" for v in p) for p in one.tolist()]
        header = ",".join("xyz"[: points.shape[1]])
        (folder / f"{role}.csv").write_text("\n".join([header, *rows]) + "\n")
        options += [f"--{role}-points", str(folder / f"{role}.csv")]
    return options


def test_evaluate_agrees_with_the_score_script(
    both_files: dict[int, Files], both_results: dict[int, Path], tmp_path: Path
) -> None:
    if not SCORE.is_file():
        pytest.skip(f"the score script is not at {SCORE}")
    files, result = both_files[3], both_results[3]
    common = ["--fixed", files.fixed, "--moving", files.moving, *files.labels]
    common += ["--transform", str(result / "transform.h5")]
    common += ["--inverse", str(result / "inverse.h5"), *landmarks(files, tmp_path)]
    common += ["--true-transform", str(files.folder / "truth.h5")]
    inside = ["--fixed-mask", files.labels[1]]  # the score's region is that of the labels
    done = subprocess.run(
        [sys.executable, str(SCORE), *common], capture_output=True, encoding="utf8", check=True
    )
    theirs = json.loads(done.stdout)
    assert main(["evaluate", *common, *inside, "--out", str(tmp_path / "ours.json")]) == 0
    ours = json.loads((tmp_path / "ours.json").read_text())
    for key, other in (
        ("dice", "dice"),
        ("hd95_mm", "hd95_mm"),
        ("folding_pct", "folding_pct"),
        ("log_jacobian_sd", "sd_log_jac"),
    ):
        assert ours[key] == pytest.approx(theirs[other], abs=1e-5), key
    for key, other in (
        ("tre_mm", "tre_mm"),
        ("true_error_mm", "error_mm"),
        ("inverse_consistency_error_mm", "inverse_mm"),
    ):
        for part in theirs[other]:
            assert ours[key][part] == pytest.approx(theirs[other][part], rel=2e-3, abs=1e-4), key
    assert len(ours["labels"]) == theirs["num_labels"] > 1


def test_evaluate_prints_a_table_or_json(
    files: Files, result: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pair = ["--fixed", files.fixed, "--moving", files.moving, *files.labels]
    known = [*landmarks(files, tmp_path), "--transform", str(files.folder / "truth.h5")]
    assert main(["evaluate", *pair, *known]) == 0
    out, err = said(capfd)
    assert err == []
    (row,) = [line for line in out if "TRE" in line]
    assert float(row.split()[4]) < 0.01  # the truth itself
    assert main(["evaluate", *pair, "--json"]) == 0  # no transform: the identity
    figures = json.loads("\n".join(said(capfd)[0]))
    before = figures_of(result)["before"]
    assert {key: figures[key] for key in before} == before


def test_evaluate_through_the_script(
    both_files: dict[int, Files],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    files = both_files[2]
    pair = ["--fixed", files.fixed, "--moving", files.moving, "--fixed-mask", files.fixed_labels]
    script = str(ROOT / "scripts" / "evaluate.py")
    monkeypatch.setattr(sys, "argv", [script, *pair, "--json"])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(script, run_name="__main__")
    assert done.value.code == 0
    printed = json.loads("\n".join(said(capfd)[0]))
    assert main(["evaluate", *pair, "-o", str(tmp_path / "direct.json")]) == 0
    assert printed == json.loads((tmp_path / "direct.json").read_text())


# -- the program ----------------------------------------------------------------------------------


def test_installed_program_tells_its_version() -> None:
    program = Path(sys.executable).with_name("stn3d")
    if not program.exists():
        pytest.skip(f"the package is not installed: there is no {program}")
    done = subprocess.run([program, "--version"], capture_output=True, encoding="utf8", check=True)
    assert done.stdout.strip() == f"stn3d {stn3d.__version__}"
    assert done.stderr == ""


@pytest.mark.parametrize(
    "command", ["register", "series", "apply", "points", "evaluate", "landmarks", "demo"]
)
def test_each_command_explains_itself(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    text = "\n".join(said(capfd)[0])
    assert f"stn3d {command}" in text
    assert re.search(r"--out +-o\b", text)
    assert main([]) == 0
    assert command in "\n".join(said(capfd)[0])


def test_interrupt_leaves_nothing(both_files: dict[int, Files], tmp_path: Path) -> None:
    config = tmp_path / "long.yaml"
    config.write_text("deformable:\n  factors: [2]\n  iterations: [100000]\n  tolerance: 0\n")
    out = tmp_path / "a" / "out"
    command = "import sys; from stn3d.cli import main; sys.exit(main())"
    options = ["--out", str(out), "--config", str(config), "--threads", "1"]
    with subprocess.Popen(
        [sys.executable, "-c", command, "register", *both_files[2].pair, *options],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        encoding="utf8",
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stderr is not None
        first = process.stderr.readline()  # a level has ended, the dense one has no end
        assert first.startswith("rigid, ")
        assert out.is_dir()
        os.kill(process.pid, signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(timeout=60) == 130
    assert rest.splitlines()[-1] == "stn3d: interrupted."
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == [config]


def test_a_fault_of_ours_is_not_hidden(
    both_files: dict[int, Files], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("stn3d.cli.commands.check_choice", broken)
    like = ["--like", both_files[2].fixed, "--out", str(tmp_path / "out.nii.gz")]
    with pytest.raises(RuntimeError, match="a fault"):
        main(["apply", "any.h5", both_files[2].moving, *like])


def test_the_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with screen.progress() as show:
        show(ProgressEvent("rigid", 0.1, spacing_mm=8.0, iteration=1, loss=0.75))
        show(ProgressEvent("deformable", 0.9, spacing_mm=2.0, iteration=12, loss=0.25))
    out, err = capfd.readouterr()
    assert out == ""
    assert "deformable, 2 mm, iteration 12, loss 0.25000" in err


@pytest.mark.slow
def test_demo_prints_what_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if not (find_spec("nilearn") and find_spec("matplotlib")):
        pytest.skip("the demo's extras are not installed (nilearn, matplotlib)")
    from stn3d import demo

    monkeypatch.setattr(demo, "run", partial(demo.run, mode="copy", spacing_mm=8.0))
    assert main(["demo", "--out", str(tmp_path / "out"), "--threads", "1"]) == 0
    out, _ = said(capfd)
    written = [Path(line.removeprefix("wrote ")) for line in out if line.startswith("wrote ")]
    assert {path.name for path in written} == {*RESULTS, "picture.png", "demo.json"}
    assert all(path.stat().st_size > 0 for path in written)
    told = json.loads((tmp_path / "out" / "demo.json").read_text())
    assert all(any(row[0] in line and row[1] in line for line in out) for row in told["rows"])
    assert out[0] == told["title"]


@pytest.mark.parametrize("kind", ["rigid", "deformable"])
def test_nothing_slow_is_imported(kind: str, files: Files, tmp_path: Path) -> None:
    """Each of these takes 0.3 to 1.2 seconds, and torch brings them along on some paths only."""
    words = ["register", *files.pair, "--out", str(tmp_path / "out"), "--kind", kind, *QUICK]
    slow = ["sympy", "torch._dynamo", "monai", "scipy.optimize", "matplotlib", "pandas"]
    program = (
        "import sys; from stn3d.cli import main\n"
        f"code = main({words!r})\n"
        f"print(code, [name for name in {slow!r} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "0 []", ran.stderr
