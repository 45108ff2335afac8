"""Images, labels and masks: from files or from memory to (tensor, grid), and back to files.

Convention: values are ``(1, 1, *shape)`` in nibabel's axis order, grids are in RAS+ millimetres.
One slice (a third axis missing or of length 1) is a 2D image, in world x and y as ITK has it.
Where a NIfTI file's geometry comes from is told in `stn3d.io.nifti`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stn3d.errors import InputError
from stn3d.grid import apply_matrix
from stn3d.io import itk, nifti
from stn3d.io.files import check_output, whole
from stn3d.io.sources import Image, ImageSource, convert

NIFTI_SUFFIXES = (".nii", ".nii.gz")
ITK_SUFFIXES = (".mha", ".nrrd")

# -- reading --------------------------------------------------------------------------------------


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
        source: a file (NIfTI, MGH; MHA, NRRD, ... by SimpleITK), a folder with one DICOM series, a
            nibabel image, a MONAI MetaTensor ``([1,] *shape)``, a tensor with its grid, an `Image`.
        role: what messages call it: ``fixed``, ``moving``, ...
        volume: which volume of a 4D image, counted from 0.
        ndim: 2 or 3; by default one slice is 2D and all else 3D.
        allow_constant: whether all voxels may have one value.

    Returns:
        The image, float32, on the CPU.

    Raises:
        InputError: there is no such image, or it is of no use: NaN or Inf, one value only, colours,
            vectors, complex numbers, an unchosen volume of several, a singular affine.
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


def read_labels(
    source: ImageSource,
    role: str = "labels",
    volume: int | None = None,
    *,
    ndim: int | None = None,
    allow_empty: bool = False,
) -> Image:
    """Read a label map; sources and volume as for `read_image`.

    Args:
        allow_empty: whether there may be nothing but background.

    Returns:
        The labels as int32; 0 is background, negative labels are kept.

    Raises:
        InputError: as for `read_image`, or fractions, several volumes, or no label but 0.
    """
    what = role if "label" in role else f"{role} labels"
    image = convert(source, what, None, volume, ndim, None)
    values = image.values.int() if image.values.dtype == torch.bool else image.values
    if values.is_floating_point():
        _finite_range(values, what, image.name)
        fraction = (values - values.round()).abs() > 1e-3
        if bool(fraction.any()):
            raise InputError(
                f"the {what} {image.name} hold fractions, the first is "
                f"{float(values[fraction][0]):g}; give whole numbers (resample labels by nearest)."
            )
        values = values.round()
    if values.numel() and float(values.abs().max()) > torch.iinfo(torch.int32).max:
        raise InputError(
            f"the {what} {image.name} hold numbers beyond 32 bits; renumber the labels."
        )
    if not (allow_empty or bool(values.any())):
        raise InputError(f"the {what} {image.name} hold nothing but 0; give a map with labels.")
    return replace(image, values=values.to(torch.int32))


def read_mask(source: ImageSource, role: str = "mask", *, ndim: int | None = None) -> Image:
    """Read a mask; sources as for `read_image`.

    Returns:
        The mask as bool: whatever is not zero is inside.

    Raises:
        InputError: as for `read_image`, or several volumes, or nothing is inside.
    """
    what = role if "mask" in role else f"{role} mask"
    image = convert(source, what, None, None, ndim, None)
    if image.values.is_floating_point():
        _finite_range(image.values, what, image.name)
    if not bool(image.values.any()):
        raise InputError(f"the {what} {image.name} is empty (all 0); mark the part to use.")
    return replace(image, values=image.values != 0)


def require_same_grid(image: Image, reference: Image, role: str = "mask") -> None:
    """Make sure that masks or labels lie on the grid of their image.

    Raises:
        InputError: shape or position differ; the message says which.
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
        "resample to its grid first (nearest neighbour)."
    )


