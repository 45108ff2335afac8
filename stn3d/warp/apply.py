"""Warp images and label maps from moving to fixed space, one volume at a time."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn3d.choices import ImageInterpolation
from stn3d.errors import InputError
from stn3d.io import (
    Image,
    ImageSource,
    TransformSource,
    Values,
    Volumes,
    as_transform,
    check_image_path,
    in_dimension,
    is_picture,
    open_volumes,
    read_image,
    refuse_inputs,
    write_colours,
    write_volumes,
)
from stn3d.io.colours import luminance
from stn3d.sampler import Interpolation
from stn3d.transforms import Transform
from stn3d.warp import warp_image, warp_labels
from stn3d.warp.colour import outside_colour, warp_colours
from stn3d.warp.fill import outside_label, outside_value, whole_fill
from stn3d.warp.label_maps import decide


@dataclass(frozen=True)
class Applied:
    """How images were warped.

    Args:
        interpolation: the interpolation that was used.
        reason: why, where it was selected automatically; else None.
        outside_value: value where the moving image shows nothing.
        lost: labels in single voxels, such as landmarks, that no output voxel has.
    """

    interpolation: Interpolation | Literal["label"]
    reason: str | None
    outside_value: float
    lost: tuple[int, ...] = ()


def apply(
    transform: TransformSource,
    image: ImageSource,
    like: ImageSource,
    interpolation: ImageInterpolation = "auto",
    volume: int | None = None,
    fill: str | float = "auto",
) -> Image:
    """Warp an image or label map from moving to fixed space.

    Args:
        transform: fixed points to moving points; a `Transform`, path, matrix or SimpleITK
            transform, see `stn3d.io.as_transform`.
        image: image or label map in moving space, any source of `stn3d.io.read_image`. All volumes
            of a 4D image are warped by the same transform.
        like: reference image in fixed space: defines the grid, affine and header codes.
        interpolation: ``linear``, ``nearest``, ``cubic``, ``label`` (the label with the largest
            linearly interpolated indicator) or ``auto`` (``label`` for a label map, or ``nearest``
            if its labels are single voxels; else ``linear``; see `stn3d.warp.label_maps`). Label
            ids and nearest values are exact; label maps of whole numbers keep their data type, also
            with ``linear`` and ``cubic``, which are rounded.
        volume: volume number, to warp a single volume of a 4D image.
        fill: value where the image shows nothing: ``auto`` (the background for CT, else 0),
            ``background``, ``nan`` or a number.

    Returns:
        The moved image. For V volumes, its values are ``(1, V, *shape)``; `apply_to_file` writes
        them one at a time instead.

    Raises:
        InputError: an image cannot be read, its dimension differs from the transform's, the fill
            does not fit it, or it holds several volumes of colours.
    """
    warped, *_ = _warped_volumes(transform, image, like, interpolation, volume, fill)
    name = f"moved {warped.moving.name}"
    if isinstance(warped, WarpedColours):
        if len(warped.moving) > 1:
            raise InputError(
                f"{warped.moving.name} holds {len(warped.moving)} volumes of colours; choose one "
                "by its number, or write all of them to a file."
            )
        first = next(iter(warped))
        values = torch.from_numpy(luminance(first))[None, None]
        return dataclasses.replace(warped.fixed, values=values, name=name, colours=first)
    values = torch.cat(list(warped), dim=1)
    header = warped.like.header.copy()
    header.set_data_dtype(warped.dtype)  # as in the file of the image
    like = dataclasses.replace(warped.like, header=header)
    return dataclasses.replace(like, values=values, name=name, colours=None)


def apply_to_file(
    transform: TransformSource,
    image: ImageSource,
    like: ImageSource,
    path: str | os.PathLike[str],
    interpolation: ImageInterpolation = "auto",
    volume: int | None = None,
    fill: str | float = "auto",
) -> Applied:
    """Like `apply`, but write the moved image to a file, with one volume at a time in memory.

    Label maps, colours and nearest values keep the data type of the image's file; other values are
    float32, but in PNG and TIFF files those of 8 or 16 bits are rounded to these.

    Args:
        path: ``.nii.gz`` or ``.nii``; for a single volume also ``.mha`` or ``.nrrd``, and in 2D
            ``.png`` or ``.tif``.

    Raises:
        InputError: see `apply`; or the file cannot be written, or cannot hold the image.
    """
    check_image_path(path)
    refuse_inputs([Path(path)], [image, like])
    warped, applied, scattered = _warped_volumes(
        transform, image, like, interpolation, volume, fill, is_picture(path)
    )
    if isinstance(warped, WarpedColours) or not scattered or len(warped.moving) > 1:
        warped.write(path)
        return applied
    moved = next(iter(warped))
    write_volumes(path, [moved], warped.like, warped.dtype)
    lost = set(warped.moving.exact(0).values.unique().tolist()) - set(moved.unique().tolist())
    return dataclasses.replace(applied, lost=tuple(sorted(int(label) for label in lost)))


@dataclass(frozen=True, eq=False)
class WarpedVolumes:
    """Volumes warped by one transform each; iteration reads and warps one volume at a time.

    Args:
        transforms: fixed points to moving points, one for each volume.
        moving: the volumes.
        fixed: reference image in fixed space.
        interpolation: interpolation of the volumes; each is interpolated once.
        outside_value: value where the moving image shows nothing; whole for labels.
        dtype: data type in a file.
    """

    transforms: Sequence[Transform]
    moving: Volumes
    fixed: Image
    interpolation: Interpolation | Literal["label"]
    outside_value: float = 0.0
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float32))

    @property
    def like(self) -> Image:
        """The fixed image, with a header for all volumes and their repetition time."""
        return self.moving.header_on(self.fixed)

    def __iter__(self) -> Iterator[Tensor]:
        """``(1, 1, *fixed.grid.shape)`` for each volume; labels and nearest values are exact."""
        grid, how, outside = self.fixed.grid, self.interpolation, self.outside_value
        for n, transform in enumerate(self.transforms):
            image = _read(self.moving, n, how, self.dtype)
            if how == "label":
                yield warp_labels(image.values, image.grid, transform, grid, True, int(outside))
            else:
                yield warp_image(image.values, image.grid, transform, grid, how, outside)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the moved volumes one after another.

        Raises:
            InputError: a volume cannot be read, or the file cannot be written.
        """
        write_volumes(path, self, self.like, self.dtype)


