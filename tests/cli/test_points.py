"""`stn3d points`, with SimpleITK as reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from stn3d.cli import main
from tests.cli.cases import Files, printed
from tests.helpers import sitk_reference as reference
from tests.io.points.test_gifti import VERTICES, gifti


def test_points_to_the_moving_image_and_back(
    files: Files, result: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    d = files.known.fixed_grid.ndim
    points = files.known.fixed_grid.points_mm()[files.known.foreground][::97]
    lines = [",".join("xyz"[:d]) + ",name"]
    lines += [",".join(f"{v:.6f}" for v in p) + f",p{n}" for n, p in enumerate(points.tolist())]
    (tmp_path / "in.csv").write_text("\n".join(lines) + "\n")
    for source, out, options in (("in", "there", []), ("there", "back", ["--from", "moving"])):
        paths = [str(result), str(tmp_path / f"{source}.csv"), *options]
        assert main(["points", *paths, "--out", str(tmp_path / f"{out}.csv")]) == 0
        shown = " ".join(printed(capfd)[0])
        there = "fixed space -> moving space (through transform.h5)"
        back = "moving space -> fixed space (through inverse.h5)"
        assert f"{len(points)} points in {back if options else there}" in shown
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


def test_a_surface_and_its_notes(
    bad: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, out = gifti(tmp_path / "a.surf.gii"), tmp_path / "b.surf.gii"
    assert main(["points", str(bad / "affine3.h5"), str(path), "--out", str(out)]) == 0
    assert "66 vertices, 128 triangles in fixed space -> moving space" in printed(capfd)[0][0]
    transform = sitk.ReadTransform(str(bad / "affine3.h5"))
    expected = [
        np.array(transform.TransformPoint((p * [-1, -1, 1]).tolist())) * [-1, -1, 1]
        for p in VERTICES
    ]
    np.testing.assert_allclose(nib.load(out).darrays[0].data, expected, atol=1e-4)


def test_points_on_stdout(bad: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["points", str(bad / "affine3.h5"), str(bad / "points.csv"), "--out", "-"]
    assert main(command) == 0
    out, err = capfd.readouterr()
    assert out.splitlines()[0] == "x,y,z"
    assert len(out.splitlines()) == 3
    assert "2 points in fixed space" in err


POINTS = {
    "affine3.h5 gone.csv": ("there is no point file gone.csv", "check the path"),
    "affine3.h5 columns.csv": ("columns.csv, line 1", "must name the columns x,y,z"),
    "affine3.h5 headless.csv": ("headless.csv, line 1", "must name the columns x,y,z"),
    "affine3.h5 empty.csv": ("empty.csv, line 1", "must name the columns x,y,z"),
    "affine3.h5 words.csv": ("words.csv, line 2: 1,two,3", "give millimetres"),
    "affine3.h5 short.csv": ("short.csv, line 3: 2 columns", "correct the row"),
    "affine3.h5 no_rows.csv": ("no_rows.csv holds no points", "add at least one"),
    "affine3.h5 good.nii.gz": ("good.nii.gz is not a text file", "give points as CSV"),
    "affine3.h5 points2.csv": ("points2.csv holds 2D points", "the transform's dimension"),
    "affine2.h5 points.csv": ("points.csv holds 3D points", "the transform's dimension"),
    "affine3.h5 points.csv --from fix": ("belong to 'fix' is unknown", "did you mean fixed?"),
    "affine3.h5 points.csv --coordinates rsa": ("system 'rsa' is unknown", "did you mean ras?"),
    "folder points.csv": ("the folder folder holds no transform.h5", "give the folder of a"),
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
