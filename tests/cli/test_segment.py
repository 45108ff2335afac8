"""The command `segment` on a real brain and on images that show none."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from stn3d.cli import main
from stn3d.grid import Grid
from stn3d.io import read_image, write_image
from stn3d.nets.weights import save_weights
from tests.cli.cases import without_opening
from tests.helpers.brain import brain, brain_segmentation, quick_network

FILES = ["labels.nii.gz", "mask.nii.gz", "labels.tsv", "volumes.csv", "volumes.json"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A brain, noise, and the weights of a quick network."""
    made = tmp_path_factory.mktemp("heads")
    write_image(made / "brain.nii.gz", brain().values, brain())
    generator = torch.Generator().manual_seed(2)
    noise = read_image((torch.rand(1, 1, 40, 40, 40, generator=generator), grid_of(40)))
    write_image(made / "noise.nii.gz", noise.values, noise)
    trained = quick_network()
    save_weights(made / "quick.safetensors", trained.network, trained.preprocessing, {})
    return made


def grid_of(count: int) -> Grid:
    return Grid.of_spacing((count, count, count), 4.0)


def test_a_brain_is_segmented_as_in_python(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "out"
    assert main(["segment", str(folder / "brain.nii.gz"), "--out", str(out)]) == 0
    printed = capfd.readouterr().out.splitlines()
    names = [*FILES, "segmentation.png"]
    assert [line for line in printed if line.startswith("wrote")] == [
        f"wrote {out / name}" for name in names
    ]
    assert printed[-1].startswith("quality: good; ")
    assert any(line.split()[:1] == ["hippocampus"] and len(line.split()) == 3 for line in printed)
    labels = np.asarray(nib.load(out / "labels.nii.gz").dataobj)
    expected = brain_segmentation()
    assert np.mean(labels == expected.labels.numpy()) > 0.999
    content = json.loads((out / "volumes.json").read_text(encoding="utf-8"))
    assert content["brain_mask_ml"] == pytest.approx(expected.brain_mask_ml, rel=1e-3)
    for file in (out, out / "volumes.json"):
        assert main(["explain", str(file)]) == 0
        explained = capfd.readouterr().out.splitlines()
        assert explained[0].startswith("segmentation of ")
        assert explained[1] == "quality: good, the network knows what the image shows"
        assert any(re.fullmatch(r"hippocampus: left .* ml, right .* ml", one) for one in explained)
    capfd.readouterr()
    table = ["--label-table", str(out / "labels.tsv"), "--labels", "left hippocampus"]
    maps = [str(out / "labels.nii.gz")] * 2
    command = ["evaluate", "--fixed-labels", maps[0], "--moved-labels", maps[1], *table]
    assert main([*command, "--csv", str(tmp_path / "labels.csv")]) == 0
    assert "left hippocampus" in (tmp_path / "labels.csv").read_text(encoding="utf-8")


def test_an_unknown_image_has_its_own_exit_code_and_json(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ["--weights", str(folder / "quick.safetensors"), "--no-picture"]
    noise = str(folder / "noise.nii.gz")
    command = ["segment", noise, "--out", str(tmp_path), *options]
    assert main([*command, "--json", "--probabilities"]) == 3
    out, err = capfd.readouterr()
    content = json.loads(out)
    assert content["quality"]["status"] == "failed"
    assert content == json.loads((tmp_path / "volumes.json").read_text(encoding="utf-8"))
    assert "quality: failed; " in err
    assert {path.name for path in tmp_path.iterdir()} == {*FILES, "probabilities.nii.gz"}


def test_an_image_that_cannot_be_read_does_not_end_the_others(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"no image")
    out = tmp_path / "out"
    options = ["--weights", str(folder / "quick.safetensors"), "--no-picture", "--out", str(out)]
    assert main(["segment", str(bad), str(folder / "brain.nii.gz"), *options]) == 2
    printed, progress = capfd.readouterr()
    rows = [line.split()[:2] for line in printed.splitlines()]
    assert [row for row in rows if row[:1] in (["bad"], ["brain"])] == [
        ["bad", "error"],
        ["brain", "good"],
    ]
    lines = without_opening(progress.splitlines())
    assert lines[:2] == ["bad (1 of 2)", "brain (2 of 2)"]
    assert lines[2].startswith(f"stn3d: {bad}")
    assert sorted(path.name for path in out.iterdir()) == ["brain", "volumes.csv"]


def test_images_that_all_fail_leave_nothing(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = [tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"]
    for one in bad:
        one.write_bytes(b"no image")
    weights = ["--weights", str(folder / "quick.safetensors")]
    assert main(["segment", *map(str, bad), "--out", str(tmp_path / "new" / "out"), *weights]) == 2
    printed, said = capfd.readouterr()
    assert "wrote" not in printed
    assert [str(one) in said for one in bad] == [True, True]
    assert sorted(tmp_path.iterdir()) == bad


def test_bad_input_is_one_sentence(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plane = tmp_path / "plane.nii.gz"
    nib.save(nib.Nifti1Image(np.eye(30, dtype=np.float32), np.eye(4)), plane)
    for words, message in (
        ([str(plane)], "is a 2D image, and segmentation needs a volume of the head"),
        ([str(plane), "--weights", str(plane)], "cannot be read"),
        ([str(plane), "--image-format", ".png"], "image-format"),
        ([str(plane), "--device", "tpu"], "device"),
        ([str(plane), "--threads", "0"], "number of threads"),
        ([str(tmp_path / "none.nii.gz")], "there is no image"),
    ):
        assert main(["segment", *words, "--out", str(tmp_path / "out")]) == 2
        out, err = capfd.readouterr()
        assert out == ""
        lines = without_opening(err.splitlines())
        assert len(lines) == 1
        assert message in lines[0]
        assert not (tmp_path / "out").exists()