@dataclass(frozen=True, eq=False)
class WarpedColours:
    """Colour images warped by one transform each, every channel; iteration warps one at a time.

    Args:
        transforms: fixed points to moving points, one for each image.
        moving: the colour images.
        fixed: reference image in fixed space.
        interpolation: interpolation of the channels.
        fill: see `stn3d.warp.colour.warp_colours`.
    """

    transforms: Sequence[Transform]
    moving: Volumes
    fixed: Image
    interpolation: Interpolation
    fill: str | float

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """``fixed.grid.shape`` colours for each image."""
        for image, transform in zip(self.moving, self.transforms, strict=True):
            assert image.colours is not None
            grids = image.grid, transform, self.fixed.grid
            yield warp_colours(image.colours, *grids, self.interpolation, self.fill)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the moved images.

        Raises:
            InputError: an image cannot be read, or the file cannot be written.
        """
        write_colours(path, self, self.moving.header_on(self.fixed))


def _read(
    volumes: Volumes, n: int, how: Interpolation | Literal["label"], dtype: np.dtype[Any]
) -> Image:
    """The n-th volume, as an interpolation needs it for a data type of the output."""
    if how == "label":
        return volumes.labels(n)
    exact = how == "nearest" or dtype.kind != "f"
    return volumes.exact(n) if exact else volumes.image(n)


def _warped_volumes(
    transform: TransformSource,
    image: ImageSource,
    like: ImageSource,
    interpolation: ImageInterpolation,
    volume: int | None,
    fill: str | float,
    rounds: bool = False,
) -> tuple[WarpedVolumes | WarpedColours, Applied, bool]:
    """The checked arguments of `apply`, and whether the labels are found to be single voxels.

    Values of 8 or 16 bits keep their data type if ``rounds``.
    """
    transform = as_transform(transform, fixed=like, moving=image)
    fixed = read_image(like, "like", 0, allow_constant=True)  # only its grid and header are used
    fixed = in_dimension(fixed, transform.ndim)
    moving = open_volumes(image, "image", volume).in_dimension(transform.ndim)
    file_dtype, first = moving.stored.dtype, moving.exact(0)
    for one in (fixed, first):
        if one.grid.ndim != transform.ndim:
            raise InputError(
                f"{one.name} is {one.grid.ndim}D and the transform {transform.ndim}D; "
                "give images of the transform's dimension."
            )
    if len(moving) == 1:
        moving = moving.in_memory(first)  # reads one volume once
    how, reason, scattered, whole = interpolation, None, False, False
    if first.colours is not None:
        if how == "label":
            raise InputError(
                f"{first.name} holds colours, not labels; use --interpolation linear or nearest."
            )
        reason = f"{first.name} holds colours" if how == "auto" else None
        how = "linear" if how == "auto" else how
        first_value = outside_colour(first.colours, fill)[0]
        colours = WarpedColours([transform] * len(moving), moving, fixed, how, fill)
        return colours, Applied(how, reason, first_value), False
    if how == "auto":
        decision = decide(moving)
        labels: Literal["nearest", "label"] = "nearest" if decision.scattered else "label"
        scattered = decision.scattered
        how, reason = labels if decision.labels else "linear", decision.reason
    elif how in ("linear", "cubic") and not first.values.is_floating_point():
        whole = decide(moving).labels  # they keep their whole numbers and data type
    outside, dtype = _storage(moving, first, how, fill, file_dtype, whole)
    if rounds and how not in ("label", "nearest") and file_dtype in (np.uint8, np.uint16):
        outside, dtype = whole_fill(outside, moving.name), file_dtype
    transforms = [transform] * len(moving)
    warped = WarpedVolumes(transforms, moving, fixed, how, outside, dtype)
    return warped, Applied(how, reason, outside), scattered


def _storage(
    moving: Volumes,
    first: Image,
    how: Interpolation | Literal["label"],
    fill: str | float,
    file_dtype: np.dtype[Any],
    whole: bool,
) -> tuple[float, np.dtype[Any]]:
    """The value outside, and the data type of the moved volumes.

    Raises:
        InputError: the fill is unknown, or does not fit the volumes.
    """
    if how not in ("label", "nearest") and not whole:
        return outside_value(fill, first.values), np.dtype(np.float32)
    outside: float
    if how == "label":
        outside = outside_label(fill, moving.name)
    else:
        outside = outside_value(fill, first.values)
        if not first.values.is_floating_point():
            outside = whole_fill(outside, moving.name)
    every = [Values.of(_read(moving, n, how, file_dtype).values) for n in range(len(moving))]
    if not math.isnan(outside):
        every.append(Values.of(torch.tensor([outside], dtype=torch.float64)))
    return outside, reduce(Values.joined, every).stored_as(file_dtype)
