"""`stn3d register` from end to end, with SimpleITK as reference."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

import stn3d
from stn3d.cli import main
from stn3d.io import read_image, write_image
from stn3d.registration.memory import estimated_gb
from stn3d.registration.settings import settings_from
from tests.cli.cases import (
    QUICK,
    REPORT,
    RESULTS,
    Files,
    metrics_of,
    printed,
    resampled,
    voxels,
    without_opening,
)
from tests.helpers import sitk_reference as reference
from tests.helpers.paths import ROOT


def test_register_finds_the_truth(files: Files, result: Path) -> None:
    transform = sitk.ReadTransform(str(result / "transform.h5"))
    points = files.known.fixed_grid.points_mm()[files.known.foreground]
    gap = reference.mapped(transform, points) - files.known.truth(points)
    assert float(gap.norm(dim=-1).mean()) < 1.5  # a voxel; the headers are 15 mm off or more
    assert {path.name for path in result.iterdir()} == {*RESULTS, "moved_labels.nii.gz"}


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
    gap = (reference.mapped(back, reference.mapped(there, points)) - points).norm(dim=-1)
    assert float(gap.mean()) <= 0.1


def test_metrics_are_stored_before_and_after(result: Path) -> None:
    metrics = json.loads((result / "metrics.json").read_text(encoding="utf-8"))
    assert {"before", "after", "timings_s", "settings", "seed", "versions", "stages"} <= set(
        metrics
    )
    before, after = metrics["before"], metrics["after"]
    assert after["dice"] > before["dice"] + 0.3
    assert after["correlation"] > before["correlation"] + 0.3
    assert after["folding_pct"] == 0
    assert metrics["settings"]["preset"] == "fast"
    assert {"read", "initialise", "rigid", "affine", "deformable", "metrics"} <= set(
        metrics["timings_s"]
    )


def test_same_seed_same_bytes(files: Files, result: Path, tmp_path: Path) -> None:
    again = ["register", *files.pair, "--out", str(tmp_path), *QUICK, *files.labels, "--seed", "0"]
    assert main(again) == 0
    for name in RESULTS - {"metrics.json", *REPORT}:
        assert (tmp_path / name).read_bytes() == (result / name).read_bytes(), name
    assert metrics_of(tmp_path) == metrics_of(result)


def test_register_shows_a_table_and_levels(
    both_files: dict[int, Files], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = both_files[2]
    code = main(["register", *files.pair, "--out", str(tmp_path / "new" / "out"), *QUICK])
    out, err = printed(capfd)
    assert code == 0
    assert any(re.match(r" *before +after", line) for line in out)
    assert any(re.match(r" *correlation +-?0\.\d{4} +0\.\d{4}", line) for line in out)
    assert not any("Dice" in line for line in out)  # no labels were given
    written = {line.removeprefix("wrote ") for line in out if line.startswith("wrote ")}
    assert written == {str(tmp_path / "new" / "out" / name) for name in RESULTS}
    assert re.fullmatch(r"\d+\.\d seconds", out[-2])
    assert out[-1].startswith("quality: ")
    # a line for each level and nothing else, from no library
    level = r"(rigid|affine|deformable), level \d of \d, [\d.]+ mm: loss [\d.]+ -> [\d.]+ in \d+ "
    assert all(re.fullmatch(level + "iterations", line) for line in err)
    assert {line.split(",")[0] for line in err} == {"rigid", "affine", "deformable"}


def test_config_init_and_mask_are_used(
    both_files: dict[int, Files], both_results: dict[int, Path], tmp_path: Path
) -> None:
    files = both_files[2]
    config = tmp_path / "config.yaml"
    config.write_text("kind: rigid\nmetric: mse\nseed: 5\nlinear:\n  iterations: 7\n")
    options = ["--config", str(config), "--metric", "ncc", "--threads", "1"]
    options += ["--init", str(both_results[2] / "transform.h5"), "--kind", "affine"]
    options += ["--fixed-mask", files.fixed_labels, "--moving-mask", files.moving_labels]
    assert main(["register", *files.pair, "--out", str(tmp_path / "out"), *options]) == 0
    metrics = metrics_of(tmp_path / "out")
    settings = metrics["settings"]
    assert (settings["kind"], settings["metric"], settings["seed"]) == ("affine", "ncc", 5)
    assert settings["linear"]["iterations"] == 7
    assert [one["name"] for one in metrics["initial_candidates"]] == ["given"]
    assert {one["stage"] for one in metrics["stages"]} == {"rigid", "affine"}


def test_selections_are_printed_with_their_reasons(
    both_files: dict[int, Files], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files, out = both_files[2], str(tmp_path / "out")
    assert main(["register", *files.pair, "--out", out, *QUICK]) == 0
    lines = [line for line in printed(capfd)[0] if line.startswith(("metric: ", "kind: "))]
    reason = "since the images have the same contrast"
    assert re.fullmatch(rf"metric: lncc \(automatic\), {reason}: .*%.*", lines[0])
    assert lines[1] == f"kind: deformable (automatic), {reason}"
    decided = metrics_of(tmp_path / "out")["auto_selected"]
    assert [line.split("since ")[1] for line in lines] == [
        decided[key]["reason"] for key in ("metric", "kind")
    ]
    given = ["--metric", "lncc", "--kind", "rigid"]
    assert main(["register", *files.pair, "--out", out, *QUICK, *given]) == 0
    assert not any(line.startswith(("metric: ", "kind: ")) for line in printed(capfd)[0])
    assert metrics_of(tmp_path / "out")["auto_selected"] == {}
    asked = ["--metric", "auto", "--kind", "auto"]
    assert main(["register", *files.pair, "--out", out, *QUICK, *asked]) == 0
    decided = metrics_of(tmp_path / "out")["auto_selected"]
    assert set(decided) == {"metric", "kind", "large_motion"}


def test_exclude_masks_are_used_and_reported(
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
    lines = [line for line in printed(capfd)[0] if line.startswith("excluded region")]
    excluded = metrics_of(out)["excluded_regions"]
    assert list(excluded) == ["fixed", "moving"]
    for line, (role, part) in zip(lines, excluded.items(), strict=True):
        grid = read_image(getattr(files, role)).grid
        assert part["volume_ml"] == pytest.approx(5**ndim * np.prod(grid.spacing_mm) / 1000)
        assert f"excluded region of the {role} image: {part['volume_ml']:.2f} ml" in line
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
        (line,) = printed(capfd)[1]
        assert words in line
        assert option.strip("-").replace("-", " ") in line
        assert not out.exists()


def test_windows_are_used(
    both_files: dict[int, Files], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = both_files[2]
    command = ["register", *files.pair, "--out", str(tmp_path / "out"), *QUICK]
    assert main([*command, "--fixed-window", "0.1,0.9", "--moving-window", "0,1"]) == 0
    metrics = metrics_of(tmp_path / "out")
    assert (metrics["fixed"]["window"], metrics["moving"]["window"]) == ("0.1,0.9", "0,1")
    capfd.readouterr()
    for window, words in (("head", "is for CT in HU"), ("9,5", "give LOW,HIGH or one of head")):
        assert main([*command, "--moving-window", window]) == 2
        (line,) = printed(capfd)[1]
        assert words in line
        assert files.moving in line


def test_a_failed_registration_ends_with_3_and_leaves_its_files(
    both_files: dict[int, Files],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Whatever makes it fail; that is decided elsewhere."""
    from stn3d.registration.quality import Quality
    from stn3d.registration.quality_measures import QualityMeasures

    def failing(measures: QualityMeasures) -> Quality:
        return Quality("failed", "the images do not match", "Try --init mass.", measures)

    monkeypatch.setattr(sys.modules["stn3d.registration.api"], "assess_quality", failing)
    out = tmp_path / "out"
    assert main(["register", *both_files[2].pair, "--out", str(out), *QUICK]) == 3
    assert printed(capfd)[0][-1] == "quality: failed; the images do not match. Try --init mass."
    assert {path.name for path in out.iterdir()} == RESULTS
    assert metrics_of(out)["quality"]["status"] == "failed"


