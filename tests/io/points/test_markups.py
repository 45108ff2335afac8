"""Markup files of 3D Slicer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stn3d.errors import InputError
from stn3d.io import read_geometry, read_points, write_geometry, write_points
from tests.io.points.cases import affine, by_itk, point_map


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


def markup(kind: str, system: str, **more: Any) -> dict[str, Any]:
    positions = [[10.0, 20, 30], [-5, 6, 7], [1, -2, 3]]
    points = [
        {"id": str(n), "label": f"F-{n}", "position": p, "orientation": list(AXES), "locked": True}
        for n, p in enumerate(positions)
    ]
    return {
        "type": kind,
        "coordinateSystem": system,
        "coordinateUnits": "mm",
        "controlPoints": points,
        "display": {"color": [1, 0, 0]},
        "measurements": [{"name": "length", "enabled": True, "value": 12.5, "units": "mm"}],
        **more,
    }


AXES = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)  # of RAS, as 3D Slicer states them in LPS


@pytest.mark.parametrize("system", ["LPS", "RAS"])
def test_all_kinds_are_mapped_and_everything_else_is_kept(tmp_path: Path, system: str) -> None:
    signs = np.array([-1.0, -1, 1]) if system == "LPS" else np.ones(3)
    kinds = [markup(k, system) for k in ("Fiducial", "Line", "Angle", "Curve", "ClosedCurve")]
    kinds.append(markup("Plane", system, center=[1.0, 2, 3], normal=[0.0, 0, 1],
                        baseToNode=[1.0, 0, 0, 1, 0, 1, 0, 2, 0, 0, 1, 3, 0, 0, 0, 1]))  # fmt: skip
    kinds.append(
        markup("ROI", system, center=[4.0, 5, 6], orientation=list(AXES), size=[10.0, 20, 30])
    )
    (tmp_path / "a.mrk.json").write_text(json.dumps({"@schema": "markups", "markups": kinds}))
    geometry = read_geometry(tmp_path / "a.mrk.json").mapped(point_map(affine()))
    assert any("values of measurements are removed" in note for note in geometry.notes)
    assert any("a ROI keeps its shape" in note for note in geometry.notes)
    write_geometry(tmp_path / "b.mrk.json", geometry)
    found = json.loads((tmp_path / "b.mrk.json").read_text())
    assert found["@schema"] == "markups"
    matrix = affine().matrix.numpy()
    for old, new in zip(kinds, found["markups"], strict=True):
        assert new["display"] == old["display"]
        assert new["measurements"] == [{"name": "length", "enabled": True, "units": "mm"}]
        places = np.array([p["position"] for p in old["controlPoints"]]) * signs
        moved = np.array([p["position"] for p in new["controlPoints"]]) * signs
        np.testing.assert_allclose(moved, by_itk(affine(), places, tmp_path), atol=1e-9)
        assert [p["label"] for p in new["controlPoints"]] == ["F-0", "F-1", "F-2"]
        assert all(p["locked"] for p in new["controlPoints"])
    rotation = polar(matrix[:3, :3])
    flip = np.diag(signs)
    plane, roi = found["markups"][-2:]
    centre = by_itk(affine(), np.array([[1.0, 2, 3]]) * signs, tmp_path)[0]
    np.testing.assert_allclose(np.array(plane["center"]) * signs, centre, atol=1e-9)
    normal = np.linalg.inv(matrix[:3, :3]).T @ (np.array([0, 0, 1]) * signs)
    np.testing.assert_allclose(np.array(plane["normal"]) * signs, normal / np.linalg.norm(normal))
    frame = np.reshape(plane["baseToNode"], (4, 4))
    np.testing.assert_allclose(frame[:3, 3] * signs, centre, atol=1e-9)
    np.testing.assert_allclose(frame[:3, :3], flip @ rotation @ flip, atol=1e-9)
    axes = np.reshape(AXES, (3, 3))
    np.testing.assert_allclose(
        np.reshape(roi["orientation"], (3, 3)), flip @ rotation @ flip @ axes, atol=1e-9
    )
    sizes = np.array([10, 20, 30]) * np.linalg.norm(matrix[:3, :3], axis=0)
    np.testing.assert_allclose(roi["size"], sizes, rtol=1e-9)


def polar(matrix: Any) -> Any:
    """Rotation nearest to a matrix, by Newton's iteration for the polar decomposition."""
    rotation = matrix.copy()
    for _ in range(50):
        rotation = (rotation + np.linalg.inv(rotation).T) / 2
    return rotation
