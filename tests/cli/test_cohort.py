"""The command `cohort`: array jobs, BIDS folders, what is printed, and invalid input."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stn3d.cli import main
from tests.cli.cases import without_opening
from tests.cohort.conftest import write_image

QUICK = ["--kind", "rigid", "--preset", "fast", "--threads", "1", "--init", "header"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A table of three pairs, one of whose images is missing, and a BIDS folder of two subjects."""
    for number in range(3):
        write_image(tmp_path / f"im{number}.nii.gz", 0, number)
    rows = ["a,im0.nii.gz,im1.nii.gz", "b,im0.nii.gz,gone.nii.gz", "c,im0.nii.gz,im2.nii.gz"]
    (tmp_path / "pairs.csv").write_text("\n".join(["name,fixed,moving", *rows]) + "\n")
    for number in (1, 2):
        folder = tmp_path / "bids" / f"sub-0{number}" / "anat"
        folder.mkdir(parents=True)
        image = tmp_path / f"im{number}.nii.gz"
        shutil.copy(image, folder / f"sub-0{number}_T1w.nii.gz")
    return tmp_path


def test_array_jobs_and_their_summary(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["cohort", str(data / "pairs.csv"), "--out", str(data / "out"), *QUICK]
    assert main([*command, "--count"]) == 0
    assert capfd.readouterr().out.strip() == "3"
    assert main([*command, "--index", "0"]) == 0
    assert "quality: " in capfd.readouterr().out
    assert main([*command, "--index", "1"]) == 3
    assert "quality: error; there is no moving image" in capfd.readouterr().out
    assert main([*command, "--summary"]) == 3
    printed, said = capfd.readouterr()
    assert f"wrote {data / 'out' / 'summary.csv'}" in printed
    assert "b: error; there is no moving image" in said
    page = (data / "out" / "index.html").read_text(encoding="utf-8")
    assert "a/report.html" in page
    assert "there is no moving image" in page
    with (data / "out" / "summary.csv").open() as file:
        states = {row["name"]: row["state"] for row in csv.DictReader(file)}
    assert states == {"a": "done", "b": "error", "c": "open"}


def test_a_bids_folder_gives_derivatives(data: Path) -> None:
    out, template = data / "out", data / "tpl-Blobs_T1w.nii.gz"
    shutil.copy(data / "im0.nii.gz", template)
    command = ["cohort", str(data / "bids"), "--to", str(template), "--out", str(out), *QUICK]
    assert main([*command, "--out", str(data / "bids")]) == 2
    assert main([*command, "--index", "0", "--quiet"]) == 0
    names = {one.name for one in (out / "sub-01" / "anat").iterdir()}
    assert "sub-01_from-T1w_to-Blobs_mode-image_xfm.h5" in names
    assert "sub-01_space-Blobs_T1w.nii.gz" in names
    described = json.loads((out / "dataset_description.json").read_text(encoding="utf-8"))
    assert described["DatasetType"] == "derivative"
    assert described["GeneratedBy"][0]["Name"] == "stn3d"
    assert ".cohort" in (out / ".bidsignore").read_text(encoding="utf-8").split()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--index", "9"], "there is no pair 9; the cohort has 0 to 2"),
        (["--slurm", "queue=long"], "--slurm sets options of Slurm jobs; give --scheduler slurm"),
        (["--scheduler", "slurm", "--slurm", "queue"], "--slurm queue has no value"),
        (["--workers", "0"], "--workers is 0; give at least 1"),
        (["--init", "mass", "--init", "header"], "a cohort takes one --init"),
        (["--participant", "01"], "--participant selects subjects of a BIDS folder"),
        (["--fixed-mask", "mask.nii.gz"], "masks and labels of the template are given without it"),
        (["--to", "nowhere/t.nii.gz"], "there is no template nowhere/t.nii.gz; check the path"),
        (["--label-weight", "-1"], "label_weight"),
        (["--estimator", "network"], "--estimator network needs a trained deformable network"),
        (["--estimator", "both", "--deformable-weights", "x"], "weight file x does not exist"),
    ],
)
def test_invalid_input_is_refused_before_any_work(
    data: Path, capfd: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    out = data / "out"
    assert main(["cohort", str(data / "pairs.csv"), "--out", str(out), *options]) == 2
    printed, said = capfd.readouterr()
    assert printed == ""
    (line,) = without_opening(said.splitlines())
    assert message in line
    assert not out.exists()


def test_a_table_without_images_is_refused(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (data / "lost.csv").write_text("fixed,moving\nx.nii.gz,y.nii.gz\nx.nii.gz,z.nii.gz\n")
    assert main(["cohort", str(data / "lost.csv"), "--out", str(data / "out")]) == 2
    said = without_opening(capfd.readouterr().err.splitlines())
    assert "no pair has all its files; y_to_x: there is no fixed" in said[-1]
    assert not (data / "out").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["cohort", "a" * 300, "--out", "NEW"],
        ["cohort", "BIDS", "--to", "fixed.nii.gz", "--out", "NEW", "--participant", "a" * 300],
        ["view", "a" * 300 + ".html"],
        ["report", "a" * 300],
    ],
)
def test_names_beyond_the_limit_of_the_system(
    words: list[str], data: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(data)
    (data / "fixed.nii.gz").touch()
    (data / "BIDS" / "sub-01").mkdir(parents=True)
    assert main(words) == 2
    assert len(without_opening(capfd.readouterr().err.splitlines())) == 1
    assert not (data / "NEW").exists()


def test_other_commands_do_not_import_dask() -> None:
    code = (
        "import sys, stn3d.cli.app, stn3d.registration.api\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('dask', 'distributed')])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True
    )
    assert ran.stdout.strip() == "[]"
