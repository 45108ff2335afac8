"""`stn3d apply`, with SimpleITK as reference."""

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
    "folder good.nii.gz": ("holds no transform.h5", "give the transform's file"),
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