def test_a_linear_registration_in_little_memory_has_a_record_that_json_knows(
    both_files: dict[int, Files], tmp_path: Path
) -> None:
    files, out = both_files[3], tmp_path / "out"
    asked = settings_from({"kind": "rigid", "metric": "lncc"})
    enough_gb = estimated_gb(*[read_image(path).grid for path in files.pair], asked)
    command = ["register", *files.pair, "--out", str(out), "--kind", "rigid", "--metric", "lncc"]
    assert main([*command, "--max-memory", str(enough_gb - 1e-6), "--threads", "1"]) == 0
    text = (out / "metrics.json").read_text(encoding="utf-8")
    assert "Infinity" not in text
    assert "NaN" not in text
    assert json.loads(text)["memory"]["note"] is not None


def test_a_rigid_result_shows_its_parameters(
    both_files: dict[int, Files], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["register", *both_files[2].pair, "--kind", "rigid", "--metric", "lncc"]
    assert main([*command, "--out", str(tmp_path / "out"), "--threads", "1"]) == 0
    parameters = metrics_of(tmp_path / "out")["linear_parameters"]
    out, _ = printed(capfd)
    angle, shift = parameters["rotation_deg"]["z"], parameters["translation_mm"]
    assert "rigid transform, fixed points to moving points:" in out
    assert f"- rotation, degrees: z {angle:.3f} (inferior-superior)" in out
    assert any(f"x {shift['x']:.3f}, y {shift['y']:.3f}, of the centre" in line for line in out)
    assert not any(line.startswith(("- scale", "- shear")) for line in out)


def test_less_memory_coarsens_the_finest_level_with_a_note(
    both_files: dict[int, Files], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files, out = both_files[3], tmp_path / "out"
    grids = [read_image(path).grid for path in files.pair]
    enough_gb = estimated_gb(*grids, settings_from({"preset": "fast"}))
    quick = [*QUICK, "--large-motion", "off"]  # a search would find no memory either
    command = ["register", *files.pair, "--out", str(out), *quick, "--max-memory"]
    assert main([*command, str(enough_gb - 1e-6)]) == 0
    (note,) = [line for line in printed(capfd)[1] if line.startswith("note: ")]
    assert "are allowed (by --max-memory); the finest level is 4.24 mm instead of 3 mm" in note
    assert note == "note: " + metrics_of(out)["memory"]["note"]
    assert voxels(out / "moved.nii.gz").shape == voxels(Path(files.fixed)).shape
    # the same level asked for is the same registration
    config = tmp_path / "coarser.json"
    deformable = metrics_of(out)["settings"]["deformable"]
    levels = {key: deformable[key] for key in ("factors", "iterations")}
    config.write_text(json.dumps({"deformable": levels}))
    again = ["--out", str(tmp_path / "again"), *quick, "--config", str(config)]
    assert main(["register", *files.pair, *again]) == 0
    one, two = (voxels(folder / "moved.nii.gz") for folder in (out, tmp_path / "again"))
    np.testing.assert_array_equal(one, two)
    assert not any(line.startswith("note: ") for line in printed(capfd)[1])


def test_too_little_memory_is_refused(
    both_files: dict[int, Files], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["register", *both_files[2].pair, "--out", str(out)]
    assert main([*command, "--max-memory", "0.1"]) == 2
    (line,) = printed(capfd)[1]
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
    notes = [line for line in printed(capfd)[1] if line.startswith("note: ")]
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
    rotated = nib.load(tmp_path / "moving.nii.gz")
    motion = np.eye(4)
    motion[:3, :3] = rotation_about_the_diagonal(20)
    motion[:3, 3] = (30, -20, 10)
    rotated = nib.Nifti1Image(rotated.get_fdata(dtype=np.float32), motion @ rotated.affine)
    rotated.to_filename(tmp_path / "moving.nii.gz")
    command = [sys.executable, str(ROOT / "scripts" / "register.py"), "fixed.nii.gz"]
    done = subprocess.run(
        [*command, "moving.nii.gz", "--out", "out", *QUICK],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    err = without_opening(done.stderr.splitlines())
    assert all(re.match(r"(rigid|affine|deformable), level ", line) for line in err), err
    metrics = metrics_of(tmp_path / "out")
    assert metrics["after"]["correlation"] > max(0.85, metrics["before"]["correlation"] + 0.3)
    assert metrics["after"]["folding_pct"] == 0
    by_itk = resampled(
        str(tmp_path / "moving.nii.gz"),
        str(tmp_path / "fixed.nii.gz"),
        tmp_path / "out" / "transform.h5",
    )
    rms = np.sqrt(np.square(voxels(tmp_path / "out" / "moved.nii.gz") - by_itk).mean())
    assert rms <= 0.002 * np.percentile(by_itk, 99)


def rotation_about_the_diagonal(angle_deg: float) -> np.ndarray:
    """About the axis (1, 1, 1), by SimpleITK."""
    return np.reshape(
        sitk.VersorTransform([1.0, 1.0, 1.0], np.radians(angle_deg)).GetMatrix(), (3, 3)
    )
