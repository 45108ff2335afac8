"""Sampling grids: positions of the voxels of an image in world space.

Convention: index coordinates are in nibabel's axis order with voxel centres at integers, so voxel
``i`` covers ``[i - 0.5, i + 0.5]``. World coordinates are RAS+ millimetres. The physical domain of
a grid extends from the outer faces of its first voxels to the outer faces of its last voxels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stn3d.arguments import plain_tensor, tensor_arguments
from stn3d.display import Described, Description, by_x, lengths
from stn3d.errors import InputError


@tensor_arguments(["matrix", "points"])
def apply_matrix(matrix: Tensor, points: Tensor) -> Tensor:
    """Map points by homogeneous matrices.

    Args:
        matrix: ``(d + 1, d + 1)``, or ``(B, d + 1, d + 1)`` for points with a leading batch axis.
        points: ``(..., d)``, or ``(B, ..., d)`` with a batch of matrices.

    Returns:
        The mapped points, with the dtype and device of the points.
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


@tensor_arguments(["linear", "translation"])
def homogeneous(linear: Tensor, translation: Tensor) -> Tensor:
    """``(..., d + 1, d + 1)`` matrix of a linear part ``(..., d, d)``, translation ``(..., d)``."""
    top = torch.cat([linear, translation[..., None]], dim=-1)
    bottom = torch.zeros_like(top[..., :1, :])
    bottom[..., -1] = 1
    return torch.cat([top, bottom], dim=-2)


