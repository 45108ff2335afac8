"""Streamlines as TRX, by trx-python, on files mapped into memory.

Format: tee-ar-ex.github.io/trx-python. trx-python opens files for writing, so a copy is opened.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.streamlines import LazyTractogram
from nibabel.streamlines.tractogram import TractogramItem

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io.files import atomic_write
from stn3d.io.points.base import GeometryFormat, ReadOptions, WriteOptions
from stn3d.io.points.checks import damaged_is_one_sentence, require_file
from stn3d.io.points.mapping import BLOCK
from stn3d.io.points.streamlines import (
    Streamlines,
    StreamlineSource,
    grid_from_header,
    kept_grid_note,
    required_grid,
)

_MOST_RATIO = 200  # of unpacked to packed bytes


@dataclass(frozen=True, eq=False)
class TrxSource(StreamlineSource):
    """Content of a TRX file.

    Args:
        path: the file.
        header: its header: number of streamlines and points, image grid.
    """

    path: Path
    header: dict[str, Any]

    def items(self) -> Iterator[TractogramItem]:
        with opened(self.path) as content:
            streamlines = content.streamlines
            for n in range(len(streamlines)):
                per_streamline, per_point = (
                    {name: np.array(values[n]) for name, values in data.items()}
                    for data in (content.data_per_streamline, content.data_per_vertex)
                )
                yield TractogramItem(np.array(streamlines[n]), per_streamline, per_point)

    @property
    def grid(self) -> Grid | None:
        return grid_from_header(
            np.asarray(self.header["DIMENSIONS"]), np.asarray(self.header["VOXEL_TO_RASMM"])
        )


class Trx(GeometryFormat):
    """Streamlines with data and groups, .trx."""

    name = "trx"
    kind = "streamlines"
    suffixes = (".trx",)

    def read(self, path: Path, options: ReadOptions) -> Streamlines:
        require_file(path, "file of streamlines")
        _require_package(path)
        with damaged_is_one_sentence(path, "streamlines"), opened(path) as content:
            header = dict(content.header)
            count, half = len(content.streamlines), _is_half(content)
        if not count:
            raise InputError(f"{path} holds no streamlines; give a file with at least one.")
        notes = (f"{path.name} stores coordinates as float16, to about 0.05 mm",) if half else ()
        source = TrxSource(path, header)
        return Streamlines(path, self.name, "ras", notes, source=source)

    def write(self, path: Path, geometry: Streamlines, options: WriteOptions) -> tuple[str, ...]:
        _require_package(path)
        grid = required_grid(path, geometry, options)
        if isinstance(geometry.source, TrxSource):
            with damaged_is_one_sentence(geometry.path, "streamlines"):
                _write_moved(path, geometry, grid)
        else:
            _write_new(path, geometry, grid)
        return kept_grid_note(path, geometry, options)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A copy of a file, opened by trx-python and mapped into memory.

    Raises:
        InputError: the file would take far more space than it has now.
    """
    from trx.trx_file_memmap import load

    with zipfile.ZipFile(path) as content:
        unpacked = sum(one.file_size for one in content.infolist())
    if unpacked > max(1 << 20, _MOST_RATIO * path.stat().st_size):
        raise InputError(f"{path} unpacks to {unpacked} bytes, more than streamlines would.")
    with tempfile.TemporaryDirectory(prefix="stn3d-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        copy = Path(folder) / "copy.trx"
        shutil.copyfile(path, copy)
        found = load(str(copy))
        try:
            yield found
        finally:
            found.close()


def _require_package(path: Path) -> None:
    if find_spec("trx") is None:
        raise InputError(
            f"{path} needs the package trx-python; install it with: "
            "pip install 'stn3d[streamlines]'"
        )


def _is_half(content: Any) -> bool:
    return bool(content.streamlines.get_data().dtype == np.float16)


def _write_moved(path: Path, geometry: Streamlines, grid: Grid) -> None:
    """Write a file with other positions and everything else kept."""
    with opened(geometry.path) as content:
        offsets = np.append(content.streamlines._offsets, len(content.streamlines._data))
        positions = content.streamlines._data
        for first, last in _runs(offsets):
            rows = slice(int(offsets[first]), int(offsets[last]))
            lengths = np.diff(offsets[first : last + 1]).tolist()
            positions[rows] = geometry.map_block(np.asarray(positions[rows]), lengths, path)
        content.header |= _header(grid)
        _save(content, path)


def _runs(offsets: Any) -> Iterator[tuple[int, int]]:
    """Runs of streamlines with about as many points."""
    first = 0
    while first < len(offsets) - 1:
        last = int(np.searchsorted(offsets, int(offsets[first]) + BLOCK))
        last = min(max(last, first + 1), len(offsets) - 1)
        yield first, last
        first = last


def _write_new(path: Path, geometry: Streamlines, grid: Grid) -> None:
    """Write streamlines of another format."""
    from trx.trx_file_memmap import TrxFile

    image = nib.Nifti1Image(np.broadcast_to(np.uint8(0), grid.shape), grid.world_from_index.numpy())
    tractogram = LazyTractogram.from_data_func(lambda: geometry.items(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = TrxFile.from_lazy_tractogram(tractogram, image, extra_buffer=100_000)
        try:
            content.header |= _header(grid)
            _save(content, path)
        finally:
            content.close()


def _header(grid: Grid) -> dict[str, Any]:
    return {
        "VOXEL_TO_RASMM": grid.world_from_index.numpy().astype(np.float32),
        "DIMENSIONS": np.array(grid.shape, np.uint16),
    }


def _save(content: Any, path: Path) -> None:
    from trx.trx_file_memmap import save

    with atomic_write(path) as part, tempfile.TemporaryDirectory(prefix="stn3d-") as folder:
        whole = Path(folder) / "whole.trx"
        save(content, str(whole))
        shutil.copyfile(whole, part)
