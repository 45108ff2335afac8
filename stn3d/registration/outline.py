"""The outline of an image with a constant background, and where any image shows tissue."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, from_numpy

from stn3d.grid import Grid
from stn3d.preprocessing.intensity import constant_background
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.warp import resample_image

Voxels = NDArray[np.bool_]

_SHELL = (0.05, 0.12)  # inner and outer distance of the shell around the content, in its size
_EQUAL = 1e-3  # of the intensity range; values that differ by less are equal
_TISSUE = 0.05  # of the intensity range, and
_OF_MEAN = 0.5  # of the mean intensity; tissue is brighter than either
_PART = 0.1  # of the largest connected part; smaller ones are ignored


@dataclass(frozen=True, eq=False)
class Outline:
    """The content of an image with a constant background.

    Args:
        grid: Coarse grid of the voxels.
        content: Everything that the image shows, without holes.
        shell: Background around the content, within the content's bounding box: a slab in a larger
            field of view is cut at the box, and its background beyond says nothing.
        size_mm: Edge of a cube of the content's volume.
    """

    grid: Grid
    content: Voxels
    shell: Voxels
    size_mm: float


def outline_of(image: PreparedImage, spacing_mm: float) -> Outline | None:
    """The outline of an image, computed once; None without a constant background."""
    return image.cached(("outline", spacing_mm), lambda: _find_outline(image, spacing_mm))


def _find_outline(image: PreparedImage, spacing_mm: float) -> Outline | None:
    grid = image.grid.coarsened(spacing_mm)
    if _background(image) is None:
        return None
    shown = not_blank(image).to(image.image)
    if grid.shape != image.grid.shape:
        shown = resample_image(shown, image.grid, grid)
    content = _solid((shown[0, 0] > 0.5).cpu().numpy())
    if not content.any():
        return None
    size_mm = volume_mm(content, grid) ** (1 / content.ndim)
    box = tuple(slice(int(at.min()), int(at.max()) + 1) for at in content.nonzero())
    distance_mm = ndimage.distance_transform_edt(~content[box], sampling=grid.spacing_mm)
    near_mm, far_mm = (fraction * size_mm for fraction in _SHELL)
    shell = np.zeros_like(content)
    shell[box] = (distance_mm > near_mm) & (distance_mm <= far_mm)
    return Outline(grid, content, shell, size_mm)


def _background(image: PreparedImage) -> float | None:
    return image.cached("background", lambda: constant_background(image.image[:, :1]))


def not_blank(image: PreparedImage) -> Tensor:
    """``(1, 1, *shape)`` bool: voxels that differ from the constant background."""
    return (image.image[:, :1] - (_background(image) or 0.0)).abs() > _EQUAL


def bright_voxels(image: PreparedImage) -> Voxels:
    """``shape``: voxels that are brighter than air."""
    values = image.image[0, 0]
    bright = values > max(_TISSUE, _OF_MEAN * float(values.mean()), _brightest_air(values))
    found: Voxels = bright.cpu().numpy()
    return found


def _brightest_air(values: Tensor) -> float:
    """Upper end of the noise of air, which is above 0 where strong noise has both signs: at the
    darkest face of the image, twice as far above the median as the 10th percentile is below."""
    faces = [
        values.select(axis, end).flatten()
        for axis, n in enumerate(values.shape)
        for end in (0, n - 1)
    ]
    darkest = min(faces, key=lambda face: float(face.median()))
    middle = float(darkest.median())
    return middle + 2 * (middle - float(darkest.quantile(0.1)))


def tissue(image: PreparedImage) -> Tensor:
    """``(1, 1, *shape)``, 1 in tissue and in all that it encloses in any plane."""

    def make() -> Tensor:
        closed = ndimage.binary_closing(np.pad(bright_voxels(image), 2), iterations=2)
        solid = _solid(closed[(slice(2, -2),) * closed.ndim])
        for axis in range(solid.ndim if solid.ndim == 3 else 0):
            for plane in np.moveaxis(solid, axis, 0):
                plane[...] = ndimage.binary_fill_holes(plane)
        return as_tensor(solid, image)

    return image.cached("tissue", make)


def volume_mm(voxels: Voxels | Tensor, grid: Grid) -> float:
    """Volume of voxels, in mm^d."""
    return float(voxels.sum()) * math.prod(grid.spacing_mm)


def _solid(voxels: Voxels) -> Voxels:
    """The large connected parts, without holes."""
    parts, _ = ndimage.label(voxels)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    large = sizes >= max(1, _PART * sizes.max())
    solid: Voxels = ndimage.binary_fill_holes(large[parts])
    return solid


def as_tensor(voxels: Voxels, like: PreparedImage) -> Tensor:
    """``(1, 1, *shape)``, of the type and on the device of an image."""
    return from_numpy(voxels)[None, None].to(like.image)
