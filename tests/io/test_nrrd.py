"""NRRD files against SimpleITK: spaces, encodings, separate data files, damage."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from stn3d.errors import InputError
from stn3d.io import read_image
from stn3d.io.sources import open_source
from tests.io.itk_agreement import TYPES, assert_same_as_itk, oblique_image

HEADER = {
    "type": "short",
    "dimension": "3",
    "sizes": "4 3 2",
    "endian": "little",
    "encoding": "raw",
}
SPACE = {
    "space": "left-posterior-superior",
    "space directions": "(0,2,0) (-3,0,0) (0,0,4)",
    "space origin": "(1,2,3)",
}
NUMBERS = np.arange(24, dtype="<i2")


def nrrd(path: Path, data: bytes = NUMBERS.tobytes(), **changes: str) -> Path:
    fields = {**HEADER, **{key.replace("_", " "): value for key, value in changes.items()}}
    lines = ["NRRD0005", "# a comment", "key:=value", *(f"{k}: {v}" for k, v in fields.items())]
    path.write_bytes("\n".join([*lines, "\n"]).encode() + data)
    return path


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("d", [2, 3, 4])
def test_files_of_simpleitk(tmp_path: Path, suffix: str, compressed: bool, d: int) -> None:
    for dtype in TYPES:
        path = tmp_path / f"a{suffix}"
        sitk.WriteImage(oblique_image(d, dtype), str(path), useCompression=compressed)
        assert_same_as_itk(path)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        SPACE,
        {**SPACE, "space": "right-anterior-superior"},
        {**SPACE, "space": "RAS"},
        {**SPACE, "space": "left-anterior-superior"},
        {**SPACE, "space": "scanner-xyz"},
        {"space dimension": "3", **{key: SPACE[key] for key in list(SPACE)[1:]}},
        {**SPACE, "kinds": "domain domain domain", "centerings": "cell cell cell"},
        {"spacings": "2 3 4"},
        {"spacings": "2 nan 4"},
        {"spacings": "2 3 4", "axis mins": "5 6 7", "centerings": "cell cell cell"},
        {"spacings": "2 3 4", "axis mins": "5 6 7", "centerings": "node node node"},
        {"spacings": "2 3 4", "axis mins": "5 6 7"},
        {"endian": "big"},
        {"type": "int16"},
    ],
)
def test_fields(tmp_path: Path, changes: dict[str, str]) -> None:
    assert_same_as_itk(nrrd(tmp_path / "a.nrrd", **changes))


@pytest.mark.parametrize("skip", [0, 5])
def test_encodings(tmp_path: Path, skip: int) -> None:
    raw = bytes(skip) + NUMBERS.tobytes()
    skipping = {"byte skip": str(skip)} if skip else {}
    for data, changes in (
        (raw, {}),
        (gzip.compress(raw), {"encoding": "gzip"}),
        (gzip.compress(raw[:9]) + gzip.compress(raw[9:]), {"encoding": "gz"}),
        (bz2.compress(raw), {"encoding": "bzip2"}),
        (b"line\n" + raw, {"line skip": "1"}),
    ):
        path = nrrd(tmp_path / "a.nrrd", data, **skipping, **changes)
        np.testing.assert_array_equal(open_source(path, "image").array.ravel(order="F"), NUMBERS)
    for data, encoding in (
        (" ".join(map(str, NUMBERS)).encode(), "ascii"),
        (NUMBERS.tobytes().hex().encode(), "hex"),
    ):
        path = nrrd(tmp_path / "a.nrrd", data, encoding=encoding)
        np.testing.assert_array_equal(open_source(path, "image").array.ravel(order="F"), NUMBERS)


def test_separate_data_files(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(b"header" + NUMBERS.tobytes())
    for number in (1, 2):
        part = NUMBERS[12 * (number - 1) : 12 * number]
        (tmp_path / f"s{number}.raw").write_bytes(part.tobytes())
    assert_same_as_itk(nrrd(tmp_path / "a.nhdr", b"", data_file="a.raw", byte_skip="6"))
    assert_same_as_itk(nrrd(tmp_path / "a.nhdr", b"", datafile="a.raw", byteskip="-1"))
    assert_same_as_itk(nrrd(tmp_path / "a.nhdr", b"", data_file="s%d.raw 1 2 1"))
    text = nrrd(tmp_path / "a.nhdr", b"", data_file="LIST").read_text().rstrip("\n")
    (tmp_path / "a.nhdr").write_text(f"{text}\ns1.raw\ns2.raw\n")
    assert_same_as_itk(tmp_path / "a.nhdr")


def test_axes_of_lists_are_volumes_and_others_components(tmp_path: Path) -> None:
    numbers = np.arange(48, dtype="<i2").tobytes()
    directions = "none (2,0,0) (0,3,0) (0,0,4)"
    space = {**SPACE, "dimension": "4", "sizes": "2 4 3 2", "space directions": directions}
    path = nrrd(tmp_path / "a.nrrd", numbers, **space, kinds="list space space space")
    image = read_image(path, volume=1)
    assert image.grid.shape == (4, 3, 2)
    assert image.grid.spacing_mm == (2, 3, 4)
    assert image.values[0, 0, :, 0, 0].tolist() == [1, 3, 5, 7]
    path = nrrd(tmp_path / "b.nrrd", numbers, **space, kinds="vector space space space")
    with pytest.raises(InputError, match="vectors that are no colours"):
        read_image(path)


def test_a_slice_in_space(tmp_path: Path) -> None:
    space = {**SPACE, "dimension": "2", "sizes": "6 4", "space directions": "(0,2,0) (-3,0,0)"}
    stored = open_source(nrrd(tmp_path / "a.nrrd", **space), "image")
    assert stored.shape == (6, 4)
    expected = [[0, 3, 0, -1], [-2, 0, 0, -2], [0, 0, 1, 3], [0, 0, 0, 1]]
    np.testing.assert_allclose(stored.affine, expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": "block"}, r"an invalid field 'type' \('block'\)"),
        ({"dimension": "-1"}, "an invalid field 'dimension'"),
        ({"sizes": "4 3"}, "an invalid field 'sizes'"),
        ({"sizes": f"4 3 {10**30}"}, "an invalid field 'sizes'"),
        ({"sizes": "40000 40000 40000"}, "is truncated, or its header is damaged"),
        ({"encoding": "zrl"}, "an invalid field 'encoding'"),
        ({"endian": ""}, "an invalid field 'endian'"),
        ({"spacings": "1 -2 1"}, "an invalid field 'spacings'"),
        ({**SPACE, "space_directions": "(1,0,0) (0,1,0)"}, "an invalid field 'space directions'"),
        ({**SPACE, "space_directions": "(1,0) (0,1) (1,1)"}, "an invalid field 'space directions'"),
        ({**SPACE, "space_directions": "(1,0,x) none none"}, "an invalid field 'space directions'"),
        ({**SPACE, "space_origin": "(1,inf,0)"}, "an invalid field 'space origin'"),
        ({"data_file": "../a.raw"}, "does not lie beside it or below"),
        ({"byte_skip": "-7"}, "an invalid field 'byte skip'"),
        ({"encoding": "gzip"}, "is truncated or damaged"),
        ({"encoding": "hex"}, "is truncated or damaged"),
    ],
)
def test_damaged_headers(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    path = nrrd(tmp_path / "a.nrrd", **changes)
    (tmp_path / "a.raw").write_bytes(NUMBERS.tobytes())
    with pytest.raises(InputError, match=message):
        read_image(path)


def test_long_header_lines(tmp_path: Path) -> None:
    """They crash SimpleITK's reader."""
    path = nrrd(tmp_path / "a.nrrd", content="x" * 100_000)
    assert read_image(path).grid.shape == (4, 3, 2)
    (tmp_path / "b.nrrd").write_bytes(b"NRRD0004\n" + b"x" * (3 << 20))
    with pytest.raises(InputError, match="a header of over 1 MB"):
        read_image(tmp_path / "b.nrrd")
