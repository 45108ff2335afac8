"""Wavefront OBJ: everything but coordinates and normals stays as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stn3d.errors import InputError
from stn3d.io import read_geometry, write_geometry
from tests.io.points.cases import affine, by_itk, deformable, point_map

TEXT = """# made by hand
mtllib heart.mtl
v 1 2 3 0.5 0.25 1
v 11 2 3
v 1 12 3
v 1 2 13
vt 0.5 0.5
vn 0 0 -1
g base
usemtl red
f 3/1/1 2/1/1 1/1/1
f 1 2 -1
l 1 4
"""


def test_only_coordinates_change(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text(TEXT)
    geometry = read_geometry(tmp_path / "a.obj")
    assert "does not state its coordinate system" in geometry.notes[0]
    vertices = np.array([[1.0, 2, 3], [11, 2, 3], [1, 12, 3], [1, 2, 13]])
    np.testing.assert_array_equal(geometry.sample(9), vertices)
    np.testing.assert_array_equal(geometry.triangles, [[2, 1, 0], [0, 1, 3]])  # type: ignore[attr-defined]
    write_geometry(tmp_path / "b.obj", geometry.mapped(point_map()))
    lines = (tmp_path / "b.obj").read_text().splitlines()
    assert lines.pop(0) == "# SPACE=RAS"
    old = TEXT.splitlines()
    assert [a for a in lines if a[:2] not in ("v ", "vn")] == [
        a for a in old if a[:2] not in ("v ", "vn")
    ]
    moved = [line.split() for line in lines if line.startswith("v ")]
    expected = by_itk(deformable(), vertices, tmp_path)
    np.testing.assert_allclose(np.array([m[1:4] for m in moved], float), expected, atol=2e-5)
    assert moved[0][4:] == ["0.5", "0.25", "1"]
    normal = np.array(next(line.split()[1:] for line in lines if line.startswith("vn")), float)
    a, b, c = expected[2], expected[1], expected[0]
    flat = np.cross(b - a, c - a)
    assert normal @ flat / np.linalg.norm(flat) > 0.95
    assert np.linalg.norm(normal) == pytest.approx(1, abs=1e-5)


def test_lps_and_mirrored(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text(TEXT.replace("made by hand", "3D Slicer output. SPACE=LPS"))
    geometry = read_geometry(tmp_path / "a.obj")
    assert geometry.notes == ()
    np.testing.assert_array_equal(geometry.sample(9)[0], [-1, -2, 3])
    write_geometry(tmp_path / "b.obj", geometry.mapped(point_map(affine(mirrored=True))))
    lines = (tmp_path / "b.obj").read_text().splitlines()
    assert "f 1/1/1 2/1/1 3/1/1" in lines
    assert lines[0] == "# 3D Slicer output. SPACE=LPS"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v 1 2\n", "line 1: v 1 2 has not 3 coordinates"),
        ("v 1 2 nan\n", "has not 3 coordinates"),
        ("v 1 2 3\nf 1 2 x\n", "line 2: f 1 2 x is not a face"),
        ("v 1 2 3\nf 1 2 3\n", "a triangle has vertex 2, but there are 1 vertices"),
        ("v 1 2 3\nf 1 2 " + "9" * 30, "a triangle has a vertex that does not exist"),
        ("", "holds no points"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.obj").write_text(text)
    with pytest.raises(InputError, match=message):
        read_geometry(tmp_path / "a.obj")
