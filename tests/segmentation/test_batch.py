"""Many images: a folder for each, a table of all, and one that cannot be segmented."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import write_image
from stn3d.segmentation import SegmentationOutputs, segment_files
from tests.helpers.brain import brain, quick_network

QUICK = SegmentationOutputs(picture=False)


def write_brain(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, brain().values, brain())
    return path


def test_one_bad_image_does_not_end_the_others(tmp_path: Path) -> None:
    first, second = (write_brain(tmp_path / f"sub-{n}" / "T1w.nii.gz") for n in (1, 2))
    second.write_bytes(b"no image")
    third = (torch.rand(1, 1, 30, 30), Grid.of_spacing((30, 30), 5.0))
    seen: list[tuple[int, int, str]] = []
    out = tmp_path / "out"
    found = segment_files(
        [first, second, third],
        out,
        outputs=QUICK,
        network=quick_network(),
        progress=lambda *event: seen.append(event),
    )
    assert [one.name for one in found[:2]] == ["sub-1_T1w", "sub-2_T1w"]
    assert [bool(one.error) for one in found] == [False, True, True]
    assert "sub-2" in found[1].error
    assert "is a 2D image" in found[2].error
    assert sorted(path.name for path in out.iterdir()) == ["sub-1_T1w", "volumes.csv"]
    assert (out / "sub-1_T1w" / "labels.nii.gz") in found[0].files
    text = (out / "volumes.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert {row["image"] for row in rows} == {str(first)}
    assert len(rows) == 32
    assert seen[0] == (0, 3, "sub-1_T1w")
    assert seen[-1] == (3, 3, found[2].name)


def test_outputs_that_are_inputs_and_repeated_images_are_refused(tmp_path: Path) -> None:
    labels = write_brain(tmp_path / "labels.nii.gz")
    with pytest.raises(InputError, match="it is an input of this command"):
        segment_files([labels], tmp_path)
    with pytest.raises(InputError, match="is given twice"):
        segment_files([labels, labels], tmp_path / "out")
    for wrong in ({"threads": 0}, {"device": "cuda:77"}):
        with pytest.raises(InputError, match=r"(threads|CUDA)"):
            segment_files([labels, tmp_path / "other.nii.gz"], tmp_path / "out", **wrong)
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"no image")
    with pytest.raises(InputError, match="bad"):
        segment_files([bad], tmp_path / "new" / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.nii.gz", "labels.nii.gz"]
