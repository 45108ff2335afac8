"""Thick slices that were interpolated to small voxels before: the image on its slices again.

Clinical images often come on cubic voxels that repeat what thick slices show. All that
`stn3d.preprocessing.resolution` does about thick slices follows from the grid of an image, so such
an image is sampled at its slices. It shows lower frequencies along one axis than along the others,
the variance of its second differences has the period of the slices, and lines or cubic splines
through them reproduce it, which is the proof.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn3d import kernels
from stn3d.grid import Grid
from stn3d.preprocessing.frequencies import BACKGROUND, squared_frequency
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.preprocessing.resolution import MIN_SLICES, THICK
from stn3d.reductions import voxel_sum

_SHARP = 0.6  # squared frequency, (rad / voxel)^2; images that are blurred alike have less
_WHOLE = 0.99  # weight of a slice that is not excluded
_MIN_PLANES, _MIN_IN_PLANE = 16, 100
_DEGREE = 5  # of the polynomial that anatomy follows across the planes
_FREQUENCIES = 4096
_PERIODS = 0.75, 3.0  # of the second differences, relative to the rough distance
_MIN_LINES, _MANY_LINES = 50, 4000
# Error from which slices do not reproduce an image: 8 bits of intensities cause as much, and images
# that were not interpolated have 0.02.
_REPRODUCED = 0.002
_SINGULAR = 1e-3  # weights of slices beyond the lines

Floats = NDArray[np.floating[Any]]


def on_slices(image: PreparedImage) -> PreparedImage:
    """An image on its `slices_grid`; the image itself where that is its own grid.

    Args:
        image: The image.
    """
    grid = slices_grid(image)
    if grid.shape == image.grid.shape:
        return image
    matrix = image.grid.index_from_world @ grid.world_from_index
    # By lines: nothing can alias, because the image holds no higher frequencies along the axis.
    values = kernels.resample(image.image, matrix, grid.shape)
    if image.mask is None:
        return replace(image, image=values, grid=grid)
    mask = (kernels.resample(image.mask, matrix, grid.shape) > _WHOLE).to(image.mask)
    return replace(image, image=values, grid=grid, mask=mask) if bool(mask.any()) else image


def slices_grid(image: PreparedImage) -> Grid:
    """The grid of the slices that an image was interpolated from; its own grid if it was not.

    It is its own in 2D, where the image shows too little, where it is blurred along several axes,
    and within the plane of thick slices. All contrasts must repeat the slices of the first one;
    labels are ignored.

    Args:
        image: The image.
    """
    grid = image.grid
    if grid.ndim < 3 or min(grid.shape) < 3:
        return grid
    contrasts = [_Contrast(one, grid) for one in _contrasts(image)]
    axis = contrasts[0].blurred_axis
    if axis is None:
        return grid
    for period in sorted(contrasts[0].periods(axis), reverse=True):
        options = [
            places
            for places in _places(grid.shape[axis], period)
            if len(places) >= MIN_SLICES and places[1] - places[0] >= THICK
        ]
        errors = [max(one.error(places, axis) for one in contrasts) for places in options]
        if min(errors, default=math.inf) <= _REPRODUCED:
            return _at_places(grid, axis, options[errors.index(min(errors))])
    return grid


def _at_places(grid: Grid, axis: int, places: Floats) -> Grid:
    """The grid of slices at places along an axis, in voxels, of equal distances."""
    index = torch.eye(grid.ndim + 1, dtype=torch.float64)
    index[axis, axis], index[axis, -1] = float(places[1] - places[0]), float(places[0])
    shape = [len(places) if a == axis else n for a, n in enumerate(grid.shape)]
    return Grid(tuple(shape), grid.world_from_index @ index)


def _contrasts(image: PreparedImage) -> Iterator[tuple[Tensor, Tensor]]:
    """The first channel of every contrast, ``(*shape)``, and where it shows anything."""
    for one, kind in zip(image.groups, image.channel_groups or [None], strict=True):
        if kind is None or not kind.labels:
            shown = one.image[0, 0] > BACKGROUND
            yield one.image[0, 0], shown if one.mask is None else shown & (one.mask[0, 0] > _WHOLE)


class _Contrast:
    """A contrast and its differences along each axis."""

    def __init__(self, contrast: tuple[Tensor, Tensor], grid: Grid) -> None:
        self.values, self.shown = contrast
        self._spacing = grid.spacing_mm
        parts = self.values[None, None], self.shown[None, None]
        self._squared = [squared_frequency(*parts, axis) for axis in range(grid.ndim)]

    @property
    def blurred_axis(self) -> int | None:
        """The axis that shows lower frequencies than all others, which are sharp."""
        squared = self._squared
        axis = min(range(len(squared)), key=squared.__getitem__)
        others = min(value for a, value in enumerate(squared) if a != axis)
        across_thick = max(self._spacing) > THICK * self._spacing[axis]
        blurred = others >= max(_SHARP, THICK**2 * squared[axis]) and squared[axis] > 0
        return axis if blurred and not across_thick else None

    def periods(self, axis: int) -> list[float]:
        """Distances that slices across an axis may have, in voxels."""
        others = min(value for a, value in enumerate(self._squared) if a != axis)
        x, where = (one.movedim(axis, 0) for one in (self.values, self.shown))
        whole = where[:-2] & where[1:-1] & where[2:]
        second = (x[2:] - 2 * x[1:-1] + x[:-2]).square() * whole
        power, count = (voxel_sum(one, 1).double().cpu().numpy() for one in (second, whole))
        return _periods(power, count, math.sqrt(others / self._squared[axis]))

    def error(self, places: Floats, axis: int) -> float:
        """How well slices at places along an axis reproduce the middle half of the contrast: mean
        square error relative to that of first differences; infinite where too little is shown."""
        n = self.values.shape[axis]
        window = slice(n // 4, n - n // 4)
        lines, shown = (
            one.movedim(axis, 0)[window].flatten(1)
            for one in (self.values, self.shown & (self.values < self.values.max()))
        )  # intensities were cut off at the highest one
        lines = lines[:, shown.all(dim=0)]
        if lines.shape[1] < _MIN_LINES:
            return math.inf
        found: Floats = lines[:, :: -(-lines.shape[1] // _MANY_LINES)].double().cpu().numpy()
        voxels = np.arange(n)[window]
        least = min(_error(found, _weights(places, voxels, degree)) for degree in (1, 3))
        return least / max(float((((found[2:] - found[:-2]) / 2) ** 2).mean()), 1e-12)


def _error(lines: Floats, weights: Floats) -> float:
    """Mean square error of the best fit of ``weights`` ``(voxels, slices)`` to lines ``(voxels,
    n)``, for each voxel more than the slices that determine it."""
    u, strength, _ = np.linalg.svd(weights, full_matrices=False)
    basis = u[:, strength > _SINGULAR * strength[0]]
    spare = len(lines) - basis.shape[1]
    square = float(((lines - basis @ (basis.T @ lines)) ** 2).sum(axis=0).mean())
    return square / spare if spare > 0 else math.inf


def _places(n: int, period: float) -> Iterator[Floats]:
    """Slices in n voxels by the conventions of tools: over the extent of the voxels, from the first
    voxel on, and from the first to the last one."""
    count = max(2, round(n / period))
    yield (np.arange(count) + 0.5) * n / count - 0.5
    yield np.arange(int((n - 1) / period + 1e-3) + 1) * period
    yield np.linspace(0, n - 1, max(2, round((n - 1) / period) + 1))


def _weights(places: Floats, voxels: NDArray[Any], degree: int) -> Floats:
    """Weights of slices in interpolated voxels, ``(voxels, slices)``; constant at the ends."""
    from scipy.interpolate import make_interp_spline  # slow, and few images need it

    spline = make_interp_spline(places, np.eye(len(places)), k=degree)
    return np.asarray(spline(np.clip(voxels, places[0], places[-1])))


def _periods(power: Floats, count: Floats, rough: float) -> list[float]:
    """Distances that slices may have, in voxels.

    The variance of what was interpolated depends on where it lies between two slices (Gallagher
    2005, "Detection of linear and cubic interpolation in JPEG compressed images"), so the second
    differences have the period of the slices. Below two voxels that appears as a longer one, and
    at two voxels there is none.

    Args:
        power: ``(planes,)``, sums of squares of the second differences over planes of voxels.
        count: ``(planes,)``, number of voxels that were summed.
        rough: Rough distance.
    """
    found = [2.0]
    planes = np.flatnonzero(count >= _MIN_IN_PLANE)
    if len(planes) < _MIN_PLANES or planes[-1] - planes[0] >= len(planes):
        return found
    mean, at = power[planes] / count[planes], np.linspace(-1, 1, len(planes))
    profile = np.log(mean + 1e-4 * mean.mean() + 1e-12)
    profile -= np.polynomial.Polynomial.fit(at, profile, _DEGREE)(at)
    amplitudes = np.abs(np.fft.rfft(profile * np.hanning(len(profile)), _FREQUENCIES))[1:]
    periods = _FREQUENCIES / np.arange(1, len(amplitudes) + 1)
    low, high = (factor * rough for factor in _PERIODS)
    near = (periods >= max(low, 2)) & (periods <= high)
    if near.any():
        best = float(periods[np.argmax(np.where(near, amplitudes, -1))])
        found += [best] if best < 2.02 else [best, best / (best - 1)]
    return found
