"""`stn3d evaluate`, with score.py as reference."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stn3d.cli import main
from tests.cli.cases import (
    Files,
    metrics_of,
    printed,
)
from tests.helpers.paths import ROOT

SCORE = ROOT.parent / "shared" / "bench" / "score.py"


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


def test_evaluate_agrees_with_score_py(
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
    ours = json.loads((tmp_path / "ours.json").read_text(encoding="utf-8"))
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
    out, err = printed(capfd)
    assert err == []
    (row,) = [line for line in out if "TRE" in line]
    assert float(row.split()[4]) < 0.01  # the truth itself
    assert main(["evaluate", *pair, "--json"]) == 0  # no transform: the identity
    metrics = json.loads("\n".join(printed(capfd)[0]))
    before = metrics_of(result)["before"]
    del before["image_loss"]  # known to a registration alone
    assert {key: metrics[key] for key in before} == before


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
    by_script = json.loads("\n".join(printed(capfd)[0]))
    assert main(["evaluate", *pair, "-o", str(tmp_path / "direct.json")]) == 0
    assert by_script == json.loads((tmp_path / "direct.json").read_text(encoding="utf-8"))


def test_labels_definitions_and_outputs(
    both_files: dict[int, Files], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = both_files[2]
    (tmp_path / "names.tsv").write_text("index\tname\n1\trim\n3\tcore\n", encoding="utf-8")
    pair = ["--fixed", files.fixed, "--moving", files.moving, *files.labels]
    pair += ["--transform", str(files.folder / "truth.h5")]
    chosen = ["--labels", "core,1-2,9", "--label-table", str(tmp_path / "names.tsv")]
    outputs = ["--out", str(tmp_path / "m.json"), "--csv", str(tmp_path / "labels.csv")]
    assert main(["evaluate", *pair, *chosen, "--tolerance", "1.5", "-v", *outputs]) == 0
    out, err = printed(capfd)
    assert err == []
    assert "labels: 3 measured; omitted: 9 (in neither label map)" in out
    assert any("surface Dice (NSD)" in line for line in out)
    metrics = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    assert list(metrics["labels"]) == ["3", "1", "2"]
    assert metrics["labels"]["3"]["name"] == "core"
    assert metrics["nsd_tolerance_mm"] == 1.5
    assert metrics["nsd"] > 0.9
    rows = (tmp_path / "labels.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0].startswith("label,name,fixed_voxels")
    assert [row.split(",")[:2] for row in rows[1:]] == [
        *(["1", "rim"], ["2", ""], ["3", "core"], ["9", ""]),
    ]
    assert main(["evaluate", *pair, "--protocol", "l2r", "--csv", "-"]) == 0
    out, err = printed(capfd)  # the file is on stdout, the table on stderr
    assert out[0].startswith("label,name,fixed_voxels,moving_voxels,moved_voxels,dice,hd95_vox")
    assert any("SDlogJ" in line for line in err)


def test_moved_labels_are_measured_without_images(
    both_files: dict[int, Files], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = both_files[2]
    labels = ["--fixed-labels", files.fixed_labels, "--moved-labels", files.fixed_labels]
    assert main(["evaluate", *labels, "--json"]) == 0
    metrics = json.loads("\n".join(printed(capfd)[0]))
    assert (metrics["dice"], metrics["assd_mm"]) == (1, 0)
    assert "correlation" not in metrics


def test_a_table_of_pairs(
    both_files: dict[int, Files], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = both_files[2]
    common = f"{files.fixed},{files.moving},{files.labels[1]},{files.labels[3]}"
    header = "pair,method,fixed,moving,fixed_labels,moving_labels,transform"
    lines = [
        f"{number},{method},{common},{transform}"
        for number in range(2)
        for method, transform in (("ours", files.folder / "truth.h5"), ("none", ""))
    ]
    table = tmp_path / "pairs.csv"
    table.write_text("\n".join([header, *lines]), encoding="utf-8")
    assert main(["evaluate", "--pairs", str(table), "--out", str(tmp_path / "m.json")]) == 0
    out, err = printed(capfd)
    assert err[0] == "1 of 4: 0 (ours)"
    text = " ".join(" ".join(out).split())
    assert "2 pairs: mean [95 % bootstrap interval of the mean]" in text
    assert "dice: ours minus none +" in text
    assert "fewer than 6 pairs cannot reach p < 0.05" in text
    found = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    assert found["summary"]["ours"]["dice"]["n"] == 2
    before = table.read_bytes()
    assert main(["evaluate", "--pairs", str(table), "--out", files.fixed]) == 2
    assert main(["evaluate", "--pairs", str(table), "--csv", str(table)]) == 2
    assert table.read_bytes() == before


EVALUATE = {
    "--transform affine2.h5": ("affine2.h5 is 2D and the images are 3D", "dimension"),
    "--transform truncated.h5": ("truncated.h5 cannot be read as a transform", "complete"),
    "--inverse affine2.h5": ("affine2.h5 is 2D and the images are 3D", "dimension"),
    "--true-transform affine2.h5": ("affine2.h5 is 2D and the images are 3D", "dimension"),
    "--fixed-points points.csv": ("only fixed points are given", "--moving-points too"),
    "--moving-points points.csv": ("only moving points are given", "--fixed-points too"),
    "--fixed-points points.csv --moving-points one.csv": (
        "points.csv holds 2 points and one.csv 1",
        "the same landmarks in both",
    ),
    "--fixed-points points.csv --moving-points points2.csv": ("points2.csv holds 2D", "dimension"),
    "--fixed-labels labels.nii.gz": ("only fixed labels are given", "--moving-labels too"),
    "--fixed-labels labels.nii.gz --moving-labels fractions.nii.gz": (
        "fractions.nii.gz hold fractions",
        "give whole numbers",
    ),
    "--fixed-mask elsewhere.nii.gz": ("elsewhere.nii.gz is on another grid", "resample"),
    "--labels hippocampus": ("no number or range", "--label-table"),
    "--label-table truncated.h5 --labels a": ("label table truncated.h5", "not a text file"),
    "--tolerance -1": ("the tolerance is -1 mm", "0 mm or more"),
    "--min-voxels 0": ("minimum number of voxels is 0", "1 or more"),
    "--protocol l2": ("the protocol 'l2' is unknown", "did you mean l2r"),
    "--pairs points.csv": ("--pairs and files of one pair", "one of the two"),
    "--moved-labels labels.nii.gz": ("no fixed labels", "--fixed-labels"),
    "--csv NEW/metrics.json": ("--out and --csv are the same file", "give two"),
    "--fixd-mask labels.nii.gz": ("no such option: --fixd-mask", "--fixed-mask"),
}


@pytest.mark.parametrize("options", EVALUATE)
def test_evaluate(refused: Callable[[str], str], options: str) -> None:
    pair = "--fixed good.nii.gz --moving other.nii.gz"
    sentence = refused(f"evaluate {pair} {options} --out NEW/metrics.json")
    for words in EVALUATE[options]:
        assert words in sentence


def test_images_of_evaluate(refused: Callable[[str], str]) -> None:
    sentence = refused("evaluate --fixed good.nii.gz --moving series.nii.gz --out NEW/a.json")
    assert "series.nii.gz holds 2 volumes; choose one with --moving-volume N" in sentence


def test_a_pair_or_a_table_of_pairs_is_needed(refused: Callable[[str], str]) -> None:
    for command, words in (
        ("evaluate --fixed good.nii.gz", "--moving is missing"),
        ("evaluate", "--fixed is missing"),
        ("evaluate --pairs points.csv", "the column in points.csv 'x' is unknown"),
        ("evaluate --pairs missing.csv", "there is no table of pairs missing.csv"),
    ):
        assert words in refused(command)
