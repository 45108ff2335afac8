"""Images that end where the other one goes on: a skull-stripped brain and a whole head.

Around the content of a stripped image there is a constant background. If the other image shows
tissue there, the edge of the content has no counterpart, and a metric that compares it would match
it to the next edge outside: the cortex to the scalp. Such a pair is compared only where both images
show something, first within the content, then, once it is aligned, within the part of the other
image that it covers.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from stn3d import kernels
from stn3d.grid import Grid, homogeneous
from stn3d.preprocessing.intensity import constant_background
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.automatic import Selection
from stn3d.transforms import Affine, Linear, Transform
from stn3d.warp import resample_image, warp_image

Role = Literal["fixed", "moving"]
Voxels = NDArray[np.bool_]
_ROLES: tuple[Role, Role] = ("fixed", "moving")

# Lengths are fractions of the size of the content: of the edge of a cube of its volume.
_SHELL = (0.05, 0.12)  # inner and outer distance of the shell around the content
_MARGIN = 0.027  # around the content, for the linear stages; they need its edge
_VOXELS = 10  # along the size of the content, on the finest level of the linear stages
_FILLED = 0.6  # of the shell; an image ends if the other one shows tissue in more of it
SURELY_FILLED = 0.7  # of the shell, under a transform of any scale; not so for a smaller brain
_VISIBLE = 0.2  # of the shell; less of it in the other image's field of view is no evidence
_EQUAL = 1e-3  # of the intensity range; values that differ by less are equal
_TISSUE = 0.05  # of the intensity range, and
_OF_MEAN = 0.5  # of the mean intensity; tissue is brighter than either
_PART = 0.1  # of the largest connected part; smaller ones are ignored


@dataclass(frozen=True, eq=False)
class SharedContent:
    """A pair of which one image ends where the other goes on.

    Args:
        pair: The prepared images.
        role: The image that ends.
        spacing_mm: Spacing of the grid on which its content was found.
    """

    pair: Pair
    role: Role
    spacing_mm: float

    @property
    def within(self) -> Pair:
        """The pair with a mask of the content on the image that ends."""
        return self._masked(self.role, self._mask(0.0))

    def around(self, transform: Transform) -> Pair:
        """The pair with a mask on the image that goes on: where a transform maps the content and
        its edge.

        Args:
            transform: Fixed points to moving points.
        """
        return self._masked_through(transform, _MARGIN)

    def covered(self, transform: Transform) -> Pair:
        """The pair with a mask on the image that goes on: where a transform maps the content.

        Args:
            transform: Fixed points to moving points.
        """
        return self._masked_through(transform, 0.0)

    @property
    def finest_linear_mm(self) -> float:
        """Spacing down to which the linear stages go: coarser voxels hardly show the content."""
        outline = _outline(getattr(self.pair, self.role), self.spacing_mm)
        assert outline is not None
        return outline.size_mm / _VOXELS

    def fraction(self, transform: Transform) -> float:
        """Fraction of the shell around the content in which the other image shows tissue.

        Args:
            transform: Fixed points to moving points.
        """
        return _continuation_fraction(self.pair, self.role, transform, self.spacing_mm)

    def is_confirmed(self, transform: Transform, limit: float = _FILLED) -> bool:
        """Whether the other image goes on around the content under a transform.

        Args:
            transform: Fixed points to moving points.
            limit: Smallest fraction of the shell.
        """
        return self.fraction(transform) >= limit

    def selection(self, transform: Transform) -> Selection:
        """The content as the selected region, and why.

        Args:
            transform: Fixed points to moving points.
        """
        other = _other(self.role)
        fraction = self.fraction(transform)
        reason = (
            f"the {self.role} image has a constant background and the {other} image shows tissue "
            f"in {fraction:.0%} of it near the content, as with a skull-stripped brain and a whole "
            f"head; for a more exact region give a brain mask by --{other}-mask"
        )
        return Selection(f"content of the {self.role} image", reason, {"tissue_around": fraction})

    def _masked_through(self, transform: Transform, margin: float) -> Pair:
        own, other = getattr(self.pair, self.role), getattr(self.pair, _other(self.role))
        own_from_other = transform.inverse() if self.role == "fixed" else transform
        mask = warp_image(self._mask(margin), own.grid, own_from_other, other.grid)
        return self._masked(_other(self.role), (mask > 0.5).to(mask))

    def _masked(self, role: Role, mask: Tensor) -> Pair:
        """The pair with a further mask on one image; pyramids are computed again."""
        image: PreparedImage = getattr(self.pair, role)
        both = mask if image.mask is None else mask * image.mask
        masked = dataclasses.replace(image, mask=both)
        if role == "fixed":
            return dataclasses.replace(self.pair, fixed=masked)
        return dataclasses.replace(self.pair, moving=masked)

    def _mask(self, margin: float) -> Tensor:
        """``(1, 1, *shape)``, 1 in the content and in a margin around it."""
        image: PreparedImage = getattr(self.pair, self.role)
        outline = _outline(image, self.spacing_mm)
        assert outline is not None
        near = ndimage.binary_dilation(outline.content)
        deep = ndimage.binary_erosion(outline.content)
        inner, outer = (
            warp_image(_tensor(part, image), outline.grid, Affine.identity(part.ndim), image.grid)
            for part in (deep, near)
        )
        content = ((inner > 0.5) | (_not_blank(image) & (outer > 0.5))).to(image.image)
        if margin == 0:
            return content
        radii = [max(1, round(margin * outline.size_mm / s)) for s in image.grid.spacing_mm]
        return (kernels.box_sum(content, radii) > 0.5).to(content)


def shared_content(
    pair: Pair, transform: Transform, spacing_mm: float, constant: tuple[bool, bool]
) -> SharedContent | None:
    """The content that a pair shares if one image seems to end where the other goes on.

    A transform that was found without this knowledge may have shrunk the image that goes on, so its
    rotation and translation alone count too. Confirm the result by a transform that was estimated
    within the content (`SharedContent.is_confirmed`).

    Args:
        pair: The prepared images.
        transform: Rough alignment, fixed points to moving points.
        spacing_mm: Spacing of the grid on which the images are compared.
        constant: Whether the background of the fixed and of the moving image is constant.
    """
    roles: list[Role] = [role for role, one in zip(_ROLES, constant, strict=True) if one]
    ways = [transform, *([unscaled(transform, pair)] if isinstance(transform, Linear) else [])]
    fractions = {
        role: max(_continuation_fraction(pair, role, way, spacing_mm) for way in ways)
        for role in roles
    }
    role = max(fractions, key=fractions.__getitem__, default=None)
    if role is None or fractions[role] < _FILLED:
        return None
    return SharedContent(pair, role, spacing_mm)


def unscaled(transform: Linear, pair: Pair) -> Affine:
    """The rigid part of a linear transform, about the centre of the fixed image."""
    centre_mm = pair.fixed.grid.centre_mm
    u, _, v = torch.linalg.svd(transform.matrix[:-1, :-1])
    target_mm = transform(centre_mm[None])[0]
    return Affine.from_matrix(homogeneous(u @ v, target_mm - u @ v @ centre_mm), centre_mm)


def _other(role: Role) -> Role:
    return "moving" if role == "fixed" else "fixed"


def _continuation_fraction(
    pair: Pair, role: Role, transform: Transform, spacing_mm: float
) -> float:
    """How much of the shell around an image's content is tissue in the other image; 0 if there is
    no content with a constant background, or too little of the shell is visible."""
    images = pair.fixed.at(spacing_mm), pair.moving.at(spacing_mm)
    own, other = images if role == "fixed" else images[::-1]
    outline = _outline(getattr(pair, role), spacing_mm)
    if outline is None or _volume_mm(_bright(other), other.grid) < outline.size_mm**other.grid.ndim:
        return 0.0  # no content, or no more in the other image
    grid = images[0].grid

    def on_fixed(values: Tensor, image: PreparedImage) -> Tensor:
        if image is images[1]:
            values = warp_image(values, image.grid, transform, grid)
        return values > 0.5

    shell = on_fixed(_tensor(outline.shell, own), own)
    for image in images:
        mask = image.with_mask().mask
        assert mask is not None
        shell &= on_fixed(mask, image)
    visible = int(shell.sum())
    if _volume_mm(shell, grid) <= _VISIBLE * _volume_mm(outline.shell, own.grid):
        return 0.0
    return int((shell & on_fixed(_tissue(other), other)).sum()) / visible


@dataclass(frozen=True, eq=False)
class _Outline:
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


def _outline(image: PreparedImage, spacing_mm: float) -> _Outline | None:
    """The outline of an image, computed once; None without a constant background."""
    return image.cached(("outline", spacing_mm), lambda: _find_outline(image, spacing_mm))


def _find_outline(image: PreparedImage, spacing_mm: float) -> _Outline | None:
    grid = image.grid.coarsened(spacing_mm)
    if _background(image) is None:
        return None
    shown = _not_blank(image).to(image.image)
    if grid.shape != image.grid.shape:
        shown = resample_image(shown, image.grid, grid)
    content = _solid((shown[0, 0] > 0.5).cpu().numpy())
    if not content.any():
        return None
    size_mm = _volume_mm(content, grid) ** (1 / content.ndim)
    box = tuple(slice(int(at.min()), int(at.max()) + 1) for at in content.nonzero())
    distance_mm = ndimage.distance_transform_edt(~content[box], sampling=grid.spacing_mm)
    near_mm, far_mm = (fraction * size_mm for fraction in _SHELL)
    shell = np.zeros_like(content)
    shell[box] = (distance_mm > near_mm) & (distance_mm <= far_mm)
    return _Outline(grid, content, shell, size_mm)


def _background(image: PreparedImage) -> float | None:
    return image.cached("background", lambda: constant_background(image.image[:, :1]))


def _not_blank(image: PreparedImage) -> Tensor:
    """``(1, 1, *shape)`` bool: voxels that differ from the constant background."""
    return (image.image[:, :1] - (_background(image) or 0.0)).abs() > _EQUAL


def _bright(image: PreparedImage) -> Voxels:
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


def _tissue(image: PreparedImage) -> Tensor:
    """``(1, 1, *shape)``, 1 in tissue and in all that it encloses in any plane."""

    def make() -> Tensor:
        closed = ndimage.binary_closing(np.pad(_bright(image), 2), iterations=2)
        solid = _solid(closed[(slice(2, -2),) * closed.ndim])
        for axis in range(solid.ndim if solid.ndim == 3 else 0):
            for plane in np.moveaxis(solid, axis, 0):
                plane[...] = ndimage.binary_fill_holes(plane)
        return _tensor(solid, image)

    return image.cached("tissue", make)


def _volume_mm(voxels: Voxels | Tensor, grid: Grid) -> float:
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


def _tensor(voxels: Voxels, like: PreparedImage) -> Tensor:
    return torch.from_numpy(voxels)[None, None].to(like.image)
