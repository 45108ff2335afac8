"""Thick slices that were interpolated to small voxels before: the image on its slices again.

Clinical images often come on cubic voxels that repeat what thick slices show. All that
`stn3d.preprocessing.resolution` does about thick slices follows from the grid of an image, so such
an image is sampled at the distance of its slices. They are recognised by the frequencies along each
axis, since interpolation adds none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from stn3d import kernels
from stn3d.grid import Grid
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.preprocessing.resolution import MIN_SLICES, THICK
from stn3d.reductions import voxel_sum

_BACKGROUND = 0.05  # of the intensity range
_MIN_VOXELS = 1000  # along each axis; fewer say nothing
_MANY_VOXELS = 1 << 21  # more are not needed
_SHARP = 0.6  # squared frequency, (rad / voxel)^2; images that are blurred alike have less
_WHOLE = 0.99  # weight of a slice that is not excluded

# The period of second differences: amplitudes of their logarithm, and multiples of the thickness.
_MIN_PLANES, _MIN_IN_PLANE = 16, 100
_DEGREE = 5  # of the polynomial that anatomy follows
_FREQUENCIES = 4096
_SHOWN, _UNTIL = 0.3, (0.75, 1.35)  # from cubic splines on; anatomy alone has up to 0.13
_CLEAR, _CLEAR_UNTIL = 1.5, 3.0  # lines have nearly no second differences between the slices
_TWO, _MAY_BE_TWO = 2.0, 2.6  # slices of two voxels show no period


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

    Of several contrasts the one with the thinnest slices counts; labels are ignored.

    Args:
        image: The image.
    """
    grid, thickness = image.grid, thickness_vox(image)
    if max(thickness) < THICK:
        return grid
    axis = thickness.index(max(thickness))
    count = round(grid.shape[axis] / thickness[axis])
    if count < MIN_SLICES:
        return grid
    return grid.with_shape([count if a == axis else n for a, n in enumerate(grid.shape)])


def thickness_vox(image: PreparedImage) -> list[float]:
    """How thick the slices across each axis are that an image was interpolated from, in voxels.

    The highest frequency that slices show is inverse to their distance. That of the blurrier one of
    the other axes counts as that of one voxel, so slices are estimated too thin rather than too
    thick, unless the slices show in the second differences. 1 where nothing can be told: in 2D,
    where the image shows too little, where it is blurred along another axis too, and within the
    plane of thick slices.

    Args:
        image: The image.
    """
    thickness = [1.0] * image.grid.ndim
    if image.grid.ndim < 3:
        return thickness
    found = [_thickness_vox(one) for one in _contrasts(image)]
    return [min(each) for each in zip(*found, strict=True)]


def _contrasts(image: PreparedImage) -> list[PreparedImage]:
    kinds = image.channel_groups or [None]
    return [
        one for one, kind in zip(image.groups, kinds, strict=True) if not (kind and kind.labels)
    ]


def _thickness_vox(image: PreparedImage) -> list[float]:
    """`thickness_vox` of a single contrast."""
    shown = image.image[:, :1] > _BACKGROUND
    if image.mask is not None:
        shown &= image.mask > _WHOLE
    axes, spacing = range(image.grid.ndim), image.grid.spacing_mm
    found = [_Differences.of(image.image[:, :1], shown, axis) for axis in axes]
    squared = [one.squared_frequency for one in found]
    thickness = [1.0 for _ in axes]
    for axis in axes:
        others = min(squared[a] for a in axes if a != axis)
        across_thick = max(spacing) > THICK * spacing[axis]
        if squared[axis] > 0 and others >= _SHARP and not across_thick:
            thickness[axis] = math.sqrt(others / squared[axis])
        if thickness[axis] >= THICK:
            thickness[axis] = found[axis].period_near(thickness[axis])
    return thickness


@dataclass(frozen=True, eq=False)
class _Differences:
    """Differences along an axis, summed over planes across it.

    Args:
        first: ``(planes,)``, sums of squares of the first differences.
        second: ``(planes,)``, the same of the second differences.
        count: ``(planes,)``, number of voxels that were summed.
    """

    first: Tensor
    second: Tensor
    count: Tensor

    @classmethod
    def of(cls, values: Tensor, shown: Tensor, axis: int) -> _Differences:
        """Those of ``values`` ``(1, 1, *shape)`` where ``shown``, of the same shape, is true."""
        step = math.ceil(math.sqrt(values.numel() / _MANY_VOXELS))
        lines = (slice(None), *(slice(None, None, step) for _ in range(values.ndim - 3)))
        x, where = (one[0, 0].movedim(axis, 0)[lines] for one in (values, shown))
        whole = where[:-2] & where[1:-1] & where[2:]
        first, second = (x[2:] - x[:-2]) / 2, x[2:] - 2 * x[1:-1] + x[:-2]
        return cls(*(voxel_sum(one * whole, 1).double() for one in (first**2, second**2, whole)))

    @property
    def squared_frequency(self) -> float:
        """Mean square of second differences relative to that of first differences: that of one wave
        is the square of its frequency in radians per voxel. 0 where too little is shown."""
        first, second, count = (float(one.sum()) for one in (self.first, self.second, self.count))
        return second / first if first > 0 and count >= _MIN_VOXELS else 0.0

    def period_near(self, thickness: float) -> float:
        """The period of the second differences near a thickness; without one, the thickness, or two
        voxels where it may be that.

        The variance of what was interpolated depends on where it lies between two slices (Gallagher
        2005, "Detection of linear and cubic interpolation in JPEG compressed images").

        Args:
            thickness: Rough thickness, in voxels.
        """
        other = min(thickness, _TWO) if thickness < _MAY_BE_TWO else thickness
        planes = (self.count >= _MIN_IN_PLANE).nonzero().flatten().tolist()
        if len(planes) < _MIN_PLANES or planes[-1] - planes[0] >= len(planes):
            return other
        power = (self.second / self.count)[planes].cpu().numpy()
        profile, at = np.log(power + 1e-4 * power.mean() + 1e-12), np.linspace(-1, 1, len(power))
        profile -= np.polynomial.Polynomial.fit(at, profile, _DEGREE)(at)
        window = np.hanning(len(profile))
        amplitudes = 2 * np.abs(np.fft.rfft(profile * window, _FREQUENCIES)) / window.sum()
        for least, (low, high) in ((_CLEAR, (_UNTIL[0], _CLEAR_UNTIL)), (_SHOWN, _UNTIL)):
            periods = _FREQUENCIES / np.arange(1, len(amplitudes))
            inside = (periods >= max(low * thickness, 2)) & (periods <= high * thickness)
            best = int(np.argmax(np.where(inside, amplitudes[1:], 0)))
            if inside.any() and amplitudes[1 + best] >= least:
                return float(periods[best])
        return other
