"""Reading of images, label maps and masks.

Convention: values are ``(1, 1, *shape)`` in nibabel's axis order, grids are in RAS+ millimetres.
An image of two axes is a 2D image in world x and y; one of three axes is 3D, also with a single
slice, as in ITK. The geometry of NIfTI files is documented in `stn3d.io.nifti`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from stn3d.errors import InputError
from stn3d.grid import apply_matrix
from stn3d.io.dtypes import EXACT_IN_FLOAT64
from stn3d.io.geometry import grid_of
from stn3d.io.image import Image
from stn3d.io.sources import ImageSource, convert


def read_image(
    source: ImageSource,
    role: str = "image",
    volume: int | None = None,
    *,
    ndim: int | None = None,
    allow_constant: bool = False,
) -> Image:
    """Read an image.

    Args:
        source: path of an image file (NIfTI or MGH; MHA, NRRD and others by SimpleITK), folder
            with one DICOM series, nibabel or SimpleITK image, MONAI MetaTensor ``([1,] *shape)``,
            `Image`, or a pair of values and their grid: a tensor with its `Grid`, an array with its
            affine (RAS+ mm).
        role: name of the image in messages: ``fixed``, ``moving``, ...
        volume: volume of a 4D image, counted from 0.
        ndim: 2 or 3; default: the number of axes. A single slice can be read as 2D.
        allow_constant: accept an image of a single value.

    Returns:
        The image, float32, on the CPU.

    Raises:
        InputError: the image does not exist or cannot be used: NaN or Inf, a single value, colours,
            vectors, complex numbers, several volumes without a choice, a singular affine.

    Examples:
        >>> from stn3d import Grid
        >>> image = read_image((torch.rand(4, 3, 2), Grid.of_spacing((4, 3, 2), 1.5)))
        >>> image.values.shape, image.grid.spacing_mm
        (torch.Size([1, 1, 4, 3, 2]), (1.5, 1.5, 1.5))
    """
    what = role if role.endswith("image") else f"{role} image"
    option = "volume" if role == "image" else f"{role}-volume"
    image = convert(source, what, option, volume, ndim, np.float32)
    low, high = _finite_range(image.values, what, image.name)
    if low == high and not allow_constant:
        raise InputError(
            f"the {what} {image.name} is constant (every voxel is {low:g}); give another image."
        )
    return image


def read_exact(
    source: ImageSource,
    role: str = "image",
    volume: int | None = None,
    *,
    ndim: int | None = None,
) -> Image:
    """Read an image without rounding any value.

    Args:
        source: as for `read_image`.
        role: name of the image in messages.
        volume: volume of a 4D image, counted from 0.
        ndim: as for `read_image`.

    Returns:
        The image as int32, int64, float32 or float64: the smallest that holds the file's data type.

    Raises:
        InputError: as for `read_image`; the image may be constant.
    """
    what = role if role.endswith("image") else f"{role} image"
    image = convert(source, what, "volume", volume, ndim, None)
    if image.values.dtype == torch.bool:
        return replace(image, values=image.values.int())
    _finite_range(image.values, what, image.name)
    return image


def as_image(source: ImageSource, role: str = "image") -> Image:
    """Any image source as an `Image`, with all values exact.

    Args:
        source: as for `read_image`; an `Image`, also one of several volumes, is returned as it is.
        role: name of the image in messages.

    Raises:
        InputError: as for `read_exact`.

    Examples:
        >>> as_image((np.arange(6).reshape(2, 3), np.eye(3))).values
        tensor([[[[0, 1, 2],
                  [3, 4, 5]]]])
    """
    return source if isinstance(source, Image) else read_exact(source, role)


def read_labels(
    source: ImageSource,
    role: str = "labels",
    volume: int | None = None,
    *,
    ndim: int | None = None,
    allow_empty: bool = False,
) -> Image:
    """Read a label map.

    Args:
        source: as for `read_image`.
        role: name of the label map in messages.
        volume: volume of a 4D image, counted from 0.
        ndim: as for `read_image`.
        allow_empty: accept a map that holds only background.

    Returns:
        The labels, exactly, as int32 (as int64 if a label needs it); 0 is background, negative
        labels are kept.

    Raises:
        InputError: as for `read_image`, or the map holds fractions, floats beyond 2^53, several
            volumes or only 0.
    """
    what = role if "label" in role else f"{role} labels"
    image = convert(source, what, None, volume, ndim, None)
    if image.colours is not None:
        raise InputError(
            f"the {what} {image.name} hold colours; give a number for each label instead."
        )
    values = image.values.int() if image.values.dtype == torch.bool else image.values
    if values.is_floating_point():
        _finite_range(values, what, image.name)
        fraction = (values - values.round()).abs() > 1e-3
        if bool(fraction.any()):
            raise InputError(
                f"the {what} {image.name} hold fractions, the first is "
                f"{float(values[fraction][0]):g}; give whole numbers (resample label maps with "
                "nearest-neighbour interpolation)."
            )
        values = values.round()
        if float(values.abs().max()) > EXACT_IN_FLOAT64:
            raise InputError(
                f"the {what} {image.name} hold floats beyond 2^53, which are not exact; store them "
                "as 64-bit integers, or renumber the labels."
            )
        values = values.long()
    if not (allow_empty or bool(values.any())):
        raise InputError(
            f"the {what} {image.name} hold only 0; give a map with at least one label."
        )
    limit = torch.iinfo(torch.int32).max
    wide = (
        values.dtype == torch.int64
        and not -limit <= int(values.min()) <= int(values.max()) <= limit
    )
    return replace(image, values=values.to(torch.int64 if wide else torch.int32))


def read_mask(source: ImageSource, role: str = "mask", *, ndim: int | None = None) -> Image:
    """Read a mask.

    Args:
        source: as for `read_image`.
        role: name of the mask in messages.
        ndim: as for `read_image`.

    Returns:
        The mask as bool; voxels other than 0 are inside.

    Raises:
        InputError: as for `read_image`, or the mask has several volumes or is empty.
    """
    what = role if "mask" in role else f"{role} mask"
    image = convert(source, what, None, None, ndim, None)
    if image.values.is_floating_point():
        _finite_range(image.values, what, image.name)
    if not bool(image.values.any()):
        raise InputError(
            f"the {what} {image.name} is empty (all 0); give a mask with voxels other than 0."
        )
    return replace(image, values=image.values != 0)


def in_dimension(image: Image, ndim: int) -> Image:
    """A single slice as a 2D image if 2D is wanted; any other image as it is.

    Raises:
        InputError: the slice is coronal or sagittal, so world x and y do not span it.
    """
    grid = image.grid
    if ndim != 2 or grid.ndim != 3 or grid.shape[2] != 1:
        return image
    flat = grid_of(grid.world_from_index.numpy(), grid.shape, 2)
    colours = None if image.colours is None else image.colours[..., 0]
    return replace(image, values=image.values[..., 0], grid=flat, colours=colours)


def require_same_grid(image: Image, reference: Image, role: str = "mask") -> None:
    """Check that a mask or a label map lies on the grid of its image.

    Raises:
        InputError: shape or position differ.
    """
    if image.grid.same_as(reference.grid):
        return
    if image.grid.shape != reference.grid.shape:
        reason = f"{image.grid.shape} voxels against {reference.grid.shape}"
    else:
        corners = torch.tensor(list(np.ndindex(*[2] * image.grid.ndim))).double()
        corners = corners * (torch.tensor(image.grid.shape) - 1)
        gap = apply_matrix(image.grid.world_from_index, corners) - apply_matrix(
            reference.grid.world_from_index, corners
        )
        reason = f"the voxels lie up to {float(gap.norm(dim=-1).max()):.3g} mm apart"
    verb = "are" if "label" in role else "is"
    raise InputError(
        f"the {role} {image.name} {verb} on another grid than {reference.name}: {reason}; "
        "resample to that grid first (nearest-neighbour interpolation)."
    )


def _finite_range(values: Tensor, what: str, name: str) -> tuple[float, float]:
    """Smallest and largest value, both finite."""
    low, high = (float(value) for value in values.aminmax())
    if math.isfinite(low) and math.isfinite(high):
        return low, high
    bad = int((~torch.isfinite(values)).sum())
    raise InputError(
        f"the {what} {name} has NaN or Inf in {bad} of {values.numel()} voxels; "
        "replace them, for example by 0."
    )
