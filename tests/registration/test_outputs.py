"""The files that a registration writes, and their names."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from stn3d import read_transform
from stn3d.cli import main
from stn3d.errors import InputError
from stn3d.registration.outputs import Outputs
from tests.cli.cases import QUICK, make_files


def test_names() -> None:
    plain = Outputs(report=False).files("f.nii", "m.nii")
    assert list(plain.values()) == ["moved.nii.gz", "transform.h5", "inverse.h5", "metrics.json"]
    both = Outputs().files("f.nii", "m.nii").items() - plain.items()
    assert both == {("report", "report.html"), ("picture", "report.png")}
    more = Outputs(image_suffix=".mha", jacobian=True).files("f.nii", "m.nii", labels=True)
    assert {"moved.mha", "moved_labels.mha", "jacobian.mha"} <= set(more.values())
    with pytest.raises(InputError, match="image-format"):
        Outputs(image_suffix=".jpg")  # type: ignore[arg-type]
    pictures = Outputs(image_suffix=".png", jacobian=True).files("f", "m", uncertainty=True)
    assert pictures["jacobian"] == "jacobian.tif"
    assert pictures["uncertainty"] == "uncertainty.tif"  # png holds no fractions


def test_labels_jacobian_and_formats_are_written(tmp_path: Path) -> None:
    files = make_files(tmp_path, 3)
    out = tmp_path / "out"
    command = ["register", *files.pair, "--out", str(out), *QUICK, *files.labels]
    assert main([*command, "--image-format", ".nrrd", "--jacobian"]) == 0
    moved = sitk.ReadImage(str(out / "moved.nrrd"))
    fixed = sitk.ReadImage(files.fixed)
    assert moved.GetSize() == fixed.GetSize()
    np.testing.assert_allclose(moved.GetOrigin(), fixed.GetOrigin(), atol=1e-4)
    labels = sitk.ReadImage(str(out / "moved_labels.nrrd"))
    assert labels.GetPixelID() == sitk.ReadImage(files.moving_labels).GetPixelID()
    expected = sitk.Resample(
        sitk.ReadImage(files.moving_labels),
        fixed,
        sitk.ReadTransform(str(out / "transform.h5")),
        sitk.sitkNearestNeighbor,
    )
    same = sitk.GetArrayFromImage(labels) == sitk.GetArrayFromImage(expected)
    assert same.mean() > 0.97  # votes of linear weights differ from the nearest at borders
    determinant = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "jacobian.nrrd")))
    transform = sitk.ReadTransform(str(out / "transform.h5"))

    def mapped(index: np.ndarray) -> tuple[float, ...]:
        point = fixed.TransformContinuousIndexToPhysicalPoint(index.tolist())
        return transform.TransformPoint(point)

    steps = np.eye(3)
    edges = np.array(fixed.GetDirection()).reshape(3, 3) @ np.diag(fixed.GetSpacing())
    for index in ((5, 6, 7), (10, 9, 8), (12, 6, 4)):
        ends = [[mapped(np.add(index, sign * step)) for sign in (1, -1)] for step in steps]
        columns = np.array([np.subtract(*pair) for pair in ends]).T
        expected_det = np.linalg.det(columns) / np.linalg.det(2 * edges)
        assert determinant[index[::-1]] == pytest.approx(expected_det, abs=2e-3)


def test_bids_names_and_sidecars(tmp_path: Path) -> None:
    files = make_files(tmp_path, 3)
    fixed, moving = tmp_path / "tpl-Test_T1w.nii.gz", tmp_path / "sub-01_T1w.nii.gz"
    Path(files.fixed).rename(fixed)
    Path(files.moving).rename(moving)
    out = tmp_path / "out"
    assert main(["register", str(fixed), str(moving), "--out", str(out), *QUICK, "--bids"]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "sub-01_from-T1w_to-Test_desc-registration_metrics.json",
        "sub-01_from-T1w_to-Test_desc-registration_report.html",
        "sub-01_from-T1w_to-Test_desc-registration_report.png",
        "sub-01_from-T1w_to-Test_mode-image_xfm.h5",
        "sub-01_from-T1w_to-Test_mode-image_xfm.json",
        "sub-01_from-Test_to-T1w_mode-image_xfm.h5",
        "sub-01_from-Test_to-T1w_mode-image_xfm.json",
        "sub-01_space-Test_T1w.json",
        "sub-01_space-Test_T1w.nii.gz",
    ]
    sidecar = json.loads((out / "sub-01_space-Test_T1w.json").read_text(encoding="utf-8"))
    assert sidecar["SpatialReference"] == str(fixed)
    assert sidecar["Sources"] == [str(fixed), str(moving)]
    assert nib.load(out / "sub-01_space-Test_T1w.nii.gz").shape == nib.load(fixed).shape
    assert read_transform(out / "sub-01_from-T1w_to-Test_mode-image_xfm.h5").ndim == 3
