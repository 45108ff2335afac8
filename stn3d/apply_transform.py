"""Carry images and label maps through transforms, one volume at a time, to memory or a file."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stn3d.choices import ImageInterpolation
from stn3d.errors import InputError
from stn3d.io import (
    Image,
    ImageSource,
    Volumes,
    check_image_path,
    open_volumes,
    read_image,
    write_image,
    write_volumes,
)
from stn3d.sampler import Interpolation
from stn3d.transforms import Transform
from stn3d.warp import warp_image, warp_labels


def apply(
    transform: Transform,
    image: ImageSource,
    like: ImageSource,
    interpolation: ImageInterpolation = "auto",
    volume: int | None = None,
) -> Image:
    """An image or label map of the moving side on the grid of an image of the fixed side.

    Args:
        transform: fixed points to moving points.
        image: what is moved; of a 4D image all volumes, by the one transform.
        like: gives the grid, affine and codes.
        interpolation: ``label`` takes the largest of the linearly interpolated labels; ``auto`` is
            ``label`` for what `looks_like_labels`, else ``linear``.
        volume: the only volume of a 4D image that is wanted.

    Returns:
        The moved image; of V volumes, values are ``(1, V, *shape)``. `apply_to_file` writes them
        without holding them all.

    Raises:
        InputError: an image is of no use, or its dimension is not the transform's.
    """
    carried = _carried(transform, image, like, interpolation, volume)
    values = torch.cat(list(carried), dim=1)
    return dataclasses.replace(carried.like, values=values, name=f"moved {carried.moving.name}")


def apply_to_file(
    transform: Transform,
    image: ImageSource,
    like: ImageSource,
    path: str | os.PathLike[str],
    interpolation: ImageInterpolation = "auto",
    volume: int | None = None,
) -> ImageInterpolation:
    """Like `apply`, but the moved image goes into a file, of which one volume at a time is held.

    Args:
        path: ``.nii.gz`` or ``.nii``; for one volume also ``.mha`` or ``.nrrd``. Several volumes of
            labels are stored as int32.

    Returns:
        The interpolation that was used.

    Raises:
        InputError: as for `apply`, or the file cannot be written.
    """
    check_image_path(path)
    carried = _carried(transform, image, like, interpolation, volume)
    if len(carried.moving) == 1:
        write_image(path, next(iter(carried)), carried.like)
    else:
        carried.write(path)
    return carried.interpolation


@dataclass(frozen=True, eq=False)
class Carried:
    """Volumes on their way through transforms: one at a time is read, moved and given.

    Args:
        transforms: fixed points to moving points, one for each volume.
        moving: the volumes.
        fixed: the image of the fixed side.
        interpolation: each volume is interpolated once.
    """

    transforms: Sequence[Transform]
    moving: Volumes
    fixed: Image
    interpolation: Interpolation | Literal["label"]

    @property
    def like(self) -> Image:
        """The fixed image, its header for all volumes and with their time."""
        return self.moving.header_on(self.fixed)

    def __iter__(self) -> Iterator[Tensor]:
        """``(1, 1, *fixed.grid.shape)`` for each volume; labels are int32."""
        grid, how = self.fixed.grid, self.interpolation
        for n, transform in enumerate(self.transforms):
            if how == "label":
                labels = self.moving.labels(n)
                yield warp_labels(labels.values, labels.grid, transform, grid, smooth=True)
            else:
                image = self.moving.image(n)
                yield warp_image(image.values, image.grid, transform, grid, how)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the moved volumes one after another: float32, labels int32.

        Raises:
            InputError: a volume is of no use, or the file cannot be written.
        """
        dtype = torch.int32 if self.interpolation == "label" else torch.float32
        write_volumes(path, self, self.like, dtype)


def _carried(
    transform: Transform,
    image: ImageSource,
    like: ImageSource,
    interpolation: ImageInterpolation,
    volume: int | None,
) -> Carried:
    """All that `apply` needs, checked."""
    fixed = read_image(like, "like", 0, allow_constant=True)  # all volumes share one grid
    moving = open_volumes(image, "image", volume)
    first = moving.image(0)
    for one in (fixed, first):
        if one.grid.ndim != transform.ndim:
            raise InputError(
                f"{one.name} is {one.grid.ndim}D and the transform {transform.ndim}D; "
                "give images of the transform's dimension."
            )
    images = open_volumes(first) if len(moving) == 1 else moving  # a single one is read once
    if interpolation == "auto":
        interpolation = "label" if _all_labels(images) else "linear"
    volumes = moving if interpolation == "label" else images
    return Carried([transform] * len(volumes), volumes, fixed, interpolation)


def _all_labels(images: Iterable[Image]) -> bool:
    """Whether all that are not empty look like labels, and any is not empty."""
    found = False
    for image in images:
        if bool(image.values.any()):
            if not looks_like_labels(image.values):
                return False
            found = True
    return found


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
