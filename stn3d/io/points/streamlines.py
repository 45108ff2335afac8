"""Streamlines as TCK (MRtrix) and TRK (TrackVis), by nibabel, one block after another.

Both are read and written lazily, so the memory does not depend on the number of streamlines. Points
are in world RAS+ millimetres; nibabel converts TRK's own coordinates.
"""

from __future__ import annotations

import dataclasses
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from nibabel.streamlines import Field, LazyTractogram, TckFile, TrkFile
from nibabel.streamlines.tractogram import TractogramItem
from nibabel.streamlines.trk import get_affine_trackvis_to_rasmm
from numpy.typing import NDArray

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io.files import atomic_write
from stn3d.io.points.base import Geometry, GeometryFormat, ReadOptions, WriteOptions
from stn3d.io.points.checks import (
    counted,
    damaged_is_one_sentence,
    first_bytes,
    require_coordinates,
    require_file,
    require_finite,
)
from stn3d.io.points.mapping import BLOCK, Floats, PointMap

_MOST_ITEMS = 4096  # streamlines of a block
_SAMPLED = 200  # streamlines at the beginning of a file that are sampled
_HEADER_BYTES = 10_000_000


@dataclass
class Tally:
    """Counts of what has passed.

    Args:
        streamlines: number of streamlines.
        points: number of their points.
        outside: number of streamlines that leave the field of view of the map.
    """

    streamlines: int = 0
    points: int = 0
    outside: int = 0


class StreamlineSource(ABC):
    """Content of a file of streamlines, read again for each use."""

    @abstractmethod
    def items(self) -> Iterator[TractogramItem]:
        """Streamlines in world RAS+ millimetres with their data, one by one."""

    @property
    def grid(self) -> Grid | None:
        """The image grid that the file states."""
        return None