@dataclass(frozen=True, eq=False, repr=False)
class Grid(Described):
    """The sampling grid of an image: its shape and the map from indices to world millimetres.

    Args:
        shape: number of voxels along each of the d axes (d = 2 or 3).
        world_from_index: ``(d + 1, d + 1)`` homogeneous matrix of any rotation, spacing and
            handedness.

    Raises:
        InputError: the shape is empty, or the matrix has the wrong size, is singular or not finite.

    Examples:
        >>> grid = Grid((4, 3, 2), torch.diag(torch.tensor([1.0, 1.0, 2.0, 1.0])))
        >>> grid.spacing_mm, grid.size_mm
        ((1.0, 1.0, 2.0), (4.0, 3.0, 4.0))
        >>> grid.centre_mm
        tensor([1.5000, 1.0000, 1.0000], dtype=torch.float64)
        >>> grid.resampled(2.0)
        Grid(shape 2 x 2 x 2, spacing 2 x 1.5 x 2 mm, orientation RAS)
    """

    shape: tuple[int, ...]
    world_from_index: Tensor

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        matrix = plain_tensor(self.world_from_index).detach().cpu().double().clone()
        d = len(shape)
        if d not in (2, 3) or min(shape) < 1:
            raise InputError(
                f"a grid needs 2 or 3 axes of at least one voxel; got the shape {shape}."
            )
        if tuple(matrix.shape) != (d + 1, d + 1):
            raise InputError(
                f"a {d}D grid needs a {d + 1}x{d + 1} matrix; got {tuple(matrix.shape)}."
            )
        if not bool(torch.isfinite(matrix).all()):
            raise InputError("the image's affine holds NaN or Inf; correct its header.")
        scale = torch.linalg.vector_norm(matrix[:d, :d], dim=0)
        if bool((scale == 0).any()) or abs(torch.linalg.det(matrix[:d, :d] / scale)) < 1e-6:
            raise InputError(
                "the image's affine is singular (an axis has no extent); correct its header."
            )
        if not torch.allclose(matrix[d], torch.eye(d + 1, dtype=torch.float64)[d], atol=1e-6):
            raise InputError(
                "the last row of the image's affine is not 0 ... 0 1; correct its header."
            )
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "world_from_index", matrix)

    @classmethod
    def of_spacing(cls, shape: Sequence[int], spacing_mm: float | Sequence[float] = 1.0) -> Grid:
        """Axis-aligned grid whose first voxel centre is the world origin."""
        spacing = torch.as_tensor(spacing_mm, dtype=torch.float64).expand(len(shape))
        return cls(tuple(shape), torch.diag(torch.cat([spacing, torch.ones(1).double()])))

    # -- properties -------------------------------------------------------------------------------

    @property
    def ndim(self) -> int:
        """Number of spatial dimensions d."""
        return len(self.shape)

    @property
    def num_voxels(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def index_from_world(self) -> Tensor:
        """``(d + 1, d + 1)`` matrix from world millimetres to indices."""
        return torch.linalg.inv(self.world_from_index)

    @property
    def world_from_unit(self) -> Tensor:
        """``(d + 1, d + 1)`` matrix from the unit cube (0 to 1 over the physical domain) to mm."""
        size = torch.tensor(self.shape, dtype=torch.float64)
        index_from_unit = homogeneous(torch.diag(size), torch.full_like(size, -0.5))
        return self.world_from_index @ index_from_unit

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Distance between neighbouring voxel centres along each axis."""
        return tuple(torch.linalg.vector_norm(self.world_from_index[:-1, :-1], dim=0).tolist())

    @property
    def size_mm(self) -> tuple[float, ...]:
        """Edge lengths of the physical domain."""
        return tuple(n * s for n, s in zip(self.shape, self.spacing_mm, strict=True))

    @property
    def centre_mm(self) -> Tensor:
        """``(d,)`` world position of the centre of the physical domain."""
        return apply_matrix(self.world_from_unit, torch.full((self.ndim,), 0.5).double())

    @property
    def orientation(self) -> str:
        """The direction of each axis, the nearest of right, left, anterior, posterior, superior and
        inferior, as nibabel's ``aff2axcodes``: ``RAS``, ``LPS``, ``PSR``."""
        u, _, vt = torch.linalg.svd(self.world_from_index[:-1, :-1] / torch.tensor(self.spacing_mm))
        directions, letters = u @ vt, ""
        for axis in range(self.ndim):
            world = int(directions[:, axis].abs().argmax())
            letters += ("LR", "PA", "IS")[world][int(directions[world, axis] > 0)]
            directions[world] = 0
        return letters

    def description(self) -> Description:
        rows = [
            ("shape", by_x(self.shape)),
            ("spacing", lengths(self.spacing_mm)),
            ("orientation", self.orientation),
        ]
        return Description("Grid", rows)

    @property
    def slice_axis(self) -> int | None:
        """The axis of one voxel of a 3D grid that is a single slice, the last of several; None for
        any other grid."""
        single = [axis for axis, n in enumerate(self.shape) if n == 1]
        return single[-1] if self.ndim == 3 and single else None

    def same_as(self, other: Grid, tolerance_vox: float = 1e-3) -> bool:
        """Whether both grids have the same shape and voxel positions, within a tolerance."""
        if self.shape != other.shape:
            return False
        corners = torch.cartesian_prod(*[torch.tensor([0.0, n - 1.0]).double() for n in self.shape])
        gap = apply_matrix(self.world_from_index, corners) - apply_matrix(
            other.world_from_index, corners
        )
        return bool(gap.abs().max() <= tolerance_vox * min(self.spacing_mm))

    # -- points -----------------------------------------------------------------------------------

    def points_index(self, rows: slice | None = None, **options: Any) -> Tensor:
        """Index coordinates of voxel centres, ``(*shape, d)``; ``rows`` selects along axis 0."""
        options.setdefault("dtype", torch.float64)
        axes = [torch.arange(n, **options) for n in self.shape]
        if rows is not None:
            axes[0] = axes[0][rows]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)

    def points_mm(self, rows: slice | None = None, **options: Any) -> Tensor:
        """World coordinates of voxel centres, ``(*shape, d)``; ``rows`` selects along axis 0."""
        return apply_matrix(self.world_from_index, self.points_index(rows, **options))

    def slabs(self, max_voxels: int = 1 << 20) -> list[slice]:
        """Slices of axis 0 that divide the grid into slabs of about ``max_voxels`` voxels."""
        step = max(1, max_voxels // max(1, self.num_voxels // self.shape[0]))
        return [slice(i, min(i + step, self.shape[0])) for i in range(0, self.shape[0], step)]

    # -- derived grids ----------------------------------------------------------------------------

    def with_shape(self, shape: Sequence[int]) -> Grid:
        """Grid of another shape over the same physical domain."""
        size = torch.tensor(tuple(shape), dtype=torch.float64)
        unit_from_index = homogeneous(torch.diag(1 / size), 0.5 / size)
        return Grid(tuple(shape), self.world_from_unit @ unit_from_index)

    def zoomed(self, fraction: float) -> Grid:
        """Grid of the same shape over a fraction of the physical domain's edges, same centre."""
        if fraction == 1:
            return self
        centre = self.centre_mm
        scaling = homogeneous(fraction * torch.eye(self.ndim).double(), (1 - fraction) * centre)
        return Grid(self.shape, scaling @ self.world_from_index)

    def resampled(self, spacing_mm: float | Sequence[float]) -> Grid:
        """Grid over the same physical domain with the spacing closest to the given one.

        Extents in voxels are rounded to 4 decimals first, so the shape does not depend on rounding
        errors of headers that were rotated or stored as float32.
        """
        spacing = [spacing_mm] * self.ndim if isinstance(spacing_mm, int | float) else spacing_mm
        return self.with_shape(
            [
                max(1, round(round(size / s, 4)))
                for size, s in zip(self.size_mm, spacing, strict=True)
            ]
        )

    def coarsened(self, spacing_mm: float) -> Grid:
        """Like `resampled`, but no axis becomes finer."""
        return self.resampled([max(spacing_mm, s) for s in self.spacing_mm])

    def pyramid(self, spacings_mm: Sequence[float]) -> list[Grid]:
        """Coarsened grids, one for each spacing; repeated shapes are omitted."""
        levels: list[Grid] = []
        for spacing in spacings_mm:
            grid = self.coarsened(spacing)
            if not levels or levels[-1].shape != grid.shape:
                levels.append(grid)
        return levels

    def cropped(self, start: Sequence[int], stop: Sequence[int]) -> Grid:
        """Part from index ``start`` to ``stop`` (excluded); both may lie outside the grid."""
        shift = torch.eye(self.ndim + 1, dtype=torch.float64)
        shift[:-1, -1] = torch.tensor(tuple(start), dtype=torch.float64)
        shape = tuple(b - a for a, b in zip(start, stop, strict=True))
        return Grid(shape, self.world_from_index @ shift)

    def margins_vox(self, margin_mm: float, max_vox: int | None = None) -> list[int]:
        """Whole voxels along each axis that cover a margin, at most ``max_vox``."""
        # Rounding errors of a header must not add a voxel.
        margins = [math.ceil(margin_mm / s * (1 - 1e-6)) for s in self.spacing_mm]
        return margins if max_vox is None else [min(m, max_vox) for m in margins]

    def padded(self, margin_mm: float, max_vox: int | None = None) -> Grid:
        """Grid extended on every side by at least ``margin_mm``, in whole voxels.

        Args:
            margin_mm: width of the margin.
            max_vox: largest width in voxels, which limits that along an axis of thin slices.
        """
        margin = self.margins_vox(margin_mm, max_vox)
        return self.cropped(
            [-m for m in margin], [n + m for n, m in zip(self.shape, margin, strict=True)]
        )

    def mirrored(self, x_mm: float = 0.0) -> Grid:
        """Grid whose voxels are mirrored about the plane ``x = x_mm``: left and right exchanged."""
        reflection = torch.eye(self.ndim + 1, dtype=torch.float64)
        reflection[0, 0], reflection[0, -1] = -1, 2 * x_mm
        return Grid(self.shape, reflection @ self.world_from_index)

    @tensor_arguments(["points_mm"])
    def covering(self, points_mm: Tensor) -> Grid:
        """Grid with the same axes, spacing and voxel positions that contains the given points.

        Sheared axes are orthogonalised; the first keeps its direction.

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


def centred_grid(shape: Sequence[int], spacing_mm: float) -> Grid:
    """An isotropic grid along the world axes, centred on the world origin."""
    d = len(shape)
    centre = torch.tensor([-(n - 1) / 2 * spacing_mm for n in shape], dtype=torch.float64)
    return Grid(tuple(shape), homogeneous(spacing_mm * torch.eye(d).double(), centre))
