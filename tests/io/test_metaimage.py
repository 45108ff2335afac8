"""MetaImage files against SimpleITK: headers of every kind, separate data files, damage."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from stn3d.errors import InputError
from stn3d.io.sources import open_source
from tests.io.itk_agreement import TYPES, assert_same_as_itk, oblique_image

HEADER = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "DimSize": "4 3 2",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "LOCAL",
}
NUMBERS = np.arange(24, dtype="<i2")


def meta(path: Path, data: bytes = NUMBERS.tobytes(), **changes: str) -> Path:
    fields = {**HEADER, **changes}
    last = fields.pop("ElementDataFile")
    lines = [f"{key} = {value}" for key, value in fields.items()]
    text = "\n".join([*lines, f"ElementDataFile = {last}\n"])
    path.write_bytes(text.encode() + data)
    return path


@pytest.mark.parametrize("suffix", [".mha", ".mhd"])
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
        {"ElementSpacing": "2 3 4", "Offset": "1 2 3"},
        {"ElementSize": "2 3 4", "Position": "1 2 3"},
        {"ElementSpacing": "1 1 1", "ElementSize": "2 3 4", "Origin": "1 2 3"},
        {"TransformMatrix": "0 1 0 0 0 1 1 0 0", "AnatomicalOrientation": "RAI"},
        {"Rotation": "0 1 0 -1 0 0 0 0 1"},
        {"Orientation": "0 1 0 -1 0 0 0 0 1"},
        {"BinaryDataByteOrderMSB": "True"},
        {"ElementByteOrderMSB": "True", "BinaryDataByteOrderMSB": "True"},
        {"ElementToIntensityFunctionSlope": "3", "ElementToIntensityFunctionOffset": "5"},
        {"DistanceUnits": "um"},
        {"DimSize": "4 3 2 9", "NDims": "3"},
    ],
)
def test_fields(tmp_path: Path, changes: dict[str, str]) -> None:
    assert_same_as_itk(meta(tmp_path / "a.mha", **changes))


def test_compressed_without_its_length_and_text(tmp_path: Path) -> None:
    packed = zlib.compress(NUMBERS.tobytes())
    for data, changes in (
        (packed, {"CompressedData": "True"}),
        (" ".join(map(str, NUMBERS)).encode(), {"BinaryData": "False"}),
    ):
        path = meta(tmp_path / "a.mha", data, **changes)
        stored = open_source(path, "image")
        np.testing.assert_array_equal(stored.array.ravel(order="F"), NUMBERS)


def test_separate_data_files(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.raw").write_bytes(b"header" + NUMBERS.tobytes())
    for number in (1, 2):
        part = NUMBERS[12 * (number - 1) : 12 * number]
        (tmp_path / f"s{number:02d}.raw").write_bytes(part.tobytes())
    absolute = str(tmp_path / "below" / "a.raw")
    for name, header_size in (("below/a.raw", "6"), ("below/a.raw", "-1"), (absolute, "-1")):
        path = meta(tmp_path / "a.mhd", b"", ElementDataFile=name, HeaderSize=header_size)
        assert_same_as_itk(path)
    assert_same_as_itk(meta(tmp_path / "a.mhd", b"", ElementDataFile="s%02d.raw 1 2 1"))
    assert_same_as_itk(meta(tmp_path / "a.mhd", b"s01.raw\ns02.raw\n", ElementDataFile="LIST"))


@pytest.mark.parametrize("name", ["../a.raw", "/etc/hostname", "x/../../a.raw", "", "a\0b"])
def test_data_files_elsewhere_are_rejected(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.raw").write_bytes(NUMBERS.tobytes())
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(InputError, match=r"does not lie beside it or below|invalid field"):
        open_source(meta(folder / "a.mhd", b"", ElementDataFile=name), "image")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"NDims": "x"}, "an invalid field NDims = 'x'"),
        ({"NDims": "99"}, "an invalid field NDims"),
        ({"DimSize": "4 3"}, "an invalid field DimSize = '4 3'"),
        ({"DimSize": "4 0 2"}, "an invalid field DimSize"),
        ({"DimSize": f"4 3 {10**40}"}, "an invalid field DimSize"),
        ({"DimSize": "40000 40000 40000"}, "is truncated, or its header is damaged"),
        ({"ElementSpacing": "1 nan 1"}, "an invalid field ElementSpacing"),
        ({"ElementSpacing": "1 -1 1"}, "an invalid field ElementSpacing"),
        ({"ElementType": "MET_STRING"}, "an invalid field ElementType"),
        ({"ElementDataFile": "no.raw"}, "names the data file 'no.raw', which does not exist"),
        ({"ElementDataFile": "s%99999999999d.raw 1 2"}, "the data files .* cannot be understood"),
        ({"ElementDataFile": "x" * 300}, "which does not exist"),
        ({"ElementNumberOfChannels": "3", "DimSize": "2 2 2"}, "vectors that are no colours"),
        ({"CompressedData": "True"}, "is truncated or damaged"),
        ({"BinaryData": "False"}, "is truncated or damaged"),
    ],
)
def test_damaged_headers(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_source(meta(tmp_path / "a.mha", **changes), "image")


def test_header_without_an_end(tmp_path: Path) -> None:
    (tmp_path / "a.mha").write_bytes(b"NDims = " + b"3" * (3 << 20))
    with pytest.raises(InputError, match="a header of over 1 MB"):
        open_source(tmp_path / "a.mha", "image")
    os.truncate(tmp_path / "a.mha", 5)
    with pytest.raises(InputError, match=r"it has (an invalid|no) field NDims"):
        open_source(tmp_path / "a.mha", "image")
