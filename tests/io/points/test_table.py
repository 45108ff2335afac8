"""Points as CSV: further columns, errors with line numbers, matching of landmarks."""

from __future__ import annotations

import math
import os
import threading
import time
from pathlib import Path

import pytest
import torch

from stn3d.errors import InputError
from stn3d.io import read_geometry, read_landmarks, read_points, write_geometry, write_points
from tests.helpers.landmark_cases import some_points, write_landmarks
from tests.io.points.cases import sphere
from tests.io.points.test_gifti import gifti
from tests.io.points.test_streamlines import lines, tck


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_points_and_further_columns_are_kept(tmp_path: Path) -> None:
    text = 'x,y,z,name,weight\n1,-2.5,3e1,"left, upper",0.5\n0.125,0,-7,b,\n'
    points, table = read_points(write(tmp_path / "a.csv", text))
    assert points.dtype == torch.float64
    assert points.tolist() == [[1, -2.5, 30], [0.125, 0, -7]]
    assert table.header == ("x", "y", "z", "name", "weight")
    assert table.others == (("left, upper", "0.5"), ("b", ""))
    write_points(tmp_path / "b.csv", points + 1, table)
    assert (tmp_path / "b.csv").read_text(encoding="utf-8") == (
        'x,y,z,name,weight\n2.000000,-1.500000,31.000000,"left, upper",0.5\n'
        "1.125000,1.000000,-6.000000,b,\n"
    )
    again, kept = read_points(tmp_path / "b.csv")
    assert torch.equal(again, points + 1)
    assert kept == table


def test_2d_points_and_headers_of_other_programs(tmp_path: Path) -> None:
    points, table = read_points(write(tmp_path / "a.csv", "\ufeffX_mm, Y_mm ,id\r\n1,2,7\r\n\r\n"))
    assert points.tolist() == [[1, 2]]
    assert table.others == (("7",),)


def test_points_without_a_table(tmp_path: Path) -> None:
    for d in (2, 3):
        points = torch.randn(5, d, generator=torch.Generator().manual_seed(d)).double()
        write_points(tmp_path / "a.csv", points)
        assert torch.allclose(read_points(tmp_path / "a.csv")[0], points, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y,z\n1,2,3\n1,two,3\n", r"a\.csv, line 3: 1,two,3 is not 3 numbers"),
        ("x,y,z\n1,2,nan\n", "line 2: 1,2,nan is not 3 numbers"),
        ("x,y,z\n\n1,2\n", "line 3: 2 columns, but the header has 3"),
        ("x,y\n1,2,3\n", "line 2: 3 columns, but the header has 2"),
        ("1,2,3\n4,5,6\n", r"line 1: the header must name the columns x,y,z .* it is 1,2,3"),
        ("x;y;z\n1;2;3\n", "separated by commas; it is x;y;z"),
        ("x,y,z\n", "holds no points"),
        ("", "it is empty"),
    ],
)
def test_errors_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_points(write(tmp_path / "a.csv", text))


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no point file"):
        read_points(tmp_path / "missing.csv")
    with pytest.raises(InputError, match=r"cannot read the point file .*directory"):
        read_points(tmp_path)
    (tmp_path / "a.csv").write_bytes(b"\x89\xff\xfe\x00x,y")
    with pytest.raises(InputError, match="is not a text file"):
        read_points(tmp_path / "a.csv")


def test_a_table_of_a_different_length(tmp_path: Path) -> None:
    _, table = read_points(write(tmp_path / "a.csv", "x,y\n1,2\n"))
    with pytest.raises(ValueError, match="the table has 1 rows for 2 points"):
        write_points(tmp_path / "b.csv", torch.zeros(2, 2), table)
    assert not (tmp_path / "b.csv").exists()


