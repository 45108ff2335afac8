"""Streamlines as TCK (MRtrix) and TRK (TrackVis), by nibabel, one block after another.

Both are read and written lazily, so the memory does not depend on the number of streamlines. Points
are in world RAS+ millimetres; nibabel converts TRK's own coordinates.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from nibabel.streamlines import Field, LazyTractogram, TckFile, TrkFile
from nibabel.streamlines.tractogram import TractogramItem
from nibabel.streamlines.trk import get_affine_trackvis_to_rasmm

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io.files import atomic_write
from stn3d.io.points.base import GeometryFormat, ReadOptions, WriteOptions
from stn3d.io.points.checks import (
    damaged_is_one_sentence,
    first_bytes,
    require_file,
)
from stn3d.io.points.mapping import Floats
from stn3d.io.points.streamlines import (
    Streamlines,
    StreamlineSource,
    grid_from_header,
    kept_grid_note,
    required_grid,
)

_HEADER_BYTES = 10_000_000


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
        first: Any = next(found.streamlines, None)
        second: Any = next(iter(found), None)
        both = first is not None and second is not None
        pending = both and not np.array_equal(first, second.streamline, equal_nan=True)
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
