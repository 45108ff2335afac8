"""NRRD files (.nrrd, .nhdr), read in Python; geometry as in ITK.

Spatial axes are those with a space direction, or without directions those of kind domain. Axes of
kind list or time are volumes, all others components of a vector. Spaces other than RAS and LAS are
taken as LPS, as in ITK. The definition of the format: https://teem.sourceforge.net/nrrd/format.html
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from stn3d.errors import InputError
from stn3d.io.geometry import Matrix, lps_flip, plane_in_space
from stn3d.io.payload import Payload, data_file, header_text, numbered_files

SUFFIXES = (".nrrd", ".nhdr")
MAGIC = b"NRRD"
_DTYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_CODES = {name: code for code, names in _DTYPES.items() for name in names}
_ENCODINGS = {
    "raw": "raw",
    "gzip": "deflate",
    "gz": "deflate",
    "bzip2": "bzip2",
    "bz2": "bzip2",
    "text": "text",
    "txt": "text",
    "ascii": "text",
    "hex": "hex",
}
_SYNONYMS = {
    "centers": "centerings",
    "datafile": "data file",
    "lineskip": "line skip",
    "byteskip": "byte skip",
    "axismins": "axis mins",
}
_LPS_SIGNS = {
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}
_DOMAIN = ("domain", "space", "???", "none", "")
_VOLUMES = ("list", "time", "point", *_DOMAIN)
_MAX_AXES = 16
_T = TypeVar("_T")


@dataclass(frozen=True)
class Header:
    """Header of an NRRD file.

    Args:
        payload: the voxels, all axes in the order of the file.
        spatial: numbers of the two or three spatial axes.
        volumes: numbers of the axes of volumes.
        components: numbers of the axes of components.
        affine: ``(4, 4)`` RAS matrix of the spatial axes.
    """

    payload: Payload
    spatial: tuple[int, ...]
    volumes: tuple[int, ...]
    components: tuple[int, ...]
    affine: Matrix


def read_header(path: Path) -> Header:
    """Read the header of an NRRD file.

    Raises:
        InputError: the header is incomplete or invalid, or names a data file elsewhere.
    """
    with open(path, "rb") as file:
        lines = header_text(file, path, last=None)
        start = file.tell()
    fields, names = _parsed(path, lines)
    axes = fields.numbers("dimension", int, 1)[0]
    if not 1 <= axes <= _MAX_AXES:
        raise fields.error("dimension")
    sizes = fields.numbers("sizes", int, axes)
    if min(sizes) < 1 or math.prod(sizes) >= 1 << 60:
        raise fields.error("sizes")
    kinds = [kind.lower() for kind in fields.values.get("kinds", "").split()]
    kinds += [""] * (axes - len(kinds))
    directions = fields.directions(axes)
    spatial = tuple(n for n, vector in enumerate(directions) if vector is not None)[:3]
    if not spatial:
        spatial = tuple(n for n in range(axes) if kinds[n] in _DOMAIN)[:3]
    if len(spatial) < 2:
        raise fields.error("space directions" if fields.values.get("space directions") else "kinds")
    others = [n for n in range(axes) if n not in spatial and sizes[n] > 1]
    volumes = tuple(n for n in others if kinds[n] in _VOLUMES)
    components = tuple(n for n in others if n not in volumes)
    payload = _payload(fields, sizes, start, names)
    affine = _affine(fields, [directions[n] for n in spatial], spatial, axes)
    return Header(payload, spatial, volumes, components, affine)


class _Fields:
    """Fields of a header and the messages about them."""

    def __init__(self, path: Path, values: dict[str, str]) -> None:
        self.path, self.values = path, values

    def error(self, name: str) -> InputError:
        value = self.values.get(name)
        what = f"no field {name!r}" if value is None else f"an invalid field {name!r}"
        content = "" if value is None else f" ({value[:60]!r})"
        return InputError(
            f"{self.path} cannot be read as an image: it has {what}{content}; check that it is "
            "complete, or correct its header."
        )

    def numbers(
        self, name: str, kind: Callable[[str], _T], count: int, default: str | None = None
    ) -> list[_T]:
        """The numbers of a field; NaN is allowed, infinity is not."""
        words = self.values.get(name, default or "").split()
        try:
            numbers = [kind(word) for word in words[:count]]
            if len(numbers) < count or any(math.isinf(n) for n in numbers):  # type: ignore[arg-type]
                raise ValueError
        except (ValueError, OverflowError) as error:
            raise self.error(name) from error
        return numbers

    def vectors(self, name: str) -> list[list[float] | None]:
        """Vectors ``(x,y,z)`` of a field; ``none`` gives None."""
        found: list[list[float] | None] = []
        for text in re.findall(r"none|\([^()]*\)", self.values.get(name, "")):
            try:
                vector = [float(word) for word in text.strip("()").split(",")]
            except ValueError:
                if text != "none":
                    raise self.error(name) from None
                vector = []
            found.append(vector if vector and not np.isnan(vector).all() else None)
        return found

    def directions(self, axes: int) -> list[list[float] | None]:
        """The space direction of each axis."""
        found = self.vectors("space directions")
        if not found and "space directions" not in self.values:
            return [None] * axes
        lengths = {len(vector) for vector in found if vector is not None}
        if len(found) != axes or len(lengths) != 1 or lengths - {2, 3, 4}:
            raise self.error("space directions")
        return found


def _parsed(path: Path, lines: list[str]) -> tuple[_Fields, list[str]]:
    """Fields, and the names of data files that follow ``data file: LIST``."""
    if not lines or not re.fullmatch(r"NRRD000\d", lines[0].strip()):
        raise InputError(f"{path} is not an NRRD file; check that it is complete.")
    values: dict[str, str] = {}
    for number, line in enumerate(lines[1:], start=2):
        if line.startswith("#") or ":=" in line:
            continue
        name, _, value = line.partition(":")
        name = name.strip().lower()
        values[_SYNONYMS.get(name, name)] = value.strip()
        if values.get("data file", "").upper().startswith("LIST"):
            return _Fields(path, values), [name.strip() for name in lines[number:]]
    return _Fields(path, values), []


def _payload(fields: _Fields, sizes: list[int], start: int, names: list[str]) -> Payload:
    """Where the voxels are; ``start`` is the length of the header."""
    code = _CODES.get(fields.values.get("type", "").lower())
    if code is None:
        raise fields.error("type")
    encoding: Any = _ENCODINGS.get(fields.values.get("encoding", "").lower())
    if encoding is None:
        raise fields.error("encoding")
    endian = fields.values.get("endian", "").lower()
    if endian not in ("little", "big") and code[1] != "1" and encoding != "text":
        raise fields.error("endian")
    dtype = np.dtype((">" if endian == "big" else "<") + code)
    lines, skip = (fields.numbers(name, int, 1, "0")[0] for name in ("line skip", "byte skip"))
    if not 0 <= lines < 1 << 20 or skip < -1 or (skip == -1 and encoding != "raw"):
        raise fields.error("byte skip" if 0 <= lines < 1 << 20 else "line skip")
    files: tuple[Path, ...] = (fields.path,)
    where = fields.values.get("data file")
    if where is not None:
        start, words = 0, where.split()
        if not names:
            several = len(words) > 2 and "%" in words[0]
            names = numbered_files(fields.path, words) if several else [where]
        files = tuple(data_file(fields.path, name) for name in names)
    start = -1 if skip == -1 else start
    return Payload(files, dtype, tuple(sizes), encoding, start, lines, max(0, skip))


def _affine(
    fields: _Fields, vectors: list[list[float] | None], spatial: tuple[int, ...], axes: int
) -> Matrix:
    """``(4, 4)`` RAS matrix of the spatial axes."""
    if vectors[0] is None:
        return _affine_of_spacings(fields, spatial, axes)
    d = len(spatial)
    columns = np.array(vectors, dtype=np.float64).T[:3]
    space = len(columns)
    origins = fields.vectors("space origin")
    origin = origins[0] if origins and origins[0] is not None else [0.0] * space
    if d > space:
        raise fields.error("space directions")
    if len(origin) < space or not np.isfinite(columns).all() or not np.isfinite(origin).all():
        raise fields.error("space origin" if np.isfinite(columns).all() else "space directions")
    lps = np.eye(space + 1)
    lps[:space, : min(d, space)], lps[:space, space] = columns[:, :space], origin[:space]
    if d < space:  # a slice in 3D space
        normal = np.cross(lps[:3, 0], lps[:3, 1])
        lps[:3, 2] = normal / max(float(np.linalg.norm(normal)), 1e-300)
    name = fields.values.get("space", "").lower().removesuffix("-time")
    signs = _LPS_SIGNS.get(name.removesuffix("t") if len(name) == 4 else name, (1, 1, 1))
    matrix: Matrix = lps_flip(space) @ np.diag([*signs[:space], 1.0]) @ lps
    return plane_in_space(matrix) if space == 2 else matrix


def _affine_of_spacings(fields: _Fields, spatial: tuple[int, ...], axes: int) -> Matrix:
    """Affine without space directions: axes along LPS."""
    d = len(spatial)
    spacings = fields.numbers("spacings", float, axes, "nan " * axes)
    mins = fields.numbers("axis mins", float, axes, "nan " * axes)
    centres = fields.values.get("centerings", "").split()
    centres += [""] * (axes - len(centres))
    lps = np.eye(d + 1)
    for row, n in enumerate(spatial):
        size = 1.0 if math.isnan(spacings[n]) else spacings[n]
        if size <= 0:
            raise fields.error("spacings")
        lps[row, row] = size
        if not math.isnan(mins[n]):
            lps[row, d] = mins[n] + (0 if centres[n] == "node" else size / 2)
    matrix: Matrix = lps_flip(d) @ lps
    return plane_in_space(matrix) if d == 2 else matrix
