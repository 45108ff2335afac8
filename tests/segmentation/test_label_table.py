"""The table of labels: as BIDS has it, and with FreeSurfer's numbers."""

from __future__ import annotations

import re
from pathlib import Path

from stn3d.io.label_tables import read_label_table
from stn3d.segmentation.label_table import label_table_tsv
from stn3d.structures import STRUCTURES


def test_the_table_is_read_with_all_names(tmp_path: Path) -> None:
    path = tmp_path / "labels.tsv"
    path.write_text(label_table_tsv(), encoding="utf-8")
    names = read_label_table(path)
    assert list(names.values()) == [one.full_name for one in STRUCTURES]
    known = {2: "left cerebral white matter", 53: "right hippocampus", 24: "cerebrospinal fluid"}
    known |= {165: "skull", 258: "soft tissue", 42: "right cerebral cortex", 0: "background"}
    assert {label: names[label] for label in known} == known
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "index\tname\tcolor"
    colours = {line.split("\t")[1]: line.split("\t")[2] for line in lines[1:]}
    assert all(re.fullmatch("#[0-9A-F]{6}", colour) for colour in colours.values())
    assert colours["left putamen"] == colours["right putamen"] == "#EC0DB0"
    assert len(set(colours.values())) == len({one.name for one in STRUCTURES})
