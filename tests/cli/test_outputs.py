"""Outputs of all commands: never an input, never a device; pipes and stdout."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from stn3d.cli import main
from tests.cli.cases import QUICK, Files, voxels


def copied(files: Files, result: Path, folder: Path) -> Path:
    """Inputs and results of a registration in a folder of their own."""
    for source in (*files.folder.iterdir(), *result.iterdir()):
        if source.is_file():
            shutil.copy(source, folder / source.name)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("ndim", [3], indirect=True)
@pytest.mark.parametrize(
    "arguments",
    [
        "apply transform.h5 {moving} --like {fixed} --out {moving}",
        "apply transform.h5 {moving} --like {fixed} --out {fixed}",
        "apply transform.h5 {moving} --like {fixed} --out ./transform.h5/../{moving}",
        "apply transform.h5 {moving} --like {fixed} --out soft.nii.gz",
        "apply transform.h5 {moving} --like {fixed} --out hard.nii.gz",
        "points transform.h5 points.csv --out points.csv",
        "points transform.h5 points.csv --out transform.h5",
        "points transform.h5 points.csv --out soft.csv",
        "evaluate --fixed {fixed} --moving {moving} --out {moving}",
        "evaluate --fixed {fixed} --moving {moving} --transform transform.h5 --out transform.h5",
        "register {fixed} moved.nii.gz --out .",
        "register {fixed} {moving} --init transform.h5 --out .",
        "register {fixed} {moving} --fixed-labels {fixed} --moving-labels moved.nii.gz --out .",
        "register {fixed} {moving} --fixed-channel {fixed} --moving-channel moved.nii.gz --out .",
        "series series.nii.gz --reference moved.nii.gz --out .",
        "series moved.nii.gz --out .",
        "landmarks points.csv metrics.json --out .",
        "landmarks points.csv points.csv --kind tps --like inverse.h5 --out .",
    ],
)
def test_an_input_is_never_overwritten(
    files: Files,
    result: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: str,
) -> None:
    folder = copied(files, result, tmp_path)
    monkeypatch.chdir(folder)
    Path("points.csv").write_text("x,y,z\n1,2,3\n4,5,6\n7,8,10\n1,1,1\n")
    names = {"fixed": Path(files.fixed).name, "moving": Path(files.moving).name}
    Path("soft.nii.gz").symlink_to(names["moving"])
    Path("hard.nii.gz").hardlink_to(names["moving"])
    Path("soft.csv").symlink_to("points.csv")
    words = arguments.format(**names).split()
    if "./transform.h5/.." in arguments:
        Path("sub").mkdir()
        words[-1] = f"sub/../{names['moving']}"
    before = contents(folder)
    assert main(words) == 2
    lines = capfd.readouterr().err.splitlines()
    assert "it is an input of this command" in lines[-1], lines
    assert contents(folder) == before


@pytest.mark.parametrize("ndim", [3], indirect=True)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_results_go_to_stdout(files: Files, result: Path, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("x,y,z\n1,2,3\n")
    transform = str(result / "transform.h5")

    def run(*words: str) -> tuple[bytes, str]:
        ended = subprocess.run(
            [sys.executable, "-m", "stn3d", *words],
            capture_output=True,
            cwd=tmp_path,
            timeout=120,
            check=True,
        )
        return ended.stdout, ended.stderr.decode()

    image, messages = run("apply", transform, files.moving, "--like", files.fixed, "--out", "-")
    assert "wrote -" in messages
    assert "interpolation: linear (automatic)" in messages
    out = str(tmp_path / "file.nii")
    assert main(["apply", transform, files.moving, "--like", files.fixed, "--out", out]) == 0
    moved = nib.Nifti1Image.from_stream(io.BytesIO(image))
    np.testing.assert_array_equal(np.asanyarray(moved.dataobj), voxels(out))
    table, _ = run("points", transform, "p.csv", "--out", "-")
    assert table.decode().splitlines()[0] == "x,y,z"
    assert len(table.decode().splitlines()) == 2
    for more in ((), ("--json",)):
        text, _ = run(
            "evaluate", "--fixed", files.fixed, "--moving", files.moving, "--out", "-", *more
        )
        assert "region" in json.loads(text)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.nii", "p.csv"]


@pytest.mark.parametrize("command", ["register", "series", "landmarks"])
def test_folders_do_not_go_to_stdout(
    files: Files, command: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "p.csv").write_text("x,y,z\n1,2,3\n4,5,6\n7,8,10\n1,1,1\n")
    points = str(tmp_path / "p.csv")
    words = {"register": [*files.pair, *QUICK], "series": [files.fixed]}
    inputs = words.get(command, [points, points])
    assert main([command, *inputs, "--out", "-"]) == 2
    assert "stdout cannot take several files" in capfd.readouterr().err.splitlines()[-1]
    assert not Path("-").exists()
