"""The space in which a pair is registered: single slices are 3D images, and need one of their own.

Two single slices are registered in their plane, in 2D, and the transform is lifted to 3D: what lies
out of the plane does not change. A slice is registered within a volume with the slice as the fixed
image, because a slice says nothing about points beside it; the inverse is the transform where the
slice is the moving image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Literal

import torch
from torch import Tensor

from stn3d.errors import InputError
from stn3d.grid import Grid, apply_matrix, homogeneous
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.transforms import (
    Affine,
    DisplacementField,
    Linear,
    Transform,
    chain,
    rotation_matrix,
    split_linear,
)
from stn3d.warp import warp_image

Mode = Literal["as_given", "in_plane", "slice_to_volume"]
_IN_PLANE = (0, 1, 3)  # rows and columns of a matrix between frames that act in the plane
_WITHIN = 0.5 - 1e-6  # voxels from the centre of a slice to its faces
_STRAIGHT = 1e-10  # a normal this near to a world axis is that axis
_FLAT = 1e-3  # determinant below which an initial transform rotates a slice out of its plane


@dataclass(frozen=True, eq=False)
class WorkingSpace:
    """The space of a pair: that of its images.

    Args:
        fixed: Grid of the fixed image.
        moving: Grid of the moving image.
    """

    fixed: Grid
    moving: Grid

    @property
    def mode(self) -> Mode:
        """How the images are registered."""
        return "as_given"

    @property
    def note(self) -> str | None:
        """A sentence on it; None where there is nothing to say."""
        return None

    @property
    def grids(self) -> tuple[Grid, Grid]:
        """Grids of the fixed and of the moving image in this space."""
        return self.fixed, self.moving

    def pair(self, pair: Pair) -> Pair:
        """The prepared pair in this space."""
        return pair

    def given(self, transform: Transform) -> Transform:
        """A transform from fixed to moving points in this space.

        Raises:
            InputError: it has no counterpart here.
        """
        return transform

    def result(self, transform: Transform, inverse: Transform) -> tuple[Transform, Transform]:
        """A transform of this space and its inverse, as from fixed to moving points and back."""
        return transform, inverse

    def on_fixed(self, values: Tensor, transform: Transform) -> Tensor:
        """A map ``(1, 1, *shape)`` of this space on the grid of the fixed image, given the result
        of the registration."""
        return values


@dataclass(frozen=True, eq=False)
class SliceToVolume(WorkingSpace):
    """A single slice and a volume: the slice is the fixed image."""

    @property
    def mode(self) -> Mode:
        return "slice_to_volume"

    @property
    def note(self) -> str | None:
        slice_, volume = ("moving", "fixed") if self._swapped else ("fixed", "moving")
        return (
            f"the {slice_} image is a single slice: it is registered within the {volume} volume, "
            "and the result holds in the slice"
        )

    @property
    def _swapped(self) -> bool:
        return self.fixed.slice_axis is None

    @property
    def grids(self) -> tuple[Grid, Grid]:
        return (self.moving, self.fixed) if self._swapped else (self.fixed, self.moving)

    def pair(self, pair: Pair) -> Pair:
        return pair.swapped if self._swapped else pair

    def given(self, transform: Transform) -> Transform:
        return transform.inverse() if self._swapped else transform

    def result(self, transform: Transform, inverse: Transform) -> tuple[Transform, Transform]:
        return (inverse, transform) if self._swapped else (transform, inverse)

    def on_fixed(self, values: Tensor, transform: Transform) -> Tensor:
        return warp_image(values, self.moving, transform, self.fixed) if self._swapped else values


@dataclass(frozen=True, eq=False)
class InPlane(WorkingSpace):
    """Two single slices, registered in the plane of the fixed one.

    The frame of a plane has two axes in the plane and its normal. A 2D transform acts on the first
    two coordinates and leaves the third. If the slices lie in different planes, the smallest motion
    of one plane to the other follows.
    """

    @property
    def mode(self) -> Mode:
        return "in_plane"

    @property
    def note(self) -> str | None:
        if self._to_plane is None:
            return (
                "both images are single slices: the transform stays in their plane, and its "
                "parameters out of the plane are 0"
            )
        apart = f"{abs(self._distance_mm):.3g} mm apart"
        angle = math.degrees(self._angle_rad)
        inclined = f" and inclined by {angle:.3g} degrees" if angle > 0.05 else ""
        return (
            f"both images are single slices, {apart}{inclined}: the transform moves one plane to "
            "the other and else stays in the plane"
        )

    @property
    def grids(self) -> tuple[Grid, Grid]:
        return self._planar(self.fixed, self._frame), self._planar(self.moving, self._moving_frame)

    def pair(self, pair: Pair) -> Pair:
        fixed, moving = self.grids
        images = _flat(pair.fixed, fixed), _flat(pair.moving, moving)
        term = pair.landmarks
        if term is None:
            return Pair(*images)
        fixed_mm = apply_matrix(torch.linalg.inv(self._frame), term.fixed_mm)[:, :2]
        moving_mm = apply_matrix(torch.linalg.inv(self._moving_frame), term.moving_mm)[:, :2]
        return Pair(*images, replace(term, fixed_mm=fixed_mm, moving_mm=moving_mm))

    def given(self, transform: Transform) -> Transform:
        before, linear = split_linear(transform)
        planar = Affine.identity(2) if linear is None else self._restricted(linear)
        if before is None:
            return planar
        grid, back = self.grids[0], planar.inverse()
        points = grid.points_mm()
        space = apply_matrix(self._frame, _with_zero(points))
        mapped = apply_matrix(torch.linalg.inv(self._moving_frame), transform(space))[..., :2]
        moves = (back(mapped) - points).float().movedim(-1, 0)[None]
        return DisplacementField(moves.contiguous(), grid).then(planar)

    def result(self, transform: Transform, inverse: Transform) -> tuple[Transform, Transform]:
        forward, backward = ([self._lifted(p) for p in t.parts] for t in (transform, inverse))
        if self._to_plane is not None:
            forward = [*forward, Affine.from_matrix(self._to_plane)]
            backward = [Affine.from_matrix(torch.linalg.inv(self._to_plane)), *backward]
        return chain(*forward), chain(*backward)

    def on_fixed(self, values: Tensor, transform: Transform) -> Tensor:
        return values.reshape(1, 1, *self.fixed.shape)

    # -- planes -----------------------------------------------------------------------------------

    @cached_property
    def _frame(self) -> Tensor:
        """``(4, 4)`` world from the frame of the fixed plane."""
        return _frame_of(self.fixed)

    @property
    def _moving_frame(self) -> Tensor:
        """``(4, 4)`` world from the frame of the plane that the moving image is read in."""
        return self._frame if self._to_plane is None else self._to_plane @ self._frame

    @cached_property
    def _normals(self) -> tuple[Tensor, Tensor]:
        """Normals of both planes, to the same side."""
        fixed, moving = self._frame[:3, 2], _frame_of(self.moving)[:3, 2]
        return fixed, moving if float(fixed @ moving) >= 0 else -moving

    @property
    def _angle_rad(self) -> float:
        fixed, moving = self._normals
        return math.atan2(float(torch.linalg.cross(fixed, moving).norm()), float(fixed @ moving))

    @property
    def _distance_mm(self) -> float:
        """From the centre of the fixed slice to the plane of the moving one."""
        return float(self._normals[1] @ (self.moving.centre_mm - self.fixed.centre_mm))

    @cached_property
    def _to_plane(self) -> Tensor | None:
        """``(4, 4)`` rigid motion of the fixed plane to the moving one; None where each slice lies
        within the thickness of the other."""
        if all(_within(a, b) for a, b in ((self.fixed, self.moving), (self.moving, self.fixed))):
            return None
        fixed, moving = self._normals
        axis = torch.linalg.cross(fixed, moving)
        length = axis.norm().clamp(min=1e-12)
        rotation = rotation_matrix(axis / length * self._angle_rad)
        centre = self.fixed.centre_mm
        return homogeneous(rotation, centre - rotation @ centre + self._distance_mm * moving)

    def _planar(self, grid: Grid, frame: Tensor) -> Grid:
        """A slice's grid in a plane; points of the plane have the indices that they have in 3D."""
        axis = grid.slice_axis
        kept = [a for a in range(3) if a != axis]
        index_from_plane = (grid.index_from_world @ frame)[[*kept, 3]][:, list(_IN_PLANE)]
        return Grid(tuple(grid.shape[a] for a in kept), torch.linalg.inv(index_from_plane))

    # -- transforms -------------------------------------------------------------------------------

    def _restricted(self, linear: Linear) -> Affine:
        """What a linear transform does in the plane."""
        whole = torch.linalg.inv(self._moving_frame) @ linear.matrix @ self._frame
        matrix = whole[list(_IN_PLANE)][:, list(_IN_PLANE)]
        if abs(float(torch.linalg.det(matrix[:2, :2]))) < _FLAT:
            raise InputError(
                "the initial transform rotates the fixed slice out of the plane of the moving one; "
                "omit --init, or give a transform within the plane."
            )
        return Affine.from_matrix(matrix, self.grids[0].centre_mm)

    def _lifted(self, part: Transform) -> Transform:
        """A 2D part in 3D, in the frame of the fixed plane."""
        if isinstance(part, Linear):
            matrix = torch.eye(4, dtype=torch.float64)
            for row, i in enumerate(_IN_PLANE):
                for column, j in enumerate(_IN_PLANE):
                    matrix[i, j] = part.matrix[row, column]
            lifted = self._frame @ matrix @ torch.linalg.inv(self._frame)
            return Affine.from_matrix(lifted, self.fixed.centre_mm)
        assert isinstance(part, DisplacementField)
        axis = self.fixed.slice_axis
        assert axis is not None
        plane, flat = torch.eye(4, dtype=torch.float64), part.grid.world_from_index
        plane[:2, :2], plane[:2, 3] = flat[:2, :2], flat[:2, 2]
        plane[2, 2] = self.fixed.spacing_mm[axis]
        columns = [0, 1]
        columns.insert(axis, 2)
        shape = list(part.grid.shape)
        shape.insert(axis, 1)
        grid = Grid(tuple(shape), (self._frame @ plane)[:, [*columns, 3]])
        vectors = torch.einsum(
            "ab,nb...->na...", self._frame[:3, :2].to(part.displacement_mm), part.displacement_mm
        )
        return DisplacementField(vectors.unsqueeze(axis + 2).contiguous(), grid)


