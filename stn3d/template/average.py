"""Running means of moved images and of displacement fields on the grid of a template."""

from __future__ import annotations

import torch
from torch import Tensor

from stn3d import kernels
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import Image
from stn3d.metrics import foreground
from stn3d.preprocessing.intensity import constant_background, scaled
from stn3d.transforms import DisplacementField, Transform
from stn3d.warp import warp_image
from stn3d.warp.fill import outside_value

SCALE = 100.0
"""Intensity in a template of the brightest foreground; the background is 0. CTs keep their HU."""

_SHARPENED_VOX = 1.0  # sigma of the unsharp mask


class MeanImage:
    """Mean of images on a grid, with one image at a time in memory.

    Intensities are scaled to the range from the background to the 99.5th percentile of the
    foreground, and then so that the median in the foreground of the previous template is that of
    the template. A voxel that fewer than half of the images show fades to the background.

    Args:
        grid: grid of the template.
        previous: the previous template ``(1, 1, *grid.shape)``, if there is one.
        is_ct: whether the images are CTs, which keep their HU.
    """

    def __init__(self, grid: Grid, previous: Tensor | None, is_ct: bool) -> None:
        self._grid, self._is_ct, self._count = grid, is_ct, 0
        self._sum = torch.zeros(1, 1, *grid.shape, dtype=torch.float64)
        self._weight = torch.zeros(1, 1, *grid.shape)
        self._background = 0.0
        self._previous = previous
        self._foreground = None if previous is None else foreground(previous)[None, None]

    def add(self, image: Image, transform: Transform) -> Tensor:
        """Add an image.

        Args:
            image: the image.
            transform: points of the template to points of the image.

        Returns:
            ``(1, 1, *grid.shape)`` the moved image as it enters the mean.
        """
        outside = outside_value("auto", image.values)
        values = image.values if self._is_ct else SCALE * scaled(image.values)
        warp = image.grid, transform, self._grid
        moved = warp_image(values, *warp, outside_value=outside if self._is_ct else 0.0)
        if constant_background(image.values) is None:
            seen = warp_image(torch.ones_like(values), *warp)
            moved *= self._factor(moved, seen > 0.5)
            self._sum += moved * seen
            self._weight += seen
        else:
            moved *= self._factor(moved, None)
            self._sum += moved
            self._weight += 1
        self._count += 1
        self._background += outside if self._is_ct else 0.0
        return moved

    def _factor(self, moved: Tensor, seen: Tensor | None) -> float:
        """The factor that gives an image the median of the previous template."""
        if self._previous is None or self._foreground is None or self._is_ct:
            return 1.0
        used = self._foreground if seen is None else self._foreground & seen
        median = float(moved[used].median()) if bool(used.any()) else 0.0
        return float(self._previous[used].median()) / median if median > 0 else 1.0

    def result(self) -> Tensor:
        """``(1, 1, *grid.shape)`` mean image.

        Raises:
            InputError: it is constant, because none of the images is on the grid.
        """
        half = 0.5 * self._count
        missing = (half - self._weight).clamp(min=0) * (self._background / max(self._count, 1))
        mean = ((self._sum + missing) / self._weight.clamp(min=half)).float()
        if float(mean.min()) == float(mean.max()):
            raise InputError(
                "the mean of the aligned images is constant, so their affine registrations failed; "
                "check that all images show the same object."
            )
        return mean


class MeanField:
    """Mean of displacement fields on a grid, with one field at a time in memory.

    Args:
        grid: grid of the mean.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid, self._count = grid, 0
        self._sum = torch.zeros(1, grid.ndim, *grid.shape)

    def add(self, field: DisplacementField | None) -> None:
        """Add a field; None for no displacement."""
        self._count += 1
        if field is not None:
            self._sum += on_grid(field, self._grid)

    def result(self, symmetric: bool = False) -> DisplacementField:
        """The mean; symmetric about the plane of constant x in the middle of the grid if wanted."""
        mean = self._sum / max(self._count, 1)
        if symmetric:
            other = mean.flip(2)
            other[:, 0] *= -1
            mean = 0.5 * (mean + other)
        return DisplacementField(mean, self._grid)


def on_grid(field: DisplacementField, grid: Grid) -> Tensor:
    """``(1, d, *grid.shape)`` vectors of a field at the voxels of a grid, in mm."""
    index = field.grid.index_from_world @ grid.world_from_index
    return kernels.resample(field.displacement_mm.float(), index, grid.shape)


def sharpened(values: Tensor, strength: float) -> Tensor:
    """An image plus its difference to a blurred copy (unsharp mask, sigma of 1 voxel).

    Args:
        values: ``(1, 1, *shape)``.
        strength: factor of the difference; 0 changes nothing.
    """
    if strength == 0:
        return values
    blurred = kernels.gaussian_smooth(values, [_SHARPENED_VOX] * (values.ndim - 2))
    low, high = values.aminmax()
    return (values + strength * (values - blurred)).clamp(low, high)


def sharpness(values: Tensor, grid: Grid, mask: Tensor) -> float:
    """Sharpness of an image: the root mean square gradient over the standard deviation, per mm.

    Args:
        values: ``(1, 1, *grid.shape)``.
        grid: grid of the image; its axes are those of the world.
        mask: ``grid.shape`` bool, the voxels that are used.
    """
    image = values[0, 0]
    axes = [torch.gradient(image, spacing=s, dim=a)[0] for a, s in enumerate(grid.spacing_mm)]
    squares = torch.stack([axis[mask].double().square() for axis in axes]).sum(0)
    spread = float(image[mask].double().std())
    return float(squares.mean()) ** 0.5 / spread if spread > 0 else 0.0
