"""MetaImage files (.mha, .mhd), read as ITK does, in Python.

Convention: a file stores positions in LPS; the rows of its TransformMatrix are the directions of
the axes. Fields that ITK does not apply (ElementToIntensityFunctionSlope, AnatomicalOrientation)
are not applied here either.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from stn3d.errors import InputError
from stn3d.io.geometry import Matrix, matrix_from_itk
from stn3d.io.payload import Payload, data_file, header_text, numbered_files

SUFFIXES = (".mha", ".mhd")
_DTYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_MAX_AXES = 10
_DATA = "ElementDataFile"
_T = TypeVar("_T")


@dataclass(frozen=True)
class Header:
    """What a text header says about an image.

    Args:
        payload: the voxels; with several components, these are the first axis.
        components: numbers per voxel.
        matrix: ``(d + 1, d + 1)`` RAS matrix of the first d axes, at most 3.
    """

    payload: Payload
    components: int
    matrix: Matrix


def read_header(path: Path) -> Header:
    """Read the header of a MetaImage file.

    Raises:
        InputError: the header is incomplete or invalid, or names a data file elsewhere.
    """
    with open(path, "rb") as file:
        lines = header_text(file, path, last=_DATA)
        offset = file.tell()
        more = header_text(file, path, last=None) if lines[-1:] and _is_list(lines[-1]) else []
    fields = _Fields(path, dict(_key_and_value(line) for line in lines))
    axes = fields.numbers("NDims", int, 1)[0]
    if not 1 <= axes <= _MAX_AXES:
        raise fields.error("NDims")
    sizes = fields.numbers("DimSize", int, axes)
    components = fields.numbers("ElementNumberOfChannels", int, 1, "1")[0]
    if min(sizes) < 1 or not 1 <= components < 1 << 16 or math.prod(sizes) * components >= 1 << 60:
        raise fields.error("DimSize")
    payload = _payload(fields, sizes, components, offset, more)
    return Header(payload, components, _matrix(fields, axes))


class _Fields:
    """Fields of a header and the messages about them."""

    def __init__(self, path: Path, values: dict[str, str]) -> None:
        self.path, self.values = path, values

    def error(self, name: str) -> InputError:
        value = self.values.get(name)
        what = f"no field {name}" if value is None else f"an invalid field {name} = {value[:60]!r}"
        return InputError(
            f"{self.path} cannot be read as an image: it has {what}; check that it is complete, "
            "or correct its header."
        )

    def first(self, *names: str) -> str:
        """The first of several fields that is present, or the last name."""
        return next((name for name in names if name in self.values), names[-1])

    def flag(self, *names: str) -> bool:
        return self.values.get(self.first(*names), "").lower() in ("true", "1", "t", "yes")

    def numbers(
        self, name: str, kind: Callable[[str], _T], count: int, default: str | None = None
    ) -> list[_T]:
        """The numbers of a field."""
        value = self.values.get(name, default)
        words = (value or "").split()
        try:
            numbers = [kind(word) for word in words[:count]]
            if len(numbers) < count or not all(math.isfinite(n) for n in numbers):  # type: ignore[arg-type]
                raise ValueError
        except (ValueError, OverflowError) as error:
            raise self.error(name) from error
        return numbers


def _key_and_value(line: str) -> tuple[str, str]:
    key, _, value = line.partition("=")
    return key.strip(), value.strip()


def _is_list(line: str) -> bool:
    return _key_and_value(line)[1].upper().startswith("LIST")


def _payload(
    fields: _Fields, sizes: list[int], components: int, offset: int, more: list[str]
) -> Payload:
    """Where the voxels are; ``offset`` is the length of the header, ``more`` follows it."""
    kind = fields.values.get("ElementType", "").removesuffix("_ARRAY")
    if kind not in _DTYPES:
        raise fields.error("ElementType")
    order = ">" if fields.flag("BinaryDataByteOrderMSB", "ElementByteOrderMSB") else "<"
    dtype = np.dtype(order + _DTYPES[kind])
    shape = (components, *sizes) if components > 1 else tuple(sizes)
    text = not fields.flag("BinaryData") and "BinaryData" in fields.values
    packed = fields.flag("CompressedData") and not text
    encoding: Any = "text" if text else "deflate" if packed else "raw"
    where = fields.values.get(_DATA, "")
    if where.upper() == "LOCAL":
        return Payload((fields.path,), dtype, shape, encoding, start=offset)
    names = [line.strip() for line in more] if _is_list(f"{_DATA}={where}") else [where]
    if len(names) == 1 and len(words := where.split()) > 2 and "%" in words[0]:
        names = numbered_files(fields.path, words)
    if not where or not names:
        raise fields.error(_DATA)
    files = tuple(data_file(fields.path, name) for name in names)
    skip = fields.numbers("HeaderSize", int, 1, "0")[0]
    return Payload(files, dtype, shape, encoding, start=max(-1, skip))


def _matrix(fields: _Fields, axes: int) -> Matrix:
    """RAS matrix of the first three axes."""
    d = min(3, axes)
    identity = " ".join(str(float(i == j)) for i in range(axes) for j in range(axes))
    name = fields.first("TransformMatrix", "Rotation", "Orientation")
    rows = np.reshape(fields.numbers(name, float, axes * axes, identity), (axes, axes))
    name = fields.first("Offset", "Position", "Origin")
    origin = fields.numbers(name, float, axes, "0 " * axes)
    name = fields.first("ElementSpacing", "ElementSize")
    spacing = fields.numbers(name, float, axes, "1 " * axes)
    if not all(size > 0 for size in spacing[:d]):
        raise fields.error(name)
    return matrix_from_itk(origin[:d], spacing[:d], rows.T[:d, :d])
