"""Markup files of 3D Slicer."""

from __future__ import annotations

from pathlib import Path

import pytest

from stn3d.errors import InputError
from stn3d.io import read_points, write_points


def test_slicer_markups_are_converted_to_ras(tmp_path: Path) -> None:
    (tmp_path / "a.mrk.json").write_text(
        '{"markups": [{"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm",'
        ' "controlPoints": [{"label": "F-1", "position": [1, 2, 3], "positionStatus": "defined"},'
        ' {"label": "F-2", "position": [-4.5, 5, 6]}]}]}'
    )
    rows = "0,{0},{1},3,0,0,0,1,1,1,0,F-1,,,2,0\n1,{2},{3},6,0,0,0,1,1,1,0,F-2,,,2,0\n"
    head = "# Markups fiducial file version = 4.11\n# CoordinateSystem = {}\n# columns = id,x,y,z,"
    head += "ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
    (tmp_path / "lps.fcsv").write_text(head.format("LPS") + rows.format(1, 2, -4.5, 5))
    (tmp_path / "ras.fcsv").write_text(head.format("0") + rows.format(-1, -2, 4.5, -5))
    for name in ("a.mrk.json", "lps.fcsv", "ras.fcsv"):
        points, table = read_points(tmp_path / name)
        assert points.tolist() == [[-1, -2, 3], [4.5, -5, 6]]
        assert table.names == ("F-1", "F-2")
    (tmp_path / "none.fcsv").write_text(rows.format(1, 2, 3, 4))
    with pytest.raises(InputError, match="is neither RAS nor LPS"):
        read_points(tmp_path / "none.fcsv")
    (tmp_path / "lps.fcsv").write_text(head.format("LPS") + rows.format(1, 2, 3, 4)[:-4] + "0,0\n")
    with pytest.raises(InputError, match="'F-2' is not placed"):
        read_points(tmp_path / "lps.fcsv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not a point list of 3D Slicer"),
        ('{"markups": []}', "is not a point list"),
        ('{"markups": [{"controlPoints": []}]}', "holds no points"),
        ('{"markups": [{"controlPoints": [{"label": "a", "position": [1, 2]}]}]}', "'a' is not 3"),
        ('{"markups": [{"coordinateUnits": "um", "controlPoints": []}]}', "is in um, not in mm"),
        ('{"markups": [{"controlPoints": []}, {}]}', "is not a point list"),
        ('{"markups": [{"coordinateSystem": "IJK", "controlPoints": [{"position": [1, 2, 3]}]}]}',
         "is IJK"),
        ('{"markups": [{"controlPoints": [{"label": "a", "positionStatus": "undefined"}]}]}',
         "point 'a' is not placed"),
    ],
)  # fmt: skip
def test_invalid_markups_are_rejected(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.mrk.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_points(tmp_path / "a.mrk.json")


NODE = '{"markups": [{"coordinateSystem": "RAS", "controlPoints": [%s]}]}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"markups": ' + "[" * 20_000, "is not a point list of 3D Slicer"),
        ("[1]", "is not a point list"),
        ("1", "is not a point list"),
        ('{"markups": {"0": 1}}', "is not a point list"),
        ('{"markups": ["a"]}', "is not a point list"),
        ('{"markups": [{"controlPoints": 3}]}', "is not a point list"),
        ('{"markups": [{"controlPoints": [3]}]}', "is not a point list"),
        ('{"markups": [{"coordinateUnits": true, "controlPoints": []}]}', "is in True, not in mm"),
        ('{"markups": [{"coordinateSystem": ["LPS"], "controlPoints": [{"position": [1, 2, 3]}]}]}',
         "is neither RAS nor LPS"),
        (NODE % '{"label": "a"}', "'a' is not 3 numbers"),
        (NODE % '{"label": "a", "position": {"x": 1}}', "'a' is not 3 numbers"),
        (NODE % '{"label": "a", "position": [1, 2, true]}', "'a' is not 3 numbers"),
        (NODE % ('{"label": "a", "position": [1, 2, %s]}' % ("9" * 400)), "'a' is not 3 numbers"),
        (NODE % ('{"label": "a", "position": [1, 2, %s]}' % ("9" * 5000)), "is not a point list"),
        (NODE % '{"label": "a", "position": [1, 2, 1e200]}', "'a' is not 3 numbers below 1e9"),
        (NODE % '{"label": "a", "position": [1, 2, NaN]}', "'a' is not 3 numbers"),
        (NODE % '{"label": [[1]], "position": [1, 2]}', r"'\[\[1\]\]' is not 3 numbers"),
    ],
)  # fmt: skip
def test_json_of_other_types_is_rejected(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.mrk.json").write_text(text)
    with pytest.raises(InputError, match=message) as raised:
        read_points(tmp_path / "a.mrk.json")
    assert len(str(raised.value)) < 500


def test_labels_can_be_written_again(tmp_path: Path) -> None:
    (tmp_path / "a.mrk.json").write_text(NODE % '{"label": "a\\ud800", "position": [1, 2, 3]}')
    points, table = read_points(tmp_path / "a.mrk.json")
    assert table.names == ("a?",)
    write_points(tmp_path / "b.csv", points, table)
    assert read_points(tmp_path / "b.csv")[1].names == ("a?",)
