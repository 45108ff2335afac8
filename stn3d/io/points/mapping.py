"""Points mapped through a transform in blocks, so that memory is bounded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn3d.grid import Grid, apply_matrix
from stn3d.transforms import Transform

Floats = NDArray[np.float64]
BLOCK = 1 << 16  # points at a time
_SAMPLES = 1000  # points at which the handedness is decided


class Mapped(NamedTuple):
    """Points after a transform.

    Args:
        points_mm: ``(n, d)`` float64 points, world RAS+ millimetres.
        outside: ``(n,)`` whether a point lies outside the field of view of the map.
    """

    points_mm: Floats
    outside: NDArray[np.bool_]


class PointMap:
    """A transform for points of any number.

    Args:
        transform: the transform that points go through.
        view: grid of the image that the points are mapped to: its field of view. Default: a point
            is outside where a displacement field of the transform does not reach it, so that only
            the other parts of the transform move it.
    """

    def __init__(self, transform: Transform, view: Grid | None = None) -> None:
        self.transform, self.view = transform, view

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return self.transform.ndim

    def __call__(self, points_mm: Floats) -> Mapped:
        """Map ``(n, d)`` points in float64."""
        blocks = [self._block(block) for block in _blocks(points_mm)]
        if not blocks:
            return Mapped(np.empty((0, self.ndim)), np.empty(0, bool))
        return Mapped(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))

    def jacobians(self, points_mm: Floats) -> Floats:
        """``(n, d, d)`` derivatives of the transform at ``(n, d)`` points."""
        blocks = [self.transform.jacobian(block).numpy() for block in _blocks(points_mm)]
        return np.concatenate(blocks) if blocks else np.empty((0, self.ndim, self.ndim))

    def rotations(self, points_mm: Floats) -> Floats:
        """``(n, d, d)`` rotations nearest to the transform at points, by polar decomposition."""
        left, _, right = np.linalg.svd(self.jacobians(points_mm))
        left[..., -1] *= np.sign(np.linalg.det(left @ right))[..., None]
        return left @ right

    def normals(self, points_mm: Floats, normals: Floats) -> Floats:
        """Unit normals ``(n, d)`` of surfaces at points, after the transform.

        A normal maps by the inverse transpose of the derivative.
        """
        jacobians = self.jacobians(points_mm)
        cofactors = np.linalg.pinv(jacobians).transpose(0, 2, 1)
        mapped: Floats = np.einsum("nab,nb->na", cofactors, normals)
        length = np.linalg.norm(mapped, axis=1, keepdims=True)
        return mapped / np.where(length > 0, length, 1)

    def reverses(self, points_mm: Floats) -> bool:
        """Whether the transform mirrors space at most points, so that surfaces lie inside out."""
        few = points_mm[:: max(1, len(points_mm) // _SAMPLES)]
        return bool((np.linalg.det(self.jacobians(few)) < 0).mean() > 0.5) if len(few) else False

    @torch.no_grad()
    def _block(self, points: Tensor) -> tuple[Floats, NDArray[np.bool_]]:
        outside = torch.zeros(len(points), dtype=torch.bool)
        for part in self.transform.parts:
            grid = getattr(part, "grid", None)
            if self.view is None and isinstance(grid, Grid):
                outside |= ~_within(grid, points)
            points = part(points)
        if self.view is not None:
            outside = ~_within(self.view, points)
        return points.numpy(), outside.numpy()


def _blocks(points_mm: Floats) -> Iterator[Tensor]:
    for first in range(0, len(points_mm), BLOCK):
        yield torch.from_numpy(
            np.array(points_mm[first : first + BLOCK], dtype=np.float64, order="C")
        )


def _within(grid: Grid, points_mm: Tensor) -> Tensor:
    """Whether points lie between the outer faces of a grid."""
    index = apply_matrix(grid.index_from_world, points_mm)
    last = torch.tensor(grid.shape, dtype=index.dtype) - 0.5
    return ((index >= -0.5) & (index < last)).all(dim=-1)
