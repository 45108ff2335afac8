"""Both images of a pair at the resolution that both have.

A stack of thick slices shows less along its normal than an image of small voxels does. Where a
level of the image pyramid is finer than the slices, the slices are interpolated to the level's
spacing by a cubic spline, because linear interpolation between them smooths more in some places
than in others, and the sharper image is smoothed along the normal of the slices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn3d import kernels
from stn3d.grid import Grid
from stn3d.preprocessing.continuation import continued
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.transforms import Linear

THICK = 1.4
"""Ratio of the slices' distance to the level's spacing from which they are thick."""
MIN_SLICES = 8
"""Fewer slices do not show the shape of anything between them."""
_LEVELS_PER_SLICE = 3.0  # finer levels than a slice's thickness over this show nothing new
_MOST_SMOOTHING = 2.0  # factor
_SLICE_SD = 0.4  # SD of a slice's profile, as a fraction of the slices' distance
_VOXEL_SD = 0.5  # SD of what a voxel of a level shows, in voxels; see `resample_image`
_LEAST_SD = 0.25  # of the level's spacing; less smoothing is omitted
_WHOLE = 0.99  # weight of a voxel between slices that are not excluded
_REACH = 2.5  # of a Gaussian, in SDs


def level_grid(grid: Grid, spacing_mm: float) -> Grid:
    """The grid of an image on a level: no axis is finer than the image's own, but for the normal of
    thick slices.

    Args:
        grid: Grid of the image.
        spacing_mm: Spacing of the level.
    """
    coarse = grid.coarsened(spacing_mm)
    shape = list(coarse.shape)
    for axis in thick_axes(grid, spacing_mm):
        shape[axis] = round(grid.size_mm[axis] / spacing_mm)
    return coarse.with_shape(shape)


def thick_axes(grid: Grid, spacing_mm: float) -> list[int]:
    """Axes along which slices are thick on a level.

    Args:
        grid: Grid of the image.
        spacing_mm: Spacing of the level.
    """
    axes = enumerate(zip(grid.shape, grid.spacing_mm, strict=True))
    return [axis for axis, (n, s) in axes if n >= MIN_SLICES and s > THICK * spacing_mm]


def thickness_mm(pair: Pair, spacing_mm: float) -> float:
    """Distance of the thickest slices of a pair on a level; 0 without thick slices.

    Args:
        pair: The images; only their grids are used.
        spacing_mm: Spacing of the level.
    """
    grids = pair.fixed.grid, pair.moving.grid
    thick = [grid.spacing_mm[a] for grid in grids for a in thick_axes(grid, spacing_mm)]
    return max(thick, default=0.0)


def supported_spacings_mm(pair: Pair, spacings_mm: Sequence[float]) -> list[float]:
    """The levels of an image pyramid that the slices of both images support.

    A last level that is finer than a third of the thickness is omitted, or made that coarse where
    the one before it is much coarser.

    Args:
        pair: The images; only their grids are used.
        spacings_mm: Spacings of the levels, coarse to fine.
    """
    kept: list[float] = []
    for spacing in spacings_mm:
        supported = max(spacing, thickness_mm(pair, spacing) / _LEVELS_PER_SLICE)
        if not kept or supported == spacing or kept[-1] > THICK * supported:
            kept.append(supported)
    return kept


def extra_floats(pair: Pair, spacings_mm: Sequence[float], channels: int) -> int:
    """Highest number of float32 values that thick slices need besides the image pyramids.

    Args:
        pair: The images; only their grids are used.
        spacings_mm: Spacings of the levels, coarse to fine.
        channels: Number of channels of either image.
    """
    if thickness_mm(pair, spacings_mm[-1]) == 0:
        return 0
    voxels = sum(
        level_grid(image.grid, spacing).num_voxels
        for spacing in spacings_mm
        for image in (pair.fixed, pair.moving)
    )
    return 2 * (channels + 1) * voxels  # interpolated or smoothed, and the sum of the smoothing


def smoothing_factor(pair: Pair, spacing_mm: float) -> float:
    """How much smoother than on a level of cubic voxels a deformation should be, 1 to 2.

    Voxels of thick slices show less about the deformation, and interpolated ones repeat it.

    Args:
        pair: The images; only their grids are used.
        spacing_mm: Spacing of the level.
    """
    return min(_MOST_SMOOTHING, max(1.0, thickness_mm(pair, spacing_mm) / spacing_mm))


def at_common_resolution(
    pair: Pair, linear: Linear, spacing_mm: float
) -> tuple[PreparedImage, PreparedImage]:
    """The fixed and the moving image on a level, neither of them sharper than the other.

    Args:
        pair: The prepared images.
        linear: Rough alignment, fixed points to moving points; only directions matter.
        spacing_mm: Spacing of the level.
    """
    matrix = linear.matrix[:-1, :-1]
    fixed, moving = pair.fixed.grid, pair.moving.grid
    return (
        _as_smooth(on_level(pair.fixed, spacing_mm), fixed, moving, matrix.inverse(), spacing_mm),
        _as_smooth(on_level(pair.moving, spacing_mm), moving, fixed, matrix, spacing_mm),
    )


def on_level(image: PreparedImage, spacing_mm: float) -> PreparedImage:
    """An image on its `level_grid`, computed once; that of `PreparedImage.at` without thick slices.

    Args:
        image: The image.
        spacing_mm: Spacing of the level.
    """
    level, grid = image.at(spacing_mm), level_grid(image.grid, spacing_mm)
    if grid.shape == level.grid.shape:
        return level
    return image.cached(("slices", spacing_mm), lambda: _interpolated(level, grid))


def _interpolated(level: PreparedImage, grid: Grid) -> PreparedImage:
    """A level on a grid that is finer along some axes; labels by lines.

    Slices that a mask excludes are continued before, because they would reach beyond the mask, and
    what lies between one of them and its neighbour is excluded.
    """
    values, mask = continued(level).image, level.mask
    for axis, (n, m) in enumerate(zip(level.grid.shape, grid.shape, strict=True)):
        if n != m:
            lines = _line_weights(n, m)
            weights = lines if level.has_labels else _spline_weights(n, m)
            values = _along(values, weights, axis + 2)
            mask = None if mask is None else (_along(mask, lines, axis + 2) > _WHOLE).to(mask)
    return replace(level, image=values, mask=mask, grid=grid)


def _along(values: Tensor, weights: NDArray[Any], axis: int) -> Tensor:
    """Sums of voxels along an axis, by weights ``(m, n)``."""
    matrix = torch.from_numpy(weights).to(values)
    return (values.movedim(axis, -1) @ matrix.T).movedim(-1, axis).contiguous()


def _places(n: int, m: int) -> NDArray[Any]:
    """Indices of m voxels on an axis of n voxels over the same extent."""
    return np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, n - 1)


def _spline_weights(n: int, m: int) -> NDArray[Any]:
    """Weights of n voxels in m interpolated ones, ``(m, n)``: the natural cubic spline."""
    from scipy.interpolate import make_interp_spline  # slow, and most images have no thick slices

    spline = make_interp_spline(np.arange(n), np.eye(n), k=3, bc_type="natural")
    return np.asarray(spline(_places(n, m)))


def _line_weights(n: int, m: int) -> NDArray[Any]:
    """The same by lines."""
    return np.clip(1 - np.abs(_places(n, m)[:, None] - np.arange(n)), 0, None)


def _as_smooth(
    level: PreparedImage, own: Grid, other: Grid, own_from_other: Tensor, spacing_mm: float
) -> PreparedImage:
    """A level smoothed along the normals of the other image's thick slices, to their resolution.

    Args:
        level: The level; where a mask excludes voxels, their surroundings are `continued` first.
        own: Grid of the image.
        other: Grid of the other image.
        own_from_other: ``(d, d)``, directions in the image's world from the other one's.
        spacing_mm: Spacing of the level.
    """
    covariance = _covariance(own, spacing_mm)
    for sd_mm in _slice_profiles(other, spacing_mm):
        wanted = own_from_other @ sd_mm
        length_mm = float(wanted.norm())
        direction = wanted / length_mm
        missing = length_mm**2 - float(direction @ covariance @ direction)
        if missing > (_LEAST_SD * spacing_mm) ** 2:
            level = _smoothed_once(continued(level), math.sqrt(missing) * direction)
    return level


def _covariance(grid: Grid, spacing_mm: float) -> Tensor:
    """What a voxel of a level shows, as a covariance in world mm^2, ``(d, d)``."""
    found = torch.eye(grid.ndim, dtype=torch.float64) * (_VOXEL_SD * spacing_mm) ** 2
    for sd_mm in _slice_profiles(grid, spacing_mm):
        direction = sd_mm / sd_mm.norm()
        more = float(sd_mm @ sd_mm) - (_VOXEL_SD * spacing_mm) ** 2
        found += max(more, 0.0) * torch.outer(direction, direction)
    return found


def _slice_profiles(grid: Grid, spacing_mm: float) -> Iterator[Tensor]:
    """The SD of the profile of thick slices along their normal, a world vector in mm."""
    for axis in thick_axes(grid, spacing_mm):
        others = [a for a in range(grid.ndim) if a != axis]
        step = grid.world_from_index[:-1, axis]
        plane, _ = torch.linalg.qr(grid.world_from_index[:-1][:, others])
        normal = step - plane @ (plane.T @ step)
        yield _SLICE_SD * normal


def _smoothed_once(image: PreparedImage, sd_mm: Tensor) -> PreparedImage:
    """See `_smoothed`; a stage compares a level several times by one linear transform."""
    key = "smoothed", *sd_mm.tolist()
    return image.cached(key, lambda: _smoothed(image, sd_mm))


def _smoothed(image: PreparedImage, sd_mm: Tensor) -> PreparedImage:
    """An image smoothed by a Gaussian along a direction; its mask stays as it is.

    Args:
        image: The image.
        sd_mm: Direction whose length is the standard deviation, world mm.
    """
    grid = image.grid
    step = grid.index_from_world[:-1, :-1] @ sd_mm
    sd_vox = float(step.abs().max())
    reach = math.ceil(_REACH * sd_vox)
    shown = torch.cat([image.image, torch.ones_like(image.image[:, :1])], dim=1)
    total = torch.zeros_like(shown)
    for k in range(-reach, reach + 1):
        shift = torch.eye(grid.ndim + 1, dtype=torch.float64)
        shift[:-1, -1] = k / sd_vox * step
        weight = math.exp(-0.5 * (k / sd_vox) ** 2)
        total += weight * kernels.resample(shown, shift, grid.shape)
    return replace(image, image=total[:, :-1] / total[:, -1:].clamp(min=1e-6))
