"""A pair of images with the data that metrics need."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from stn3d.errors import InputError
from stn3d.io import Image, ImageSource, read_image, read_labels, read_mask, require_same_grid
from stn3d.metrics import EvaluationRegion, foreground
from stn3d.transforms import Transform


@dataclass(frozen=True, eq=False)
class EvaluationCase:
    """A pair of images with the data that metrics need.

    Args:
        fixed: the fixed image.
        moving: the moving image.
        fixed_labels: label map on the fixed image's grid.
        moving_labels: label map on the moving image's grid.
        fixed_points_mm: ``(N, d)`` landmarks in the fixed image, world RAS+ mm.
        moving_points_mm: ``(N, d)`` the same landmarks in the moving image.
        fixed_mask: mask on the fixed image's grid in which metrics are computed. Default: the
            foreground of the fixed image.
        true_transform: the known true transform, fixed points to moving points.
    """

    fixed: Image
    moving: Image
    fixed_labels: Image | None = None
    moving_labels: Image | None = None
    fixed_points_mm: Tensor | None = None
    moving_points_mm: Tensor | None = None
    fixed_mask: Image | None = None
    true_transform: Transform | None = None

    @cached_property
    def region(self) -> EvaluationRegion:
        """The fixed mask if there is one, else the foreground of the fixed image.

        Labels and landmarks do not change the region.
        """
        if self.fixed_mask is not None:
            return EvaluationRegion("mask", self.fixed_mask.values[0, 0] > 0)
        return EvaluationRegion("foreground", foreground(self.fixed.values))


def read_case(
    fixed: ImageSource,
    moving: ImageSource,
    masks: tuple[ImageSource | None, ImageSource | None],
    labels: tuple[ImageSource | None, ImageSource | None],
    volumes: tuple[int | None, int | None],
) -> tuple[EvaluationCase, Image | None]:
    """Read a pair with its masks and labels, and check that they fit together.

    Args:
        fixed: the fixed image.
        moving: the moving image, of the same dimension.
        masks: masks of the fixed and the moving image, each on its image's grid.
        labels: label maps of both images or of neither, each on its image's grid.
        volumes: volume numbers, for 4D images.

    Returns:
        The case, and the moving mask, which no metric needs.

    Raises:
        InputError: an image, mask or label map cannot be used; the message says why.
    """
    images = [
        read_image(source, role, volume)
        for source, role, volume in zip((fixed, moving), ("fixed", "moving"), volumes, strict=True)
    ]
    if images[0].grid.ndim != images[1].grid.ndim:
        raise InputError(
            f"the fixed image {images[0].name} is {images[0].grid.ndim}D and the moving image "
            f"{images[1].name} is {images[1].grid.ndim}D; give two images of one dimension."
        )
    if (labels[0] is None) != (labels[1] is None):
        given, other = ("fixed", "moving") if labels[1] is None else ("moving", "fixed")
        raise InputError(f"only {given} labels are given; give --{other}-labels too, or neither.")
    extras: list[Image | None] = []
    for read, sources, what in ((read_mask, masks, "mask"), (read_labels, labels, "labels")):
        for source, image, role in zip(sources, images, ("fixed", "moving"), strict=True):
            extra = None
            if source is not None:
                extra = read(source, f"{role} {what}", ndim=image.grid.ndim)
                require_same_grid(extra, image, f"{role} {what}")
                _require_no_negatives(extra, f"{role} {what}")
            extras.append(extra)
    fixed_mask, moving_mask, fixed_labels, moving_labels = extras
    case = EvaluationCase(images[0], images[1], fixed_labels, moving_labels, fixed_mask=fixed_mask)
    return case, moving_mask


def read_exclusion(source: ImageSource | None, image: Image, role: str) -> Image | None:
    """An exclusion mask on the grid of its image; None without a source.

    Raises:
        InputError: the mask cannot be used, or covers the whole image.
    """
    if source is None:
        return None
    what = f"{role} exclude mask"
    mask = read_mask(source, what, ndim=image.grid.ndim)
    require_same_grid(mask, image, what)
    if bool((mask.values > 0).all()):
        raise InputError(
            f"the {what} {mask.name} covers the whole image; mark only what is to be excluded."
        )
    return mask


def _require_no_negatives(image: Image, what: str) -> None:
    if image.values.dtype != torch.bool and bool((image.values < 0).any()):
        raise InputError(
            f"the {what} {image.name} hold negative numbers; give labels from 0 upward."
        )