@dataclass(frozen=True, eq=False)
class Streamlines(Geometry):
    """Streamlines of a file, mapped while they are written.

    Args:
        source: content of the file.
        mapping: transform of the points, None for none.
        tally: counts of what has been written.
    """

    kind = "streamlines"
    source: StreamlineSource = field(kw_only=True)
    mapping: PointMap | None = field(default=None, kw_only=True)
    tally: Tally = field(default_factory=Tally, kw_only=True)

    @property
    def ndim(self) -> int:
        return 3

    @property
    def size(self) -> str:
        return f"{counted(self.tally.streamlines, 'streamline')}, " + counted(
            self.tally.points, "point"
        )

    def sample(self, count: int) -> Floats:
        few = [
            item.streamline
            for item, _ in zip(self.source.items(), range(_SAMPLED), strict=False)
            if len(item.streamline)
        ]
        points = np.concatenate(few).astype(np.float64) if few else np.empty((0, 3))
        return points[:: max(1, len(points) // count)][:count]

    def mapped(self, mapping: PointMap) -> Streamlines:
        return dataclasses.replace(self, mapping=mapping, tally=Tally())

    def outside(self) -> tuple[int, int]:
        return self.tally.outside, self.tally.streamlines

    def map_block(self, points: NDArray[Any], lengths: list[int], path: Path) -> NDArray[Any]:
        """Map the points of whole streamlines of the given lengths, and count them."""
        self.tally.streamlines += len(lengths)
        self.tally.points += len(points)
        if not len(points):
            return points
        found = require_coordinates(points, self.path, "point")
        if self.mapping is None:
            return found
        found, outside = self.mapping(found)
        require_finite(found, path)
        ends = np.concatenate([[0], np.cumsum(lengths)])
        left = np.concatenate([[0], np.cumsum(outside)])[ends]
        self.tally.outside += int((np.diff(left) > 0).sum())
        return found

    def blocks(self, path: Path) -> Iterator[list[TractogramItem]]:
        """Mapped streamlines in blocks of about as many points.

        Raises:
            InputError: the file is damaged, or holds no streamlines.
        """
        self.tally.streamlines = self.tally.points = self.tally.outside = 0
        with damaged_is_one_sentence(self.path, "streamlines"):
            block: list[TractogramItem] = []
            count = 0
            for item in self.source.items():
                block.append(item)
                count += len(item.streamline)
                if count >= BLOCK or len(block) >= _MOST_ITEMS:
                    yield self._mapped_block(block, path)
                    block, count = [], 0
            if block:
                yield self._mapped_block(block, path)
            if not self.tally.streamlines:
                raise InputError(
                    f"{self.path} holds no streamlines; give a file with at least one."
                )

    def items(self, path: Path) -> Iterator[TractogramItem]:
        """Mapped streamlines, one by one, for the file at a path."""
        for block in self.blocks(path):
            yield from block

    def _mapped_block(self, block: list[TractogramItem], path: Path) -> list[TractogramItem]:
        lengths = [len(item.streamline) for item in block]
        points = np.concatenate([np.reshape(item.streamline, (-1, 3)) for item in block])
        pieces = np.split(self.map_block(points, lengths, path), np.cumsum(lengths)[:-1])
        return [
            TractogramItem(piece, item.data_for_streamline, item.data_for_points)
            for piece, item in zip(pieces, block, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class NibabelSource(StreamlineSource):
    """Content of a TCK or TRK file.

    Args:
        path: the file.
        header: its header as nibabel has it.
    """

    path: Path
    header: Any

    def items(self) -> Iterator[TractogramItem]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = nib.streamlines.load(self.path, lazy_load=True).tractogram
        # nibabel 5.4 leaves out the pending affine where it yields items; later ones may not.
        first, second = next(found.streamlines, None), next(iter(found), None)
        pending = second is not None and not np.array_equal(first, second.streamline)
        matrix = get_affine_trackvis_to_rasmm(self.header) if pending else None
        for item in found:
            points = item.streamline if matrix is None else apply_affine(matrix, item.streamline)
            yield TractogramItem(points, item.data_for_streamline, item.data_for_points)

    @property
    def grid(self) -> Grid | None:
        shape = np.asarray(self.header.get(Field.DIMENSIONS, ()))
        matrix = np.asarray(self.header.get(Field.VOXEL_TO_RASMM, ()))
        return grid_from_header(shape, matrix)


class NibabelFormat(GeometryFormat):
    """What TCK and TRK have in common."""

    kind = "streamlines"
    file_class: Any

    def read(self, path: Path, options: ReadOptions) -> Streamlines:
        require_file(path, "file of streamlines")
        with damaged_is_one_sentence(path, "streamlines"), path.open("rb") as file:
            if not self.file_class.is_correct_format(file):
                raise ValueError("another format")
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                header = self.file_class.load(file, lazy_load=True).header
        notes = tuple(
            f"{path.name}: {' '.join(str(one.message).split())}"
            for one in caught
            if "vox_to_ras" in str(one.message)
        )
        source = NibabelSource(path, header)
        return Streamlines(path, self.name, "ras", notes, source=source)


class Tck(NibabelFormat):
    """Streamlines of MRtrix, .tck."""

    name = "tck"
    suffixes = (".tck",)
    file_class = TckFile

    def write(self, path: Path, geometry: Streamlines, options: WriteOptions) -> tuple[str, ...]:
        lines = _tck_lines(geometry) if geometry.format == self.name else []
        data_names: set[str] = set()
        with atomic_write(path) as part, part.open("wb") as file:
            begin = _tck_header(lines, 0)
            file.write(begin)
            for block in geometry.blocks(path):
                for item in block[:1]:
                    data_names |= {*item.data_for_streamline, *item.data_for_points}
                gap = np.full((1, 3), np.nan)
                rows = [part for item in block for part in (item.streamline, gap)]
                file.write(np.concatenate(rows).astype("<f4").tobytes())
            file.write(np.full(3, np.inf, "<f4").tobytes())
            file.seek(0)
            file.write(_tck_header(lines, geometry.tally.streamlines))
        if data_names:
            listed = ", ".join(sorted(data_names)[:10])
            return (f"{path.name} holds no data beside coordinates; {listed} are dropped",)
        return ()


def _tck_lines(geometry: Streamlines) -> list[str]:
    """Lines of the header of a TCK file that stay as they are."""
    head = first_bytes(geometry.path, _HEADER_BYTES).partition(b"\nEND\n")[0]
    lines = head.decode("utf-8", "replace").splitlines()[1:]
    replaced = ("count", "total_count", "datatype", "file")
    return [line for line in lines if line.partition(":")[0].strip() not in replaced]


def _tck_header(lines: list[str], count: int) -> bytes:
    """Header of a TCK file, of a length that does not depend on the count."""
    words = ["mrtrix tracks", *lines, f"count: {count:012d}", "datatype: Float32LE", "file: . "]
    text = "\n".join(words).encode()
    end = b"\nEND\n"
    offset = len(text) + len(end) + 10
    return text + f"{offset:010d}".encode() + end


class Trk(NibabelFormat):
    """Streamlines of TrackVis, .trk."""

    name = "trk"
    suffixes = (".trk",)
    file_class = TrkFile

    def write(self, path: Path, geometry: Streamlines, options: WriteOptions) -> tuple[str, ...]:
        header = dict(geometry.source.header) if geometry.format == self.name else {}  # type: ignore[attr-defined]
        header |= _trk_header(required_grid(path, geometry, options))
        # In TrackVis' own space: no affine is then pending in nibabel, see `NibabelSource.items`.
        world_from_file = get_affine_trackvis_to_rasmm(header)
        tractogram = LazyTractogram.from_data_func(
            lambda: _moved_items(geometry.items(path), np.linalg.inv(world_from_file))
        )
        tractogram.affine_to_rasmm = world_from_file
        try:
            with atomic_write(path) as part, part.open("wb") as file, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                TrkFile(tractogram, header=header).save(file)
        except (ValueError, TypeError, KeyError) as error:
            if isinstance(error, InputError):
                raise
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"the data of {geometry.path} do not fit into {path} ({reason}); write .trx."
            ) from error
        return kept_grid_note(path, geometry, options)


def _moved_items(items: Iterator[TractogramItem], matrix: Floats) -> Iterator[TractogramItem]:
    for item in items:
        points = apply_affine(matrix, item.streamline)
        yield TractogramItem(points, item.data_for_streamline, item.data_for_points)


def _trk_header(grid: Grid) -> dict[str, Any]:
    matrix = grid.world_from_index.numpy()
    return {
        Field.VOXEL_TO_RASMM: matrix.astype(np.float32),
        Field.DIMENSIONS: np.array(grid.shape, np.int16),
        Field.VOXEL_SIZES: np.array(grid.spacing_mm, np.float32),
        Field.VOXEL_ORDER: "".join(nib.aff2axcodes(matrix)).encode(),
    }


def required_grid(path: Path, geometry: Streamlines, options: WriteOptions) -> Grid:
    """Grid for the header of a file: that of an image, or the input's own.

    Raises:
        InputError: there is none.
    """
    grid = options.like or geometry.source.grid
    if grid is None:
        raise InputError(
            f"{path} stores the grid of an image, which {geometry.path} does not; give the image "
            "that the streamlines then belong to as --like."
        )
    return grid


def kept_grid_note(path: Path, geometry: Streamlines, options: WriteOptions) -> tuple[str, ...]:
    """A note if the header of a file keeps the grid of the input."""
    if options.like is not None:
        return ()
    return (
        f"the header of {path.name} keeps the image grid of {geometry.path.name}; --like IMAGE "
        "gives it that of the image the streamlines now belong to",
    )


def grid_from_header(shape: NDArray[Any], matrix: NDArray[Any]) -> Grid | None:
    """Grid by the numbers of a header, None if they are no grid."""
    import torch

    if shape.shape != (3,) or matrix.shape != (4, 4) or (shape < 1).any():
        return None
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
        return None
    return Grid(tuple(int(n) for n in shape), torch.from_numpy(matrix.astype(np.float64)))
