"""Warp images and label maps from moving to fixed space, one volume at a time."""

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
    in_dimension,
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
    """Warp an image or label map from moving to fixed space.

    Args:
        transform: fixed points to moving points.
        image: image or label map in moving space. All volumes of a 4D image are warped by the same
            transform.
        like: reference image in fixed space: defines the grid, affine and header codes.
        interpolation: ``linear``, ``nearest``, ``cubic``, ``label`` (the label with the largest
            linearly interpolated indicator) or ``auto`` (``label`` if `looks_like_labels`, else
            ``linear``).
        volume: volume number, to warp a single volume of a 4D image.

    Returns:
        The moved image. For V volumes, its values are ``(1, V, *shape)``; `apply_to_file` writes
        them one at a time instead.

    Raises:
        InputError: an image cannot be read, or its dimension differs from the transform's.
    """
    warped = _warped_volumes(transform, image, like, interpolation, volume)
    values = torch.cat(list(warped), dim=1)
    return dataclasses.replace(warped.like, values=values, name=f"moved {warped.moving.name}")


def apply_to_file(
    transform: Transform,
    image: ImageSource,
    like: ImageSource,
    path: str | os.PathLike[str],
    interpolation: ImageInterpolation = "auto",
    volume: int | None = None,
) -> ImageInterpolation:
    """Like `apply`, but write the moved image to a file, with one volume at a time in memory.

    Args:
        path: ``.nii.gz`` or ``.nii``; for a single volume also ``.mha`` or ``.nrrd``. Several
            volumes of labels are stored as int32.

    Returns:
        The interpolation that was used.

    Raises:
        InputError: see `apply`; or the file cannot be written.
    """
    check_image_path(path)
    warped = _warped_volumes(transform, image, like, interpolation, volume)
    if len(warped.moving) == 1:
        write_image(path, next(iter(warped)), warped.like)
    else:
        warped.write(path)
    return warped.interpolation


@dataclass(frozen=True, eq=False)
class WarpedVolumes:
    """Volumes warped by one transform each; iteration reads and warps one volume at a time.

    Args:
        transforms: fixed points to moving points, one for each volume.
        moving: the volumes.
        fixed: reference image in fixed space.
        interpolation: interpolation of the volumes; each is interpolated once.
    """

    transforms: Sequence[Transform]
    moving: Volumes
    fixed: Image
    interpolation: Interpolation | Literal["label"]

    @property
    def like(self) -> Image:
        """The fixed image, with a header for all volumes and their repetition time."""
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
        """Write the moved volumes one after another, as float32 (labels: int32).

        Raises:
            InputError: a volume cannot be read, or the file cannot be written.
        """
        dtype = torch.int32 if self.interpolation == "label" else torch.float32
        write_volumes(path, self, self.like, dtype)


def _warped_volumes(
    transform: Transform,
    image: ImageSource,
    like: ImageSource,
    interpolation: ImageInterpolation,
    volume: int | None,
) -> WarpedVolumes:
    """The checked arguments of `apply`."""
    fixed = read_image(like, "like", 0, allow_constant=True)  # only its grid and header are used
    fixed = in_dimension(fixed, transform.ndim)
    moving = open_volumes(image, "image", volume).in_dimension(transform.ndim)
    first = moving.image(0)
    for one in (fixed, first):
        if one.grid.ndim != transform.ndim:
            raise InputError(
                f"{one.name} is {one.grid.ndim}D and the transform {transform.ndim}D; "
                "give images of the transform's dimension."
            )
    images = open_volumes(first) if len(moving) == 1 else moving  # read one volume once
    if interpolation == "auto":
        interpolation = "label" if _all_labels(images) else "linear"
    volumes = moving if interpolation == "label" else images
    return WarpedVolumes([transform] * len(volumes), volumes, fixed, interpolation)


def _all_labels(images: Iterable[Image]) -> bool:
    """Whether all images that are not empty look like labels, and at least one is not empty."""
    found = False
    for image in images:
        if bool(image.values.any()):
            if not looks_like_labels(image.values):
                return False
            found = True
    return found


def looks_like_labels(values: Tensor) -> bool:
    """Whether an image looks like a label map.

    True if all values are whole numbers and more than 60 % of the neighbouring pairs of non-zero
    voxels have equal values.

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