def working_space(fixed: Grid, moving: Grid) -> WorkingSpace:
    """The space in which two images are registered.

    Args:
        fixed: Grid of the fixed image.
        moving: Grid of the moving image, of the same dimension.
    """
    slices = [grid for grid in (fixed, moving) if grid.slice_axis is not None]
    kinds: list[Callable[[Grid, Grid], WorkingSpace]] = [WorkingSpace, SliceToVolume, InPlane]
    return kinds[len(slices)](fixed, moving)


def _frame_of(grid: Grid) -> Tensor:
    """World from the frame of a slice's plane: two orthonormal axes in the plane, near to world
    axes in their order, the normal, and an origin with the coordinates 0, 0 in the plane."""
    columns = [grid.world_from_index[:3, a] for a in range(3) if a != grid.slice_axis]
    normal = torch.linalg.cross(*columns)
    normal = normal / normal.norm()
    main = int(normal.abs().argmax())
    normal = normal * normal[main].sign()
    eye = torch.eye(3, dtype=torch.float64)
    if float(normal[main]) > 1 - _STRAIGHT:
        normal = eye[main]
    first, second = (eye[a] for a in range(3) if a != main)
    u = first - (first @ normal) * normal
    u = u / u.norm()
    v = second - (second @ normal) * normal - (second @ u) * u
    origin = (normal @ grid.world_from_index[:3, 3]) * normal
    return homogeneous(torch.stack([u, v / v.norm(), normal], dim=1), origin)


def _within(inner: Grid, outer: Grid) -> bool:
    """Whether the plane of a slice lies within the thickness of another slice."""
    axis = inner.slice_axis
    ends = [(0.5,) if a == axis else (0.0, 1.0) for a in range(3)]
    corners = apply_matrix(inner.world_from_unit, torch.tensor(list(product(*ends))).double())
    index = apply_matrix(outer.index_from_world, corners)[:, outer.slice_axis or 0]
    return bool((index.abs() < _WITHIN).all())


def _flat(image: PreparedImage, grid: Grid) -> PreparedImage:
    """A slice as a 2D image."""
    values = image.image.reshape(*image.image.shape[:2], *grid.shape)
    mask = None if image.mask is None else image.mask.reshape(1, 1, *grid.shape)
    return replace(image, image=values, grid=grid, mask=mask)


def _with_zero(points: Tensor) -> Tensor:
    """Points of a plane ``(..., 2)`` in its frame."""
    return torch.cat([points, torch.zeros_like(points[..., :1])], dim=-1)
