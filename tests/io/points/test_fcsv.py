""".fcsv of 3D Slicer, written for real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stn3d.errors import InputError
from stn3d.io import read_geometry, write_geometry
from tests.io.points.cases import by_itk, deformable, point_map

HEAD = "# Markups fiducial file version = 4.11\n# CoordinateSystem = {}\n"
HEAD += "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
ROWS = '1,10,20,30,0,0,0,1,1,0,1,F-1,"a, b",node,2,0\n2,-5,6,7,0.7071,0.7071,0,0,1,1,0,F-2,,,2,0\n'


@pytest.mark.parametrize(("system", "signs"), [("LPS", [-1, -1, 1]), ("0", [1, 1, 1])])
def test_everything_but_the_coordinates_is_kept(
    tmp_path: Path, system: str, signs: list[int]
) -> None:
    (tmp_path / "a.fcsv").write_text(HEAD.format(system) + ROWS)
    geometry = read_geometry(tmp_path / "a.fcsv")
    points = np.array([[10.0, 20, 30], [-5, 6, 7]])
    np.testing.assert_array_equal(geometry.sample(9), points * signs)
    mapped = geometry.mapped(point_map())
    assert mapped.notes == ("orientations of 1 points are reset",)
    write_geometry(tmp_path / "b.fcsv", mapped)
    lines = (tmp_path / "b.fcsv").read_text().splitlines()
    assert "\n".join(lines[:3]) + "\n" == HEAD.format(system)
    expected = by_itk(deformable(), points * signs, tmp_path) * signs
    cells = [line.split(",") for line in lines[3:]]
    np.testing.assert_allclose([[float(x) for x in c[1:4]] for c in cells], expected, atol=2e-5)
    assert lines[3].endswith(',0,0,0,1,1,0,1,F-1,"a, b",node,2,0')
    assert lines[4].endswith(",0,0,0,1,1,1,0,F-2,,,2,0")


def test_conversions_keep_labels_and_descriptions(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("name,x,y,z,desc\nleft,1,2,3,first\nright,4,5,6,\n")
    expected = np.array([[1.0, 2, 3], [4, 5, 6]])
    source = tmp_path / "a.csv"
    for name in ("b.fcsv", "c.mrk.json", "d.fcsv", "e.tsv", "f.mrk.json"):
        write_geometry(tmp_path / name, read_geometry(source))
        source = tmp_path / name
        geometry = read_geometry(source)
        np.testing.assert_array_equal(geometry.sample(9), expected)
        assert geometry.table.names == ("left", "right")  # type: ignore[attr-defined]
        assert geometry.table.column("description") == ("first", "")  # type: ignore[attr-defined]
    assert "# CoordinateSystem = LPS\n" in (tmp_path / "b.fcsv").read_text()
    assert (tmp_path / "e.tsv").read_text().startswith("x\ty\tz\tlabel\tdescription\n1.000000\t2.0")


def test_2d_points_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    for name in ("b.fcsv", "b.mrk.json"):
        with pytest.raises(InputError, match="holds 2D points"):
            write_geometry(tmp_path / name, read_geometry(tmp_path / "a.csv"))
        assert not (tmp_path / name).exists()
