"""Perturbed transforms for the quality check, within what the images can show.

A perturbation that moves one image out of the other, such as a shift along a stack of few thick
slices by more than the stack, says nothing about the result. Amplitudes are therefore reduced, for
each rotation and each translation, until most of the foreground stays inside the other image. Those
that would have to be smaller than a quarter of a voxel cannot be tested, nor those out of the plane
of a few slices, which hardly show them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stn3d.grid import Grid, apply_matrix, homogeneous
from stn3d.sampler import inside
from stn3d.transforms import Affine, Linear, Rigid

FEW_SLICES = 8
"""An axis of fewer voxels is that of slices."""

LEAST_VOX = 0.25
"""Smallest translation that images show, in voxels."""

_KEPT_TOGETHER = 0.75  # of the fraction that each rotation or translation keeps, under all of them
_HALVINGS = 5
_ALONG = 0.7  # cosine from which two axes have the same direction


@dataclass(frozen=True, eq=False)
class Perturbation:
    """Rotations about and translations along the axes of a grid, about its centre.

    Args:
        grid: The fixed grid; its axes are sorted and directed like those of the world.
        rotation_rad: Angle about each axis; one angle in 2D.
        translation_mm: Along each axis.
    """

    grid: Grid
    rotation_rad: tuple[float, ...]
    translation_mm: tuple[float, ...]

    @property
    def transform(self) -> Affine:
        """The transform of fixed points."""
        parameters = torch.tensor([*self.rotation_rad, *self.translation_mm], dtype=torch.float64)
        along_axes = Rigid(parameters, torch.zeros(self.grid.ndim, dtype=torch.float64)).matrix
        axes, centre_mm = axes_of(self.grid), self.grid.centre_mm
        linear = axes @ along_axes[:-1, :-1] @ axes.T
        shift = centre_mm - linear @ centre_mm + axes @ along_axes[:-1, -1]
        return Affine.from_matrix(homogeneous(linear, shift), centre_mm)

    def scaled(self, scale: float) -> Perturbation:
        """With all amplitudes multiplied."""
        angles = tuple(scale * angle for angle in self.rotation_rad)
        return Perturbation(self.grid, angles, tuple(scale * t for t in self.translation_mm))


@dataclass(frozen=True, eq=False)
class Visible:
    """What a result lets the fixed image's foreground show of the moving image.

    Args:
        grid: The fixed grid.
        moving: The moving grid, with all of its slices.
        linear: Fixed points to moving points.
        points_mm: ``(N, d)`` foreground points of the fixed image, inside the moving one.
        least_kept: Fraction of the points that stay inside under each rotation or translation.
    """

    grid: Grid
    moving: Grid
    linear: Linear
    points_mm: Tensor
    least_kept: float

    def kept(self, perturbation: Perturbation) -> float:
        """Fraction of the points that a perturbed transform leaves inside the moving image."""
        points = self.linear(perturbation.transform(self.points_mm))
        index = apply_matrix(self.moving.index_from_world, points)
        return float(inside(index, self.moving.shape).double().mean())

    def largest(self, rotation_rad: float, translation_mm: float) -> Perturbation:
        """The largest amplitude of each rotation and translation, up to a given one; 0 where even a
        quarter of a voxel cannot be tested."""
        ndim = self.grid.ndim
        still = Perturbation(self.grid, (0.0,) * (3 if ndim == 3 else 1), (0.0,) * ndim)
        spacings = _spacings_mm(self.grid)

        def rotated(axis: int, angle: float) -> Perturbation:
            return replace(still, rotation_rad=_with(still.rotation_rad, axis, angle))

        def shifted(axis: int, shift: float) -> Perturbation:
            return replace(still, translation_mm=_with(still.translation_mm, axis, shift))

        across = self.slice_axes()
        angles = []
        for axis in range(len(still.rotation_rad)):
            others = [a for a in range(ndim) if ndim == 2 or a != axis]
            if ndim == 3 and across.intersection(others):
                angles.append(0.0)
                continue
            arm_mm = max(self._arm_mm(others), 1e-9)
            least = LEAST_VOX * max(spacings[a] for a in others) / arm_mm
            angles.append(self._amplitude(rotated, axis, rotation_rad, least))
        shifts = [
            0.0
            if axis in across
            else self._amplitude(shifted, axis, translation_mm, LEAST_VOX * spacings[axis])
            for axis in range(ndim)
        ]
        return Perturbation(self.grid, tuple(angles), tuple(shifts))

    def slice_axes(self) -> set[int]:
        """Axes along which the moving image has few slices."""
        fixed = axes_of(self.grid)
        moving = (
            torch.linalg.inv(self.linear.matrix[:-1, :-1]) @ self.moving.world_from_index[:-1, :-1]
        )
        moving = moving / torch.linalg.vector_norm(moving, dim=0)
        few = [k for k, n in enumerate(self.moving.shape) if n < FEW_SLICES]
        alike = (fixed.T @ moving.to(fixed)).abs()
        return {a for a in range(self.grid.ndim) for k in few if float(alike[a, k]) > _ALONG}

    def _arm_mm(self, axes: Sequence[int]) -> float:
        """Root mean square distance of the points from the centre, along some axes."""
        offsets = (self.points_mm - self.grid.centre_mm) @ axes_of(self.grid)
        return float(offsets[:, list(axes)].square().sum(dim=1).mean().sqrt())

    def _amplitude(
        self, make: Callable[[int, float], Perturbation], axis: int, full: float, least: float
    ) -> float:
        for halving in range(_HALVINGS + 1):
            amplitude = full / 2**halving
            if amplitude < min(least, full):
                break
            if all(self.kept(make(axis, sign * amplitude)) >= self.least_kept for sign in (1, -1)):
                return amplitude
        return 0.0

    def perturbed(self, largest: Perturbation) -> list[Affine]:
        """Rotations and translations in all directions together, ``2 ** d`` of them; none where
        all amplitudes are 0."""
        ndim = self.grid.ndim
        if not any((*largest.rotation_rad, *largest.translation_mm)):
            return []
        signs = list(itertools.product((1.0, -1.0), repeat=ndim))
        found = []
        for k, sign in enumerate(signs):
            # Another order of the signs, so that rotations and translations are not paired alike.
            about = signs[(3 * k + 1) % len(signs)] if ndim == 3 else sign[:1]
            angles = tuple(a * s for a, s in zip(largest.rotation_rad, about, strict=True))
            shifts = tuple(a * s for a, s in zip(largest.translation_mm, sign, strict=True))
            one = Perturbation(self.grid, angles, shifts)
            for _ in range(_HALVINGS):
                if self.kept(one) >= _KEPT_TOGETHER * self.least_kept:
                    break
                one = one.scaled(math.sqrt(0.5))
            found.append(one.transform)
        return found


def untested(largest: Perturbation) -> tuple[str, ...]:
    """The rotations and translations whose amplitude is 0, in words."""
    about = "xyz" if len(largest.rotation_rad) == 3 else "z"
    turns = zip(about, largest.rotation_rad, strict=True)
    shifts = zip("xyz", largest.translation_mm, strict=False)
    return (
        *(f"rotation about {axis}" for axis, angle in turns if not angle),
        *(f"translation along {axis}" for axis, shift in shifts if not shift),
    )


def axes_of(grid: Grid) -> Tensor:
    """``(d, d)`` orthonormal axes of a grid as columns, in the order and direction of the world's.

    Axes that are sheared give the nearest orthonormal ones.
    """
    u, _, vt = torch.linalg.svd(_directions(grid)[:, _order(grid)])
    axes = u @ vt
    return axes * axes.diagonal().sign().where(axes.diagonal() != 0, torch.tensor(1.0).double())


def _directions(grid: Grid) -> Tensor:
    linear = grid.world_from_index[:-1, :-1].double()
    return linear / torch.linalg.vector_norm(linear, dim=0)


def _order(grid: Grid) -> list[int]:
    """For each world axis the grid's axis that is nearest to it."""
    alike = _directions(grid).abs()
    orders = itertools.permutations(range(grid.ndim))
    return list(max(orders, key=lambda order: sum(float(alike[a, k]) for a, k in enumerate(order))))


def _spacings_mm(grid: Grid) -> list[float]:
    return [grid.spacing_mm[k] for k in _order(grid)]


def _with(values: tuple[float, ...], axis: int, value: float) -> tuple[float, ...]:
    return (*values[:axis], value, *values[axis + 1 :])
