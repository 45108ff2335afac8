"""`stn3d apply` and `stn3d points`, with SimpleITK as reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from stn3d.cli import main
from tests.cli.cases import (
    Files,
    printed,
    resampled,
    voxels,
)
from tests.helpers import sitk_reference as reference


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
def test_apply_prints_what_auto_selects(
    files: Files,
    result: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    role: str,
    chosen: str,
) -> None:
    command = ["apply", str(result / "transform.h5"), getattr(files, role), "--like", files.fixed]
    assert main([*command, "--out", str(tmp_path / "auto.nii.gz")]) == 0
    out, err = printed(capfd)
    assert next(line for line in out if "interpolation" in line).count(chosen) >= 1
    assert err == []
    explicit = [*command, "--out", str(tmp_path / "explicit.nii.gz"), "--interpolation", chosen]
    assert main(explicit) == 0
    assert not any("interpolation" in line for line in printed(capfd)[0])
    auto, explicit_file = ((tmp_path / f"{n}.nii.gz").read_bytes() for n in ("auto", "explicit"))
    assert auto == explicit_file


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
        [
            line.split(",")
            for line in (tmp_path / f"{n}.csv").read_text(encoding="utf-8").splitlines()
        ]
        for n in ("there", "back")
    )
    assert there[0] == [*"xyz"[:d], "name"]
    assert [row[-1] for row in back] == [line.split(",")[-1] for line in lines]
    by_itk = reference.mapped(sitk.ReadTransform(str(result / "transform.h5")), points)
    moved, again = (np.array([row[:d] for row in rows[1:]], float) for rows in (there, back))
    np.testing.assert_allclose(moved, by_itk.numpy(), atol=1e-4)
    assert np.linalg.norm(again - points.numpy(), axis=1).max() < 0.3


APPLY = {
    "gone.h5 good.nii.gz": ("there is no transform file gone.h5", "check the path"),
    "text.h5 good.nii.gz": (
        "text.h5 cannot be read as a transform",
        "give a complete",
    ),
    "text.tfm good.nii.gz": (
        "text.tfm cannot be read as a transform",
        "give a complete",
    ),
    "text.mat good.nii.gz": (
        "text.mat cannot be read as a transform",
        "give a complete",
    ),
    "corrupt.h5 good.nii.gz": ("corrupt.h5 cannot be read as a transform", "give a complete"),
    "corrupt_end.h5 good.nii.gz": ("corrupt_end.h5 cannot be read as a", "give a complete"),
    "foreign.h5 good.nii.gz": ("foreign.h5 cannot be read as a transform", "give a complete"),
    "truncated.h5 good.nii.gz": ("truncated.h5 cannot be read as a", "give a complete"),
    "good.nii.gz good.nii.gz": ("good.nii.gz cannot be read as a transform", "give a complete"),
    "folder good.nii.gz": ("there is no transform file folder", "check the path"),
    "affine3.h5 gone.nii.gz": ("there is no image gone.nii.gz", "check the path"),
    "affine3.h5 plane.nii.gz": ("plane.nii.gz is 2D and the transform", "dimension"),
    "affine2.h5 good.nii.gz": ("good.nii.gz is 3D and the transform", "dimension"),
    "affine3.h5 series.nii.gz --volume 2": ("has no volume 2", "it holds 2, counted from 0"),
    "affine3.h5 nan.nii.gz": ("nan.nii.gz has NaN or Inf", "replace them"),
    "affine3.h5 good.nii.gz --interpolation cubik": (
        "the interpolation 'cubik' is unknown",
        "did you mean cubic?",
    ),
    "affine3.h5 good.nii.gz --interpolation label": ("good.nii.gz hold fractions", "whole"),
}


@pytest.mark.parametrize("options", APPLY)
def test_apply(refused: Callable[[str], str], options: str) -> None:
    sentence = refused(f"apply {options} --like good.nii.gz --out NEW/moved.nii.gz")
    for words in APPLY[options]:
        assert words in sentence


def test_apply_like(refused: Callable[[str], str]) -> None:
    onto = "--like plane.nii.gz --out NEW/moved.nii.gz"
    assert "plane.nii.gz is 2D" in refused(f"apply affine3.h5 good.nii.gz {onto}")
    onto = "--like gone.nii.gz --out NEW/moved.nii.gz"
    assert "gone.nii.gz; check the path" in refused(f"apply affine3.h5 good.nii.gz {onto}")


POINTS = {
    "affine3.h5 gone.csv": ("there is no point file gone.csv", "check the path"),
    "affine3.h5 columns.csv": ("columns.csv, line 1", "must begin with x,y,z"),
    "affine3.h5 headless.csv": ("headless.csv, line 1", "must begin with x,y,z"),
    "affine3.h5 empty.csv": ("empty.csv, line 1", "must begin with x,y,z"),
    "affine3.h5 words.csv": ("words.csv, line 2: 1,two,3", "give millimetres"),
    "affine3.h5 short.csv": ("short.csv, line 3: 2 columns", "correct the row"),
    "affine3.h5 no_rows.csv": ("no_rows.csv holds no points", "add at least one"),
    "affine3.h5 good.nii.gz": ("good.nii.gz is not a text file", "give points as CSV"),
    "affine3.h5 points2.csv": ("points2.csv holds 2D points", "the transform's dimension"),
    "affine2.h5 points.csv": ("points.csv holds 3D points", "the transform's dimension"),
    "text.h5 points.csv": (
        "text.h5 cannot be read as a transform",
        "give a complete",
    ),
}


@pytest.mark.parametrize("options", POINTS)
def test_points(refused: Callable[[str], str], options: str) -> None:
    sentence = refused(f"points {options} --out NEW/out.csv")
    for words in POINTS[options]:
        assert words in sentence
