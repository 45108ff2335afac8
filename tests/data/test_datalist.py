"""Datalists and folders of image pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stn3d.data import pair_names, read_pairs
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


@pytest.mark.parametrize(
    ("pairs", "names"),
    [
        ([("a/f.nii.gz", "a/m.mha"), ("a/f.nii.gz", "a/n.mha")], ["m_to_f", "n_to_f"]),
        (
            [("s1/t1.nii", "s2/t1.nii"), ("s2/t1.nii", "s1/t1.nii"), ("s1/t1.nii", "s1/t2.nii")],
            ["s2_t1_to_s1_t1", "s1_t1_to_s2_t1", "t2_to_t1"],
        ),
        (
            [("s1/anat/t1.nii", "x/t1.nii"), ("s2/anat/t1.nii", "x/t1.nii")],
            ["data_x_t1_to_s1_anat_t1", "data_x_t1_to_s2_anat_t1"],
        ),
        ([("a/f.nii", "a/m.nii")] * 3, ["m_to_f", "m_to_f_2", "m_to_f_3"]),
        ([("a/f.nii", "a/m.nii"), ("a/f.nii", "a/M.nii")], ["m_to_f", "M_to_f_2"]),
        (
            [("a/f.nii", "a/m.nii"), ("a/f.nii.gz", "a/m.nii.gz"), ("a/f_2.nii", "a/m.nii")],
            ["m_to_f", "m_to_f_2", "m_to_f_2_2"],
        ),
    ],
)
def test_no_two_pairs_have_one_name(pairs: list[tuple[str, str]], names: list[str]) -> None:
    listed = [{"fixed": f"/data/{f}", "moving": f"/data/{m}"} for f, m in pairs]
    assert pair_names(listed) == names


def test_an_empty_path_is_refused() -> None:
    with pytest.raises(InputError, match="no image pairs are given; set a JSON datalist or"):
        read_pairs("")
