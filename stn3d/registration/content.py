"""Images that end where the other one goes on: a skull-stripped brain and a whole head.

Around the content of a stripped image there is a constant background. If the other image shows
tissue there, the edge of the content has no counterpart, and a metric that compares it would match
it to the next edge outside: the cortex to the scalp. Such a pair is compared only where both images
show something, first within the content, then, once it is aligned, within the part of the other
image that it covers.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch
from scipy import ndimage
from torch import Tensor

from stn3d import kernels
from stn3d.grid import homogeneous
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.automatic import Selection
from stn3d.registration.outline import (
    as_tensor,
    bright_voxels,
    not_blank,
    outline_of,
    tissue,
    volume_mm,
)
from stn3d.transforms import Affine, Linear, Transform
from stn3d.warp import warp_image

Role = Literal["fixed", "moving"]
_ROLES: tuple[Role, Role] = ("fixed", "moving")

# Lengths are fractions of the size of the content: of the edge of a cube of its volume.
_MARGIN = 0.027  # around the content, for the linear stages; they need its edge
_WIDE_MARGIN = 0.06  # for the deformable stage of different contrasts
_VOXELS = 10  # along the size of the content, on the finest level of the linear stages
_FILLED = 0.6  # of the shell; an image ends if the other one shows tissue in more of it
SURELY_FILLED = 0.7  # of the shell, under a transform of any scale; not so for a smaller brain
_VISIBLE = 0.2  # of the shell; less of it in the other image's field of view is no evidence


@dataclass(frozen=True, eq=False)
class SharedContent:
    """A pair of which one image ends where the other goes on.

    Args:
        pair: The prepared images.
        role: The image that ends.
        spacing_mm: Spacing of the grid on which its content was found.
        is_ct: Whether both images are CT in HU.
    """

    pair: Pair
    role: Role
    spacing_mm: float
    is_ct: bool = False

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

    def deformable(self, transform: Transform, same_contrast: bool) -> Pair:
        """The pair for the deformable stage: where a transform maps the content. Images of
        different contrast need its edge; two CT are compared without it, where air meets bone.

        Args:
            transform: Fixed points to moving points.
            same_contrast: Whether the metric is for the same contrast.
        """
        if not same_contrast:
            return self._masked_through(transform, _WIDE_MARGIN)
        covered = self.covered(transform)
        if not self.is_ct:
            return covered
        return dataclasses.replace(covered, **{self.role: getattr(self.within, self.role)})

    @property
    def finest_linear_mm(self) -> float:
        """Spacing down to which the linear stages go: coarser voxels hardly show the content."""
        outline = outline_of(getattr(self.pair, self.role), self.spacing_mm)
        return outline.size_mm / _VOXELS if outline is not None else self.spacing_mm

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
        outline = outline_of(image, self.spacing_mm)
        assert outline is not None
        near = ndimage.binary_dilation(outline.content)
        deep = ndimage.binary_erosion(outline.content)
        inner, outer = (
            warp_image(as_tensor(part, image), outline.grid, Affine.identity(part.ndim), image.grid)
            for part in (deep, near)
        )
        content = ((inner > 0.5) | (not_blank(image) & (outer > 0.5))).to(image.image)
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
    outline = outline_of(getattr(pair, role), spacing_mm)
    if outline is None:
        return 0.0
    if volume_mm(bright_voxels(other), other.grid) < outline.size_mm**other.grid.ndim:
        return 0.0  # no more in the other image
    grid = images[0].grid

    def on_fixed(values: Tensor, image: PreparedImage) -> Tensor:
        if image is images[1]:
            values = warp_image(values, image.grid, transform, grid)
        return values > 0.5

    shell = on_fixed(as_tensor(outline.shell, own), own)
    for image in images:
        mask = image.with_mask().mask
        assert mask is not None
        shell &= on_fixed(mask, image)
    visible = int(shell.sum())
    if volume_mm(shell, grid) <= _VISIBLE * volume_mm(outline.shell, own.grid):
        return 0.0
    return int((shell & on_fixed(tissue(other), other)).sum()) / visible
