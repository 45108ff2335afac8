"""Datalists and folders of image pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stn3d.data import (
    read_pairs,
)
from stn3d.errors import InputError
from tests.helpers.image_pairs import absolute


def test_pairs_of_a_folder(tmp_path: Path) -> None:
    for name in (
        "a_t1.nii.gz",
        "a_labels.nii.gz",
        "b_t1.nii.gz",
        "b_labels.nii.gz",
        "notes.txt",
        "a_points.csv",
        "b_points.csv",
    ):
        (tmp_path / name).touch()
    pairs = read_pairs(tmp_path)
    assert [Path(p["fixed"]).name for p in pairs] == ["a_t1.nii.gz", "b_t1.nii.gz"]
    assert {key: Path(file).name for key, file in pairs[0].items()} == {
        "fixed": "a_t1.nii.gz",
        "moving": "b_t1.nii.gz",
        "fixed_labels": "a_labels.nii.gz",
        "moving_labels": "b_labels.nii.gz",
        "fixed_points": "a_points.csv",
        "moving_points": "b_points.csv",
    }


def test_pairs_of_a_datalist(tmp_path: Path) -> None:
    for name in ("a.nii", "b.nii"):
        (tmp_path / name).touch()
    pair = {"fixed": "a.nii", "moving": "b.nii"}
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps({"training": [pair], "testing": [pair, pair]}))
    assert read_pairs(path) == [absolute(tmp_path, pair)]
    assert len(read_pairs(path, "testing")) == 2
    path.write_text(json.dumps([pair]))
    assert len(read_pairs(path, "whatever")) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"training": [{"fixd": "a.nii"}]}, "unknown key 'fixd'; did you mean 'fixed'"),
        ({"training": [{"fixed": "a.nii"}]}, "has no 'moving'"),
        ({"training": [{"fixed": "a.nii", "moving": "c.nii"}]}, r"c\.nii does not exist"),
        ({"validation": []}, "no list 'training'; it has: validation"),
        ([], "holds no pairs"),
        (["a"], "is not a list of pairs"),
        (
            [
                {"fixed": "a.nii", "moving": "a.nii"},
                {"fixed": "a.nii", "moving": "a.nii", "fixed_mask": "a.nii"},
            ],
            "other keys than pair 0",
        ),
    ],
)
def test_invalid_datalists_are_an_error(tmp_path: Path, content: Any, message: str) -> None:
    (tmp_path / "a.nii").touch()
    (tmp_path / "pairs.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        read_pairs(tmp_path / "pairs.json")
