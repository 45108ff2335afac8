"""What geometry files have in common: points that a transform maps, and everything else, kept.

A file is read as one of three kinds of `Geometry`: a `PointSet`, a `Surface`, or streamlines. Each
keeps the content of its file, so writing the same format changes nothing but coordinates, and what
follows from them such as normals. A `GeometryFormat` reads and writes one format.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from stn3d.choices import CoordinateSystem, GeometryKind
from stn3d.grid import Grid
from stn3d.io.points.checks import counted
from stn3d.io.points.mapping import Floats, PointMap


@dataclass(frozen=True)
class ReadOptions:
    """How to read a file that does not say how.

    Args:
        coordinates: coordinate system of a file that states none.
    """

    coordinates: CoordinateSystem | None = None


@dataclass(frozen=True, eq=False)
class WriteOptions:
    """How to write a file.

    Args:
        coordinates: coordinate system of the file, where its format has a choice. Default: that of
            the input if it has the same format, else the format's own.
        like: grid of the image that the points belong to, for formats that store one.
    """

    coordinates: CoordinateSystem | None = None
    like: Grid | None = None


@dataclass(frozen=True, eq=False)
class Geometry(ABC):
    """Points of a file in world RAS+ millimetres, and the rest of its content.

    Args:
        path: the file.
        format: name of its format.
        coordinates: coordinate system of the file.
        notes: what a user should know about it.
    """

    path: Path
    format: str
    coordinates: CoordinateSystem
    notes: tuple[str, ...]

    kind: ClassVar[GeometryKind]

    @property
    @abstractmethod
    def ndim(self) -> int:
        """Number of dimensions."""

    @property
    @abstractmethod
    def size(self) -> str:
        """Number of points in words: ``12 points``."""

    @abstractmethod
    def sample(self, count: int) -> Floats:
        """Up to ``count`` of the points, ``(n, d)``."""

    @abstractmethod
    def mapped(self, mapping: PointMap) -> Geometry:
        """The geometry after a transform, with everything but coordinates kept."""

    @abstractmethod
    def outside(self) -> tuple[int, int]:
        """Number of items outside the field of view of the map, of how many, once written."""


@dataclass(frozen=True, eq=False)
class PointGeometry(Geometry):
    """Geometry that is held in memory.

    Args:
        points_mm: ``(n, d)`` float64 points, world RAS+ millimetres.
        native: content of the file as its format knows it; None after a conversion.
        outside_count: number of points outside the field of view of the map.
    """

    points_mm: Floats
    native: Any = None
    outside_count: int = field(default=0, kw_only=True)

    @property
    def ndim(self) -> int:
        return int(self.points_mm.shape[1])

    def sample(self, count: int) -> Floats:
        return self.points_mm[:: max(1, len(self.points_mm) // count)][:count]

    def outside(self) -> tuple[int, int]:
        return self.outside_count, len(self.points_mm)


class NativeContent(ABC):
    """Content of a file that moves with its points."""

    @abstractmethod
    def mapped(self, mapping: PointMap) -> tuple[Any, tuple[str, ...]]:
        """The content after a transform, and notes on what could not be kept."""


@dataclass(frozen=True)
class PointTable:
    """Header and further columns of points.

    Args:
        header: names of all columns.
        others: further columns of each point, as text.
        axes: positions of the coordinates among the columns. Default: the first ones.
    """

    header: tuple[str, ...]
    others: tuple[tuple[str, ...], ...]
    axes: tuple[int, ...] | None = None

    @property
    def positions(self) -> tuple[int, ...]:
        """Positions of the coordinates among the columns."""
        if self.axes is not None:
            return self.axes
        return tuple(range(len(self.header) - (len(self.others[0]) if self.others else 0)))

    @property
    def titles(self) -> tuple[str, ...]:
        """Names of the further columns."""
        taken = set(self.positions)
        return tuple(name for n, name in enumerate(self.header) if n not in taken)

    @property
    def names(self) -> tuple[str, ...] | None:
        """Content of the column `name` or `label` for each point; None without such a column."""
        return self.column("name") or self.column("label")

    def column(self, title: str) -> tuple[str, ...] | None:
        """Content of a further column, None if there is none or it is empty."""
        titles = [one.strip().lower() for one in self.titles]
        if title not in titles:
            return None
        cells = tuple(row[titles.index(title)].strip() for row in self.others)
        return cells if any(cells) else None


@dataclass(frozen=True, eq=False)
class PointSet(PointGeometry):
    """Points with a table of names and other columns.

    Args:
        table: header and further columns.
    """

    kind = "points"
    table: PointTable = field(default_factory=lambda: PointTable(("x", "y", "z"), ()), kw_only=True)

    @property
    def size(self) -> str:
        return counted(len(self.points_mm), "point")

    def mapped(self, mapping: PointMap) -> PointSet:
        points, outside = mapping(self.points_mm)
        native, notes = self.native, self.notes
        if isinstance(native, NativeContent):
            native, more = native.mapped(mapping)
            notes += more
        return dataclasses.replace(
            self, points_mm=points, native=native, notes=notes, outside_count=int(outside.sum())
        )


@dataclass(frozen=True, eq=False)
class Surface(PointGeometry):
    """Vertices with triangles, normals and values.

    Args:
        triangles: ``(m, 3)`` vertex numbers; polygons are divided.
        normals: ``(n, 3)`` unit normals at the vertices, if the file has any.
        cells: ``(m, 3)`` centres and ``(m, 3)`` normals of the cells, if the file has normals
            there.
        values: named values at the vertices, ``(n, ...)``, for conversions.
        reversed: whether a transform has mirrored the surface; the triangles are then wound the
            other way round.
    """

    kind = "surface"
    triangles: NDArray[np.int64] = field(
        default_factory=lambda: np.empty((0, 3), np.int64), kw_only=True
    )
    normals: Floats | None = field(default=None, kw_only=True)
    cells: tuple[Floats, Floats] | None = field(default=None, kw_only=True)
    values: dict[str, NDArray[Any]] = field(default_factory=dict, kw_only=True)
    reversed: bool = field(default=False, kw_only=True)

    @property
    def size(self) -> str:
        return (
            f"{counted(len(self.points_mm), 'vertex', 'vertices')}, "
            f"{counted(len(self.triangles), 'triangle')}"
        )

    def mapped(self, mapping: PointMap) -> Surface:
        points, outside = mapping(self.points_mm)
        reverses = mapping.reverses(self.points_mm)
        normals, cells = self.normals, self.cells
        if normals is not None:
            normals = mapping.normals(self.points_mm, normals)
        if cells is not None:
            cells = mapping(cells[0]).points_mm, mapping.normals(*cells)
        return dataclasses.replace(
            self,
            points_mm=points,
            normals=normals,
            cells=cells,
            triangles=self.triangles[:, ::-1] if reverses else self.triangles,
            reversed=self.reversed != reverses,
            outside_count=int(outside.sum()),
        )


class GeometryFormat(ABC):
    """A file format of points, surfaces or streamlines."""

    name: ClassVar[str]
    kind: ClassVar[GeometryKind]
    suffixes: ClassVar[tuple[str, ...]]

    def recognises(self, path: Path) -> bool:
        """Whether a file, which may not exist yet, has this format by its name."""
        return path.name.lower().endswith(self.suffixes)

    @abstractmethod
    def read(self, path: Path, options: ReadOptions) -> Geometry:
        """Read a file.

        Raises:
            InputError: the file is not of this format, or damaged.
        """

    @abstractmethod
    def write(self, path: Path, geometry: Any, options: WriteOptions) -> tuple[str, ...]:
        """Write a file, atomically, and return notes on what its format could not keep.

        Raises:
            InputError: the file cannot be written.
        """
