"""Intensity limits and scaling of images in any unit; CT by Hounsfield units (HU)."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from stn3d.choices import WindowName
from stn3d.errors import InputError, shown

WINDOWS_HU: dict[WindowName, tuple[float, float]] = {
    "head": (-20.0, 100.0),
    "lung": (-1000.0, 200.0),
    "abdomen": (-160.0, 240.0),
    "bone": (-450.0, 1050.0),
}

_FLAT = 1e-3  # largest spread of a noise-free background, as a fraction of the intensity range
_SHARE_OF_BORDER = 0.3  # smallest fraction of the outermost voxels in a constant background
_BRIGHTER = 0.01  # smallest fraction of voxels that are brighter than the background
AIR_HU, _SOFT_HU, _BODY_HU = (-1100.0, -850.0), (-150.0, 150.0), -350.0
_BONE_HU, _SHARE_OF_BONE = 300.0, 0.03  # smallest fraction of the body; a skull has about a tenth
_MIN_ERODED = 5  # voxels along an axis; fewer are all eroded from both sides
_SHARE_OF_CT = 0.05  # smallest fraction of voxels in air and in soft tissue, for a CT
# HU and their scaled values: soft tissue, with all organs, has two thirds of the range.
_MOST_INTENSITY = 1e30  # and its inverse: ends and width of a window that 32 bits hold
_KNOTS_HU, _KNOTS = (-1000.0, -200.0, 300.0, 1500.0), (0.0, 0.15, 0.8, 1.0)


def limits(values: Tensor, mask: Tensor | None = None) -> tuple[float, float]:
    """The background intensity and the 99.5th percentile of the foreground.

    The background is the 0.5th percentile of the image. If the image was resampled to a grid larger
    than its field of view, the corners may hold a darker fill value. Therefore an intensity that a
    quarter of the voxels share without noise, brighter than all corners, is the background instead.

    Args:
        values: ``(1, C, *shape)``.
        mask: ``(1, 1, *shape)`` bool. Voxels outside are ignored if the mask covers at least half
            of the image; a smaller mask is not representative of the image's intensities.

    Returns:
        Two intensities; equal if the image is constant.
    """
    seen = values
    if mask is not None and 2 * int(mask.sum()) >= mask.numel():
        seen = values[mask.expand_as(values)]
    few = _some(seen)
    dark = _background(few, _corners(values))
    bright = few[few > dark]
    if len(bright):
        return dark, float(np.quantile(bright.astype(np.float64), 0.995))
    return float(seen.min()), float(seen.max())


def constant_background(values: Tensor) -> float | None:
    """The intensity that a part of the outermost voxels share without noise, if there is one.

    Images have such a background where something was cut out of them, such as a brain, or where
    they were resampled to a larger field of view. Scanned air is noisy.

    Args:
        values: ``(1, C, *shape)``; only the first channel is used.
    """
    image = values[0, 0]
    faces = [
        image.select(axis, end).flatten()
        for axis, n in enumerate(image.shape)
        for end in ((0, n - 1) if n > 2 else ())
    ]
    if not faces:
        return None
    border = torch.cat(faces)
    few = image.flatten()[:: max(1, image.numel() // 10_000)].double()
    low, high = torch.quantile(few, few.new_tensor([0.005, 0.995])).tolist()
    levels, counts = border.unique(return_counts=True)
    level = levels[counts.argmax()]
    equal = (border - level).abs() <= _FLAT * (high - low)
    return float(level) if float(equal.float().mean()) >= _SHARE_OF_BORDER else None


def scaled(values: Tensor, mask: Tensor | None = None, window: str | None = None) -> Tensor:
    """Scale intensities so that the background is 0 and the brightest foreground is 1.

    A CT (`looks_like_ct`) is scaled by its HU: everything outside the body, such as table and
    clothes, becomes air; air, soft tissue and bone have fixed parts of the range. Other images are
    scaled by `limits` and clipped to 0 and 1.25, so that a few bright voxels keep little of it.

    Args:
        values: ``(1, C, *shape)``.
        mask: see `limits`.
        window: intensities that become 0 and 1: a name in `WINDOWS_HU`, or ``LOW,HIGH`` in the
            image's units.

    Raises:
        InputError: the window is invalid, or names a CT window and the image is not a CT.
    """
    ct = looks_like_ct(values)
    if window is not None:
        low, high = _window(window, ct)
        return _stretched(values, low, high - low, 1.0)
    if ct:
        inner = np.interp(_body(values[0, 0].cpu().numpy()), _KNOTS_HU, _KNOTS)
        return torch.from_numpy(inner.astype(np.float32)).to(values)[None, None]
    low, high = limits(values, mask)
    span = max(high - low, torch.finfo(values.dtype).tiny)
    return _stretched(values, low, span, 1.25)


def _stretched(values: Tensor, low: float, span: float, end: float) -> Tensor:
    """``(values - low) / span``, clipped to 0 and ``end``; in place to save memory."""
    return (values - low).div_(span).clamp_(0, end)


def covered(values: Tensor, part: Tensor) -> Tensor:
    """Fill a part of an image from its surroundings, so that it has no edges to match.

    Args:
        values: ``(1, C, *shape)``.
        part: ``(1, 1, *shape)`` bool; not all of the image.

    Returns:
        The image with each voxel of the part replaced by the nearest one outside of it.
    """
    inside = part[0, 0].cpu().numpy()
    where = np.argwhere(inside)
    if not len(where):
        return values
    # The nearest voxel outside a part is at most one voxel outside its bounding box.
    box: tuple[Any, ...] = tuple(
        slice(max(0, a - 1), b + 2) for a, b in zip(where.min(0), where.max(0), strict=True)
    )
    nearest = ndimage.distance_transform_edt(
        inside[box], return_distances=False, return_indices=True
    )
    result = values.clone()
    here = result[(..., *box)]
    indices: tuple[Any, ...] = (..., *(torch.from_numpy(index) for index in nearest))
    here[:] = here[indices].clone()
    return result


def looks_like_ct(values: Tensor) -> bool:
    """Whether the intensities are Hounsfield units: air near -1000, soft tissue near 0.

    Args:
        values: ``(1, C, *shape)``; an image with several channels is not a CT.
    """
    if values.shape[1] > 1:
        return False
    few = _some(values)
    shares = [np.mean((few >= low) & (few <= high)) for low, high in (AIR_HU, _SOFT_HU)]
    return bool(min(shares) >= _SHARE_OF_CT)


def shows_bone(hu: Tensor) -> bool:
    """Whether a CT shows bone, as a whole head does and a skull-stripped brain does not.

    Args:
        hu: ``(1, 1, *shape)``, in HU.
    """
    few = _some(hu)
    body = few[few > _BODY_HU]
    return bool(len(body) and np.mean(body > _BONE_HU) >= _SHARE_OF_BONE)


def _window(window: str, ct: bool) -> tuple[float, float]:
    """The ends of a window."""
    for name, ends in WINDOWS_HU.items():
        if window == name and not ct:
            raise InputError(
                f"the window {name} is for CT in HU, and this image is none; give LOW,HIGH in its "
                "own units, or no window."
            )
        if window == name:
            return ends
    try:
        low, high = (float(end) for end in window.split(","))
    except ValueError:
        low = high = 0.0
    if not -_MOST_INTENSITY <= low < high <= _MOST_INTENSITY or high - low < 1 / _MOST_INTENSITY:
        known = ", ".join(get_args(WindowName))
        raise InputError(f"the window {shown(window)} is unknown; give LOW,HIGH or one of {known}.")
    return low, high


def _body(hu: NDArray[np.floating]) -> NDArray[np.floating]:
    """The HU with air outside of the body: all but what hangs together and is largest."""
    solid, near = hu > _BODY_HU, _neighbours(hu.shape)
    eroded = ndimage.binary_erosion(solid, near, iterations=2)
    parts, count = ndimage.label(eroded)
    if count == 0:
        return hu
    largest = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    body = ndimage.binary_dilation(largest, near, iterations=3)
    if hu.ndim == 2:
        body = ndimage.binary_fill_holes(body)
    for axis in range(hu.ndim if hu.ndim == 3 else 0):  # lungs and bowel hold air and belong to it
        for plane in np.moveaxis(body, axis, 0):
            plane[...] = ndimage.binary_fill_holes(plane)
    return np.where(body, hu, np.minimum(hu, _KNOTS_HU[0]))


def _neighbours(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The neighbours of a voxel by a face, along axes that an erosion leaves something of."""
    near: NDArray[np.bool_] = ndimage.generate_binary_structure(len(shape), 1)
    for axis, n in enumerate(shape):
        if n < _MIN_ERODED:
            np.moveaxis(near, axis, 0)[[0, 2]] = False
    return near


def _some(values: Tensor) -> NDArray[np.floating]:
    """A sample in rising order."""
    few: NDArray[np.floating] = values.flatten()[:: max(1, values.numel() // 250_000)].cpu().numpy()
    return np.sort(few)


def _background(few: NDArray[np.floating], corners: NDArray[np.floating]) -> float:
    """Of a sample in rising order."""
    low, high = np.quantile(few.astype(np.float64), (0.005, 0.995)).tolist()
    quarter = len(few) // 4
    widths = few[quarter:] - few[: len(few) - quarter]
    narrowest = int(widths.argmin())
    level = float(few[narrowest + quarter])
    flat = widths[narrowest] <= _FLAT * (high - low)
    filled = float(corners.max()) < level - _FLAT * (high - low)
    seen = np.count_nonzero(few > level) > _BRIGHTER * len(few)
    return level if flat and filled and seen else low


def _corners(values: Tensor) -> NDArray[np.floating]:
    for axis in range(2, values.ndim):
        ends = torch.tensor([0, values.shape[axis] - 1], device=values.device)
        values = values.index_select(axis, ends)
    return values.cpu().numpy()
