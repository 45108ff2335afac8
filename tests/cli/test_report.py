"""The commands `report` and `view`."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import webbrowser
from html import unescape
from pathlib import Path

import pytest

from stn3d.cli import main
from stn3d.report.commands import repeating_command
from tests.cli.cases import QUICK, REPORT, RESULTS, Files, printed


@pytest.mark.parametrize("ndim", [3], indirect=True)
def test_a_report_is_made_later_from_the_files(files: Files, result: Path, tmp_path: Path) -> None:
    later = tmp_path / "later"
    shutil.copytree(result, later)
    for name in REPORT:
        (later / name).unlink()
    assert main(["report", str(later)]) == 0
    for name in REPORT:
        first, second = ((folder / name).read_bytes() for folder in (result, later))
        assert len(second) == pytest.approx(len(first), rel=0.02)  # the file rounds the transform
    text = (later / "report.html").read_text(encoding="utf8")
    metrics = json.loads((later / "metrics.json").read_text(encoding="utf8"))
    for value in (metrics["before"]["dice"], metrics["after"]["dice"]):
        assert f"{value:.4f}" in text
    metrics["fixed"]["sources"]["labels"] = str(tmp_path / "gone.nii.gz")
    (later / "metrics.json").write_text(json.dumps(metrics), encoding="utf8")
    before = (later / "report.html").stat().st_mtime_ns
    assert main(["report", str(later)]) == 2
    assert (later / "report.html").stat().st_mtime_ns == before


@pytest.mark.parametrize("ndim", [2], indirect=True)
def test_an_image_that_is_gone_and_folders_without_a_registration_are_named(
    result: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    later = tmp_path / "later"
    shutil.copytree(result, later)
    path = later / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf8"))
    for sources, words in (
        ({**metrics["moving"]["sources"], "image": "/none/a.nii"}, "moving image /none/a.nii of"),
        ({**metrics["moving"]["sources"], "image": None}, "does not say where the moving image is"),
        (None, "does not say where the moving image is"),
    ):
        metrics["moving"]["sources"] = sources
        path.write_text(json.dumps(metrics), encoding="utf8")
        assert main(["report", str(later)]) == 2
        last = capfd.readouterr().err.splitlines()[-1]
        assert words in last
        assert "InputError" not in last
    known = json.loads((result / "metrics.json").read_text(encoding="utf8"))
    for damage in (
        {"quality": {}}, {"before": []}, {"settings": {}}, {"stages": [{}]}, {"timings_s": None},
        {"fixed": {"sources": known["fixed"]["sources"]}}, {"auto_selected": {"kind": 1}},
        {"fixed": 3}, {"moving": {"sources": {"image": 1}}},
    ):  # fmt: skip
        path.write_text(json.dumps(known | damage), encoding="utf8")
        before = (later / "report.html").read_bytes()
        assert main(["report", str(later)]) == 2, damage
        assert "register again" in capfd.readouterr().err.splitlines()[-1]
        assert (later / "report.html").read_bytes() == before
    path.write_text("[1]", encoding="utf8")
    for folder, words in (
        (later, "no metrics.json of a registration"),
        (tmp_path / "none", "there is no folder"),
    ):
        assert main(["report", str(folder)]) == 2
        assert words in capfd.readouterr().err.splitlines()[-1]


def test_of_several_there_is_an_index(
    both_results: dict[int, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for d, folder in both_results.items():
        shutil.copytree(folder, tmp_path / "all" / f"{d}d")
    (tmp_path / "all" / "2d" / "report.html").unlink()
    lines = "name,error,dice_after\n3d,,0.9\nlost,cannot read <a>,\n"
    (tmp_path / "all" / "summary.csv").write_text(lines, encoding="utf8")
    assert main(["report", str(tmp_path / "all")]) == 0
    assert (tmp_path / "all" / "2d" / "report.html").is_file()
    page = (tmp_path / "all" / "index.html").read_text(encoding="utf8")
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert data is not None
    rows = {row["name"]: row for row in json.loads(data[1])["rows"]}
    assert set(rows) == {"2d", "3d", "lost"}
    assert rows["lost"] | {"reason": "cannot read <a>", "status": "error"} == rows["lost"]
    assert rows["2d"]["page"] == "2d/report.html"
    assert rows["2d"]["thumbnail"].startswith("data:image/webp;base64,")
    metrics = json.loads((tmp_path / "all" / "3d" / "metrics.json").read_text(encoding="utf8"))
    assert rows["3d"]["values"]["dice_after"] == metrics["after"]["dice"]
    # two folders, and the index elsewhere: links are relative to it
    both = [str(tmp_path / "all" / name) for name in ("2d", "3d")]
    assert main(["report", *both, "--out", str(tmp_path / "other")]) == 0
    assert "../all/2d/report.html" in (tmp_path / "other" / "index.html").read_text("utf8")


@pytest.mark.parametrize("ndim", [2], indirect=True)
def test_view_opens_the_page_or_says_where_it_is(
    result: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda uri: opened.append(uri) or len(opened) == 1)
    assert main(["view", str(result)]) == 0
    assert opened == [(result / "report.html").as_uri()]
    out, err = printed(capfd)
    assert "no browser" not in " ".join([*out, *err])
    assert main(["view", str(result)]) == 0
    out, err = printed(capfd)
    text = "".join([*out, *err])
    assert "no browser was found" in text
    assert str(result / "report.html") in text.replace(" ", "")
    for folder, words in ((tmp_path, "stn3d report"), (tmp_path / "none", "there is no folder")):
        assert main(["view", str(folder)]) == 2
        assert words in capfd.readouterr().err


@pytest.mark.parametrize("ndim", [2], indirect=True)
def test_no_report_writes_none(files: Files, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["register", *files.pair, "--out", str(out), *QUICK, "--no-report"]) == 0
    assert {path.name for path in out.iterdir()} == RESULTS - REPORT


@pytest.mark.parametrize("ndim", [2], indirect=True)
def test_the_command_on_the_page_repeats_the_registration(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text("linear: {iterations: 7}\ndeformable: {iterations: [9, 4, 2]}\n")
    command = ["register", *files.pair, "--out", "out", *QUICK, *files.labels, "--config", "c.yaml"]
    further = ["--kind", "deformable", "--label-weight", "0.3", "--fill", "7", "--seed", "3"]
    assert main([*command, *further]) == 0
    page = Path("out", "report.html").read_text(encoding="utf8")
    text = re.search(r"Repeat this registration.*?<pre>(.*?)</pre>", page, re.DOTALL)
    assert text is not None
    first, last = unescape(text[1]).split(" && ")
    echo, content, arrow, name = shlex.split(first)
    assert (echo, arrow) == ("echo", ">")
    Path(name).write_text(content)
    program, *arguments = shlex.split(last)
    assert program == "stn3d"
    assert main(arguments) == 0
    for name in ("moved.nii.gz", "transform.h5"):
        assert Path("repeated", name).read_bytes() == Path("out", name).read_bytes()
    again, settings = (
        json.loads(Path(folder, "metrics.json").read_text(encoding="utf-8"))["settings"]
        for folder in ("repeated", "out")
    )
    assert again == settings


def test_the_command_names_the_network(result: Path) -> None:
    """No command repeats a registration with a network that is in no file."""
    metrics = json.loads((result / "metrics.json").read_text(encoding="utf-8"))
    metrics["settings"] |= {"estimator": "both", "kind": "deformable"}
    assert repeating_command(metrics, "out") is None
    metrics["settings"]["deformable_weights"] = "my own.safetensors"
    words = shlex.split(str(repeating_command(metrics, "out")))
    assert words[words.index("--deformable-weights") + 1] == "my own.safetensors"
    metrics["settings"] |= {"kind": "rigid", "deformable_weights": None}
    metrics["auto_selected"].pop("kind", None)
    assert repeating_command(metrics, "out") is not None
