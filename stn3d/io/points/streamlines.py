"""Streamlines, mapped one block after another: memory does not depend on their number."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.streamlines.tractogram import TractogramItem
from numpy.typing import NDArray

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io.points.base import Geometry, WriteOptions
from stn3d.io.points.checks import (
    counted,
    damaged_is_one_sentence,
    require_coordinates,
    require_finite,
)
from stn3d.io.points.mapping import BLOCK, Floats, PointMap

_MOST_ITEMS = 4096  # streamlines of a block
_SAMPLED = 200  # streamlines at the beginning of a file that are sampled


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


def required_grid(path: Path, geometry: Streamlines, options: WriteOptions) -> Grid:
    """Grid for the header of a file: that of an image, or the input's own.

    Raises:
        InputError: there is none.
    """
    grid = options.like or geometry.source.grid
    if grid is None:
        raise InputError(
            f"{path} stores the grid of an image, which {geometry.path} does not; give the image "
            "that the streamlines then belong to as --fixed or --moving."
        )
    return grid


def kept_grid_note(path: Path, geometry: Streamlines, options: WriteOptions) -> tuple[str, ...]:
    """A note if the header of a file keeps the grid of the input."""
    if options.like is not None:
        return ()
    return (
        f"the header of {path.name} keeps the image grid of {geometry.path.name}; --fixed or "
        "--moving IMAGE gives it that of the image the streamlines now belong to",
    )


def grid_from_header(shape: NDArray[Any], matrix: NDArray[Any]) -> Grid | None:
    """Grid by the numbers of a header, None if they are no grid."""
    import torch

    if shape.shape != (3,) or matrix.shape != (4, 4) or (shape < 1).any():
        return None
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
        return None
    return Grid(tuple(int(n) for n in shape), torch.from_numpy(matrix.astype(np.float64)))
