"""Grids: where the voxels of an image lie in the world.

Convention: index coordinates are in nibabel's axis order with voxel centres at whole numbers, so
voxel ``i`` fills ``[i - 0.5, i + 0.5]``. World coordinates are RAS+ millimetres. The physical
domain of a grid reaches from the outer face of its first voxels to the outer face of its last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stn3d.errors import InputError


def apply_matrix(matrix: Tensor, points: Tensor) -> Tensor:
    """Map points by homogeneous matrices.

    Args:
        matrix: ``(d + 1, d + 1)``, or ``(B, d + 1, d + 1)`` for points with a leading batch axis.
        points: ``(..., d)``; with a batched matrix ``(B, ..., d)``.

    Returns:
        The mapped points, in the points' dtype and device.
    """
    matrix = matrix.to(points)
    linear, translation = matrix[..., :-1, :-1], matrix[..., :-1, -1]
    if matrix.ndim == 2:
        return torch.addmm(translation, points.reshape(-1, points.shape[-1]), linear.T).reshape(
            points.shape
        )
    flat = points.reshape(points.shape[0], -1, points.shape[-1])
    mapped = flat @ linear.transpose(-1, -2) + translation[:, None, :]
    return mapped.reshape(mapped.shape[0], *points.shape[1:])


def homogeneous(linear: Tensor, translation: Tensor) -> Tensor:
    """``(..., d + 1, d + 1)`` from a ``(..., d, d)`` linear part and a ``(..., d)`` translation."""
    top = torch.cat([linear, translation[..., None]], dim=-1)
    bottom = torch.zeros_like(top[..., :1, :])
    bottom[..., -1] = 1
    return torch.cat([top, bottom], dim=-2)


@dataclass(frozen=True, eq=False)
class Grid:
    """The sampling grid of an image: its shape and the map from indices to world millimetres.

    Args:
        shape: voxels along each of the d axes (d = 2 or 3).
        world_from_index: ``(d + 1, d + 1)`` homogeneous matrix; any rotation, spacing, handedness.

    Raises:
        InputError: the shape is empty or the matrix does not fit it, is not finite or is singular.
    """

    shape: tuple[int, ...]
    world_from_index: Tensor

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        matrix = torch.as_tensor(self.world_from_index, dtype=torch.float64, device="cpu").clone()
        d = len(shape)
        if d not in (2, 3) or min(shape) < 1:
            raise InputError(f"a grid needs 2 or 3 axes of one voxel or more; this is {shape}.")
        if tuple(matrix.shape) != (d + 1, d + 1):
            raise InputError(
                f"a {d}D grid needs a {d + 1}x{d + 1} matrix; this one is {tuple(matrix.shape)}."
            )
        if not bool(torch.isfinite(matrix).all()):
            raise InputError("the image's affine holds NaN or Inf; mend its header.")
        scale = torch.linalg.vector_norm(matrix[:d, :d], dim=0)
        if bool((scale == 0).any()) or abs(torch.linalg.det(matrix[:d, :d] / scale)) < 1e-6:
            raise InputError(
                "the image's affine is singular (an axis has no extent); mend its header."
            )
        if not torch.allclose(matrix[d], torch.eye(d + 1, dtype=torch.float64)[d], atol=1e-6):
            raise InputError(
                "the last row of the image's affine is not 0 ... 0 1; mend its header."
            )
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "world_from_index", matrix)

    @classmethod
    def of_spacing(cls, shape: Sequence[int], spacing_mm: float | Sequence[float] = 1.0) -> Grid:
        """An axis-aligned grid whose first voxel centre is the world's origin."""
        spacing = torch.as_tensor(spacing_mm, dtype=torch.float64).expand(len(shape))
        return cls(tuple(shape), torch.diag(torch.cat([spacing, torch.ones(1).double()])))

    # -- what it is -------------------------------------------------------------------------------

    @property
    def ndim(self) -> int:
        """The number of spatial dimensions d."""
        return len(self.shape)

    @property
    def num_voxels(self) -> int:
        """The number of voxels."""
        return math.prod(self.shape)

    @property
    def index_from_world(self) -> Tensor:
        """``(d + 1, d + 1)`` matrix from world millimetres to indices."""
        return torch.linalg.inv(self.world_from_index)

    @property
    def world_from_unit(self) -> Tensor:
        """``(d + 1, d + 1)`` matrix from the unit cube, which spans the physical domain, to mm."""
        size = torch.tensor(self.shape, dtype=torch.float64)
        index_from_unit = homogeneous(torch.diag(size), torch.full_like(size, -0.5))
        return self.world_from_index @ index_from_unit

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """The distance between neighbouring voxel centres along each axis."""
        return tuple(torch.linalg.vector_norm(self.world_from_index[:-1, :-1], dim=0).tolist())

    @property
    def size_mm(self) -> tuple[float, ...]:
        """The lengths of the physical domain's edges."""
        return tuple(n * s for n, s in zip(self.shape, self.spacing_mm, strict=True))

    @property
    def centre_mm(self) -> Tensor:
        """``(d,)`` world position of the physical domain's centre."""
        return apply_matrix(self.world_from_unit, torch.full((self.ndim,), 0.5).double())

    def same_as(self, other: Grid, tolerance_vox: float = 1e-3) -> bool:
        """Whether both grids have one shape and put every voxel in the same place."""
        if self.shape != other.shape:
            return False
        corners = torch.cartesian_prod(*[torch.tensor([0.0, n - 1.0]).double() for n in self.shape])
        gap = apply_matrix(self.world_from_index, corners) - apply_matrix(
            other.world_from_index, corners
        )
        return bool(gap.abs().max() <= tolerance_vox * min(self.spacing_mm))

    # -- its points -------------------------------------------------------------------------------

    def points_index(self, rows: slice | None = None, **options: Any) -> Tensor:
        """Index coordinates of the voxel centres, ``(*shape, d)``; ``rows`` cuts the first axis."""
        options.setdefault("dtype", torch.float64)
        axes = [torch.arange(n, **options) for n in self.shape]
        if rows is not None:
            axes[0] = axes[0][rows]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)

    def points_mm(self, rows: slice | None = None, **options: Any) -> Tensor:
        """World coordinates of the voxel centres, ``(*shape, d)``; ``rows`` cuts the first axis."""
        return apply_matrix(self.world_from_index, self.points_index(rows, **options))

    def slabs(self, max_voxels: int = 1 << 20) -> list[slice]:
        """Slices of the first axis that cut the grid into pieces of about ``max_voxels``."""
        step = max(1, max_voxels // max(1, self.num_voxels // self.shape[0]))
        return [slice(i, min(i + step, self.shape[0])) for i in range(0, self.shape[0], step)]

    # -- other grids over the same or another part of the world -----------------------------------

    def with_shape(self, shape: Sequence[int]) -> Grid:
        """The grid of another shape over exactly the same physical domain."""
        size = torch.tensor(tuple(shape), dtype=torch.float64)
        unit_from_index = homogeneous(torch.diag(1 / size), 0.5 / size)
        return Grid(tuple(shape), self.world_from_unit @ unit_from_index)

    def zoomed(self, share: float) -> Grid:
        """The grid of the same shape over a share of its edges, about its middle."""
        if share == 1:
            return self
        middle = self.centre_mm
        about = homogeneous(share * torch.eye(self.ndim).double(), (1 - share) * middle)
        return Grid(self.shape, about @ self.world_from_index)

    def resampled(self, spacing_mm: float | Sequence[float]) -> Grid:
        """The grid over the same physical domain with the spacing nearest to the one asked for.

        Numbers of voxels are told apart to 4 digits, so that a header that was turned, or rounded
        to float32, changes nothing.
        """
        spacing = [spacing_mm] * self.ndim if isinstance(spacing_mm, int | float) else spacing_mm
        return self.with_shape(
            [
                max(1, round(round(size / s, 4)))
                for size, s in zip(self.size_mm, spacing, strict=True)
            ]
        )

    def coarsened(self, spacing_mm: float) -> Grid:
        """Like `resampled`, but no axis becomes finer than it is."""
        return self.resampled([max(spacing_mm, s) for s in self.spacing_mm])

    def pyramid(self, spacings_mm: Sequence[float]) -> list[Grid]:
        """One coarsened grid for each spacing; equal neighbours appear once."""
        levels: list[Grid] = []
        for spacing in spacings_mm:
            grid = self.coarsened(spacing)
            if not levels or levels[-1].shape != grid.shape:
                levels.append(grid)
        return levels

    def cropped(self, start: Sequence[int], stop: Sequence[int]) -> Grid:
        """The part from index ``start`` up to but without ``stop``; both may lie outside."""
        shift = torch.eye(self.ndim + 1, dtype=torch.float64)
        shift[:-1, -1] = torch.tensor(tuple(start), dtype=torch.float64)
        shape = tuple(b - a for a, b in zip(start, stop, strict=True))
        return Grid(shape, self.world_from_index @ shift)

    def padded(self, margin_mm: float) -> Grid:
        """The grid grown on every side by at least ``margin_mm``, in whole voxels."""
        margin = [math.ceil(margin_mm / s) for s in self.spacing_mm]
        return self.cropped(
            [-m for m in margin], [n + m for n, m in zip(self.shape, margin, strict=True)]
        )

    def covering(self, points_mm: Tensor) -> Grid:
        """The grid along these axes and of this spacing that holds points.

        Voxels stand where this grid's would. Sheared axes are set at right angles, the first stays.

        Args:
            points_mm: ``(N, d)`` world points.
        """
        d = self.ndim
        axes, upper = torch.linalg.qr(self.world_from_index[:d, :d])
        axes = axes * upper.diagonal().sign() * torch.tensor(self.spacing_mm).double()
        frame = Grid(self.shape, homogeneous(axes, self.world_from_index[:d, d]))
        index = apply_matrix(frame.index_from_world, points_mm.double())
        low, high = index.amin(0).floor(), index.amax(0).ceil()
        return frame.cropped(low.long().tolist(), (high.long() + 1).tolist())
