"""Carry an image or label map through a transform, from source to image."""

from __future__ import annotations

import dataclasses
from typing import Literal

from torch import Tensor

from stn3d.errors import InputError
from stn3d.io import Image, ImageSource, read_image, read_labels
from stn3d.sampler import Interpolation
from stn3d.transforms import Transform
from stn3d.warp import warp_image, warp_labels

Interpolations = Literal["auto", "linear", "nearest", "cubic", "label"]


def apply(
    transform: Transform,
    image: ImageSource,
    like: ImageSource,
    interpolation: Interpolations = "auto",
    volume: int | None = None,
) -> Image:
    """An image or label map of the moving side on the grid of an image of the fixed side.

    Args:
        transform: fixed points to moving points.
        image: what is moved.
        like: gives the grid, affine and codes.
        interpolation: ``label`` takes the largest of the linearly interpolated labels; ``auto`` is
            ``label`` for what `looks_like_labels`, else ``linear``.
        volume: which volume of a 4D image.

    Raises:
        InputError: an image is of no use, or its dimension is not the transform's.
    """
    reference = read_image(like, "like", 0, allow_constant=True)  # all volumes share one grid
    source = read_image(image, "image", volume, allow_constant=True)
    for one in (reference, source):
        if one.grid.ndim != transform.ndim:
            raise InputError(
                f"{one.name} is {one.grid.ndim}D and the transform {transform.ndim}D; "
                "give images of the transform's dimension."
            )
    if interpolation == "auto":
        interpolation = auto_interpolation(source)
    if interpolation == "label":
        labels = read_labels(image, "labels", volume)
        values = warp_labels(labels.values, labels.grid, transform, reference.grid, smooth=True)
    else:
        how: Interpolation = interpolation
        values = warp_image(source.values, source.grid, transform, reference.grid, how)
    return dataclasses.replace(reference, values=values, name=f"moved {source.name}")


def auto_interpolation(image: Image) -> Literal["linear", "label"]:
    """What ``auto`` takes for an image: ``label`` if it `looks_like_labels`, else ``linear``."""
    return "label" if looks_like_labels(image.values) else "linear"


def looks_like_labels(values: Tensor) -> bool:
    """Whether an image holds labels: whole numbers, and most neighbours of a labelled voxel equal.

    Args:
        values: ``(1, 1, *shape)``.
    """
    volume = values[0, 0]
    if bool((volume != volume.round()).any()):
        return False
    same = total = 0
    for axis, n in enumerate(volume.shape):
        a, b = volume.narrow(axis, 0, n - 1), volume.narrow(axis, 1, n - 1)
        labelled = (a != 0) & (b != 0)
        total += int(labelled.sum())
        same += int((labelled & (a == b)).sum())
    return total > 0 and same > 0.6 * total
