"""Names of labels in the formats of BIDS, FreeSurfer, 3D Slicer and ITK-SNAP."""

from __future__ import annotations

from pathlib import Path

import pytest

from stn3d.errors import InputError
from stn3d.io import read_label_table

TABLES = {
    "dseg.tsv": "index\tname\tcolor\n4\tLeft-Ventricle\t#7818\n17\tLeft Hippocampus\t#dcd8\n",
    "labels.csv": 'Label,Name\n4,Left-Ventricle\n17,"Left Hippocampus"\n',
    "lut.txt": "#No. Label Name: R G B A\n\n4   Left-Ventricle   120 18 134 0\n"
    "17  Left Hippocampus  220 216 20 0\n",
    "slicer.ctbl": "# Color table\n4 Left-Ventricle 120 18 134 255\n"
    "17 Left Hippocampus 220 216 20 255\n",
    "snap.label": '################\n4 120 18 134 1 1 1 "Left-Ventricle"\n'
    '17 220 216 20 1 1 1 "Left Hippocampus"\n',
    "plain.txt": "4 Left-Ventricle\n17 Left Hippocampus\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_every_format_gives_the_names(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(TABLES[name], encoding="utf-8")
    assert read_label_table(tmp_path / name) == {4: "Left-Ventricle", 17: "Left Hippocampus"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no label"),
        ("# a comment\n", "holds no label"),
        ("index\tname\n4\tA\n4\tB\n", "names label 4 twice"),
        ("index\tname\nfour\tA\n", "no number with a name"),
        ("index\tname\n4\n", "no number with a name"),
        ("Left-Ventricle\n", "no number with a name"),
        ("a,b\n1,x\n", "no number with a name"),
    ],
)
def test_other_texts_are_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "table.txt").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        read_label_table(tmp_path / "table.txt")
    with pytest.raises(InputError, match="there is no label table"):
        read_label_table(tmp_path / "missing.txt")
