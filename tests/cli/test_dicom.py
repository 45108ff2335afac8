"""`register --dicom` and `apply --dicom`: DICOM in, DICOM out."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
import torch

from stn3d import read_image, read_transform
from stn3d.cli import main
from stn3d.io.dicom_output import write_dicom_series
from tests.cli.cases import QUICK, make_files, printed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dicom")
    files = make_files(folder, 3)
    for name in ("fixed", "moving"):
        image = read_image(getattr(files, name))
        write_dicom_series(folder / name, 1000 * image.values, image.grid)
    return folder


def test_register_and_apply(folder: Path) -> None:
    fixed, moving, out = (str(folder / name) for name in ("fixed", "moving", "out"))
    command = ["register", fixed, moving, "--out", out, "--kind", "rigid", *QUICK, "--dicom"]
    assert main([name for name in command if name != "deformable"]) in (0, 3)
    moved = read_image(Path(out) / "moved_dicom")
    nifti = read_image(Path(out) / "moved.nii.gz")
    assert moved.grid.same_as(read_image(fixed).grid)
    torch.testing.assert_close(moved.values, nifti.values, atol=0.1, rtol=0)
    headers = [pydicom.dcmread(next(Path(one).glob("*.dcm"))) for one in (fixed, moving)]
    new = pydicom.dcmread(Path(out) / "moved_dicom" / "0001.dcm")
    assert new.FrameOfReferenceUID == headers[0].FrameOfReferenceUID
    assert new.StudyInstanceUID == headers[1].StudyInstanceUID
    points = nifti.grid.points_mm().reshape(-1, 3)[::97]
    saved = read_transform(Path(out) / "transform.dcm")(points)
    expected = read_transform(Path(out) / "transform.h5")(points)
    torch.testing.assert_close(saved, expected, atol=1e-3, rtol=0)
    again = str(folder / "again")
    onto = ["--like", fixed, "--out", again, "--dicom"]
    assert main(["apply", str(Path(out) / "transform.dcm"), moving, *onto]) == 0
    applied = read_image(again)
    torch.testing.assert_close(applied.values, moved.values, atol=0.5, rtol=0)


def test_a_single_slice_is_called_one(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    slice_ = str(folder / "moving" / "0003.dcm")
    assert main(["explain", slice_]) == 0
    assert any("one slice of a series" in line for line in printed(capfd)[0])
