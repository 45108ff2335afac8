"""Regions of a grid: one run of voxels in each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Region:
    """One run of voxels along the last axis in each row of a grid.

    Args:
        runs: ``(I, J, 2)`` first voxel and end of each row's run, end <= first for an empty run;
            a 2D grid has I = 1.
        row: number of voxels in a row.
    """

    runs: NDArray[np.int32]
    row: int
    _grown: dict[tuple[int, ...], Region] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, mask: Tensor) -> Region:
        """The shortest runs that contain all voxels of a mask ``(*shape)``, bool."""
        inside = mask.cpu().numpy()
        inside = inside if inside.ndim == 3 else inside[None]
        first = inside.argmax(axis=-1)
        end = inside.shape[-1] - inside[..., ::-1].argmax(axis=-1)
        end = np.where(inside.any(axis=-1), end, first)
        return cls(np.stack([first, end], axis=-1).astype(np.int32), inside.shape[-1])

    @classmethod
    def full(cls, shape: Sequence[int]) -> Region:
        """All voxels of a grid of this shape."""
        rows = np.zeros((*([1] * (3 - len(shape))), *shape[:-1], 2), np.int32)
        rows[..., 1] = shape[-1]
        return cls(rows, shape[-1])

    def mask(self, shape: Sequence[int]) -> Tensor:
        """``(*shape)`` bool: the voxels of the runs."""
        k = np.arange(self.row)
        inside = (k >= self.runs[..., :1]) & (k < self.runs[..., 1:])
        return torch.from_numpy(inside).reshape(tuple(shape))

    @property
    def num_voxels(self) -> int:
        """Number of voxels in the runs."""
        return int(self.lengths.sum())

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """``(I, J)`` number of voxels in each run."""
        return (self.runs[..., 1] - self.runs[..., 0]).clip(min=0).astype(np.int64)

    def grown(self, radii: Sequence[int]) -> Region:
        """The region dilated by a window of ``2 r + 1`` voxels along each axis; cached."""
        if tuple(radii) not in self._grown:
            self._grown[tuple(radii)] = self._grow(radii)
        return self._grown[tuple(radii)]

    def _grow(self, radii: Sequence[int]) -> Region:
        ri, rj, rk = [0] * (3 - len(radii)) + list(radii)
        empty = self.lengths == 0
        first = _minimum_around(np.where(empty, self.row, self.runs[..., 0]), (ri, rj))
        end = -_minimum_around(np.where(empty, 0, -self.runs[..., 1]), (ri, rj))
        some = end > first
        first = np.where(some, (first - rk).clip(min=0), 0)
        end = np.where(some, (end + rk).clip(max=self.row), 0)
        return Region(np.stack([first, end], axis=-1).astype(np.int32), self.row)

    def without_faces(self) -> Region:
        """The region without the outermost voxels of every axis of more than one voxel."""
        runs = self.runs.copy()
        for axis in (0, 1):
            if runs.shape[axis] > 1:
                faces = np.moveaxis(runs, axis, 0)
                faces[[0, -1]] = 0
        if self.row > 1:
            runs[..., 0] = runs[..., 0].clip(min=1)
            runs[..., 1] = runs[..., 1].clip(max=self.row - 1)
        return Region(runs, self.row)


def _minimum_around(values: NDArray[Any], radii: Sequence[int]) -> NDArray[Any]:
    """The minimum over ``2 r + 1`` neighbours along each axis."""
    for axis, radius in enumerate(radii):
        least, n = values.copy(), values.shape[axis]
        source, target = np.moveaxis(values, axis, 0), np.moveaxis(least, axis, 0)
        for t in range(1, min(radius, n - 1) + 1):
            np.minimum(target[t:], source[: n - t], out=target[t:])
            np.minimum(target[: n - t], source[t:], out=target[: n - t])
        values = least
    return values


def store_region(values: Tensor, region: Region | None, out: Tensor) -> Tensor:
    """Copy the values of a region into ``out``; all values if there is no region."""
    if region is None:
        return out.copy_(values)
    where = region.mask(out.shape[2:]).to(out.device)
    return out.copy_(torch.where(where, values, out))