def test_rows_are_matched_by_name(tmp_path: Path) -> None:
    points = some_points(3, 4).round()
    first = write_landmarks(tmp_path / "a.csv", points, ["a", "b", "c", "d"])
    second = write_landmarks(tmp_path / "b.csv", points.flip(0), ["d", "c", "b", "a"])
    pairs = read_landmarks(first, second)
    assert pairs.names == ("a", "b", "c", "d")
    assert torch.equal(pairs.fixed_mm, pairs.moving_mm)
    unnamed = write_landmarks(tmp_path / "c.csv", points + 1)
    assert torch.equal(read_landmarks(first, unnamed).moving_mm, points + 1)
    assert read_landmarks(unnamed, unnamed).names == ("1", "2", "3", "4")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y,z,name\n1,2,3," + "a" * 140_000 + "\n", "line 2: field larger than field limit"),
        ('x,y,z,name\n1,2,3,"' + "a,\n" * 70_000, "field larger than field limit"),
        ("x,y,z\n1,2,1e200\n", "line 2: 1,2,1e200 is not 3 numbers below 1e9"),
        ("x,y,z\n1,2,1e9\n", "is not 3 numbers below 1e9"),
        ("x,y,z\n1,2,1_0\n", "is not 3 numbers"),
        ("x,y,z\n1,2," + "9" * 5000 + "\n", "is not 3 numbers"),
        ("x,y,z\n" + "1" * 100_000 + "\n", "line 2: 1 columns"),
        ("a" * 100_000, "it is a"),
        ("x,y,z\n1,2," + "b" * 100_000, "is not 3 numbers"),
    ],
)
def test_absurd_tables_are_one_short_sentence(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=message) as raised:
        read_points(tmp_path / "a.csv")
    assert len(str(raised.value)) < 500


def test_points_that_a_transform_sends_to_infinity_are_not_written(tmp_path: Path) -> None:
    points = torch.tensor([[1.0, 2, 3], [4, math.inf, 6]]).double()
    with pytest.raises(InputError, match="point 2 of 2 is NaN or Inf after the transform"):
        write_points(tmp_path / "a.csv", points)
    assert list(tmp_path.iterdir()) == []


def test_twenty_thousand_named_landmarks_are_matched_in_a_second(tmp_path: Path) -> None:
    rows = [f"{n},{n % 7},{n % 11},p{n}" for n in range(20_000)]
    (tmp_path / "a.csv").write_text("\n".join(["x,y,z,name", *rows]))
    (tmp_path / "b.csv").write_text("\n".join(["x,y,z,name", *rows[::-1]]))
    begin = time.process_time()
    found = read_landmarks(tmp_path / "a.csv", tmp_path / "b.csv")
    assert time.process_time() - begin < 3  # 0.1 s; comparing all with all took 20 s
    assert torch.equal(found.fixed_mm, found.moving_mm)


def test_columns_in_any_place_and_stated_systems(tmp_path: Path) -> None:
    text = "label\tl\tp\ts\tdefined\nF-1\t10\t20\t30\t1\n"  # as 3D Slicer exports tables
    points, table = read_points(write(tmp_path / "a.tsv", text))
    assert points.tolist() == [[-10, -20, 30]]
    assert table.names == ("F-1",)
    write_points(tmp_path / "b.tsv", points, table)
    expected = "label\tl\tp\ts\tdefined\nF-1\t10.000000\t20.000000\t30.000000\t1\n"
    assert (tmp_path / "b.tsv").read_text() == expected
    geometry = read_geometry(write(tmp_path / "c.csv", "name,x,y,z\na,1,2,3\n"), "lps")
    assert geometry.sample(9).tolist() == [[-1, -2, 3]]
    write_geometry(tmp_path / "d.csv", geometry)
    assert (tmp_path / "d.csv").read_text() == "name,x,y,z\na,1.000000,2.000000,3.000000\n"


def test_landmarks_of_all_formats(tmp_path: Path) -> None:
    vertices = sphere()[0]
    surface = gifti(tmp_path / "a.surf.gii")
    write_points(tmp_path / "a.tsv", torch.from_numpy(vertices + 1))
    found = read_landmarks(surface, tmp_path / "a.tsv")
    assert (found.moving_mm - found.fixed_mm - 1).abs().max() < 1e-5
    with pytest.raises(InputError, match=r"a\.tck holds streamlines, not single points"):
        read_points(tck(tmp_path / "a.tck", lines()))


def test_points_from_a_pipe_are_read_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("x,y,z\n1,2,3\n",))
    writer.start()
    points_mm, _ = read_points(pipe)
    writer.join()
    assert points_mm.tolist() == [[1.0, 2.0, 3.0]]
