"""The command `landmarks`: what it prints, and invalid input."""

from __future__ import annotations

from pathlib import Path

import pytest

from stn3d.cli import main
from tests.cli.cases import without_opening
from tests.helpers.landmark_cases import noisy, some_points, write_landmarks


def test_errors_and_outliers_are_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fixed, moving = noisy(3)
    moving[3] += 50
    names = [f"p{row}" for row in range(12)]
    files = [
        write_landmarks(tmp_path / f"{n}.csv", p, names) for n, p in (("a", fixed), ("b", moving))
    ]
    assert main(["landmarks", *files, "--out", str(tmp_path / "out")]) == 0
    out, err = capfd.readouterr()
    assert without_opening(err.splitlines()) == []
    assert "leave-one-out landmark error, mm" in out
    assert "outlier: landmark p3 lies " in out
    assert out.splitlines()[-2] == f"wrote {tmp_path / 'out' / 'metrics.json'}"


REFUSED = {
    "a.csv b.csv --kind tps": "give the fixed image as --like",
    "a.csv b.csv --kind afine": "did you mean affine",
    "a.csv few.csv": "holds 12 points and few.csv 3",
    "a.csv gone.csv": "there is no point file gone.csv",
    "few.csv few.csv --kind affine": "needs 4 or more",
    "named.csv other.csv": "named.csv holds the landmark 'q', other.csv does not; use the same",
    "named.csv twice.csv": "twice.csv: two points have the name 'q'; give each landmark one unique",
    "named.csv nameless.csv": "nameless.csv: a point has no name",
    "a.csv b.csv --kind tps --like gone.nii.gz": "there is no like image gone.nii.gz",
    "a.csv b.csv --smoothing 3": "--smoothing applies to --kind tps only",
    "a.csv plane.csv": "plane.csv holds 2D points and a.csv 3D points",
}


@pytest.mark.parametrize("options", REFUSED)
def test_invalid_input_writes_nothing(
    options: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_landmarks(tmp_path / "a.csv", some_points(3))
    write_landmarks(tmp_path / "b.csv", some_points(3) + 1)
    write_landmarks(tmp_path / "plane.csv", some_points(2))
    few = some_points(3, 3)
    write_landmarks(tmp_path / "few.csv", few)
    for name, names in {
        "named": ["p", "q", "r"],
        "other": ["p", "s", "r"],
        "twice": ["p", "q", "q"],
        "nameless": ["p", "", "r"],
    }.items():
        write_landmarks(tmp_path / f"{name}.csv", few, names)
    assert main(["landmarks", *options.split(), "--out", "new/out"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert len(without_opening(err.splitlines())) == 1
    assert REFUSED[options] in err
    assert not (tmp_path / "new").exists()