def _finite_range(values: Tensor, what: str, name: str) -> tuple[float, float]:
    """The smallest and the largest value; NaN and Inf would be among them."""
    low, high = (float(value) for value in values.aminmax())
    if math.isfinite(low) and math.isfinite(high):
        return low, high
    bad = int((~torch.isfinite(values)).sum())
    raise InputError(
        f"the {what} {name} has NaN or Inf in {bad} of {values.numel()} voxels; "
        "replace them, for example by 0."
    )


# -- writing --------------------------------------------------------------------------------------


def _ends(path: Path, suffixes: tuple[str, ...]) -> bool:
    return path.name.lower().endswith(suffixes)


def check_image_path(path: str | os.PathLike[str], volumes: int = 1) -> Path:
    """Find out before any work whether `write_image` can write here.

    Args:
        path: the file to be written.
        volumes: how many it will hold; NIfTI alone takes several.

    Raises:
        InputError: the extension names no format that is written, or the folder is no use.
    """
    path = Path(path)
    known = (*NIFTI_SUFFIXES, *(ITK_SUFFIXES if volumes == 1 else ()))
    if not _ends(path, known):
        what = "an image" if volumes == 1 else f"{volumes} volumes"
        raise InputError(
            f"cannot write {what} as {path}: end its name in one of {', '.join(known)}."
        )
    return check_output(path)


def write_image(path: str | os.PathLike[str], values: Tensor, like: Image) -> None:
    """Write values on another image's grid, with its affine, codes and units.

    Args:
        path: ``.nii.gz``, ``.nii``, ``.mha`` or ``.nrrd``; whole or not at all, equal bytes for
            equal input. Several volumes go into NIfTI alone.
        values: ``(1, V, *like.grid.shape)``; floats are written as float32, whole numbers in the
            smallest of uint8, int16, int32 that holds them, bool as uint8.
        like: the image whose geometry it gets; its header knows how many volumes V there are.

    Raises:
        InputError: the file cannot be written here.
        ValueError: the values are not on the grid.
    """
    count = like.num_volumes
    check_image_path(path, count)
    if tuple(values.shape) != (1, count, *like.grid.shape):
        raise ValueError(f"values {tuple(values.shape)} are not (1, {count}, {like.grid.shape}).")
    values = _compact(values.detach().as_subclass(Tensor).cpu())
    write_volumes(path, values.split(1, dim=1), like, values.dtype)


def write_volumes(
    path: str | os.PathLike[str], volumes: Iterable[Tensor], like: Image, dtype: torch.dtype
) -> None:
    """Write an image volume by volume, as they come: no more than one is held here.

    Args:
        path: see `write_image`.
        volumes: ``(1, 1, *like.grid.shape)`` each, as many as the header of ``like`` says.
        like: see `write_image`.
        dtype: of the numbers in the file: float32, uint8, int16 or int32.

    Raises:
        InputError: the file cannot be written here.
    """
    path = check_image_path(path, like.num_volumes)
    shape = (*like.header.get_data_shape(), 1, 1)[:3]
    arrays = (volume.to(dtype).numpy()[0, 0] for volume in volumes)
    with whole(path) as part:
        if _ends(path, NIFTI_SUFFIXES):
            stored = (array.reshape(shape) for array in arrays)
            nifti.save(part, stored, torch.empty(0, dtype=dtype).numpy().dtype, like.header)
        else:
            itk.save(part, next(arrays), like.grid.world_from_index.numpy())


def _compact(values: Tensor) -> Tensor:
    """As float32 or in the smallest common type for whole numbers."""
    if values.is_floating_point():
        return values.float()
    if values.dtype == torch.bool:
        return values.to(torch.uint8)
    low, high = int(values.min()), int(values.max())
    for dtype in (torch.uint8, torch.int16, torch.int32):
        limits = torch.iinfo(dtype)
        if limits.min <= low and high <= limits.max:
            return values.to(dtype)
    raise ValueError(f"whole numbers from {low} to {high} do not fit into 32 bits.")
