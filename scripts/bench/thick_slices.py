"""Images as a scanner with thick slices would show them: slice profile, sampling and noise."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from scripts.bench.written_pairs import Floats

Profile = Literal["gaussian", "box"]
_SIGMAS_PER_FWHM = 1 / np.sqrt(8 * np.log(2))
CONTENT = 0.01  # of the bright intensities; there is no noise below, as in a stripped image


@dataclasses.dataclass(frozen=True)
class Slices:
    """A stack of slices without gaps.

    Args:
        thickness_mm: thickness and distance of the slices.
        axis: array axis across the slices.
        profile: sensitivity across a slice: a Gaussian whose full width at half maximum is the
            thickness, or constant within the slice.
        noise: standard deviation of the noise as a fraction of the bright intensities (99.5th
            percentile of the content).
    """

    thickness_mm: float
    axis: int
    profile: Profile = "gaussian"
    noise: float = 0.0


def slice_weights(count: int, spacing_mm: float, slices: Slices) -> Floats:
    """Weights of ``count`` voxels in each slice, ``(slices, count)``; rows add up to 1.

    The slices lie around the middle of the voxels and cover all of them.
    """
    ratio = slices.thickness_mm / spacing_mm
    number = max(1, int(np.ceil(count / ratio - 1e-6)))
    centres = (count - 1) / 2 + ratio * (np.arange(number) - (number - 1) / 2)
    edges = np.arange(count + 1)[None, :] - 0.5 - centres[:, None]
    if slices.profile == "box":
        below = np.clip(edges / ratio + 0.5, 0, 1)
    else:
        below = ndtr(edges / (ratio * _SIGMAS_PER_FWHM))
    weights: Floats = np.diff(below, axis=1)
    return weights / weights.sum(axis=1, keepdims=True)


def acquired(
    values: NDArray[np.floating], affine: Floats, slices: Slices, seed: int
) -> tuple[NDArray[np.float32], Floats]:
    """An image and its affine as such slices, with Rician noise within the content.

    Args:
        values: 3D image with thin slices.
        affine: RAS+ mm from voxel indices.
        slices: the slices.
        seed: of the noise.
    """
    axis, count = slices.axis, values.shape[slices.axis]
    spacing_mm = float(np.linalg.norm(affine[:3, axis]))
    weights = slice_weights(count, spacing_mm, slices)
    found = np.moveaxis(np.tensordot(weights, values.astype(float), axes=(1, axis)), 0, axis)
    step = slices.thickness_mm / spacing_mm
    matrix = affine.copy()
    first = (count - 1) / 2 - step * (len(weights) - 1) / 2
    matrix[:3, 3] += affine[:3, axis] * first
    matrix[:3, axis] *= step
    if slices.noise > 0:
        rng = np.random.default_rng(seed)
        top = bright(found)
        real, imaginary = slices.noise * top * rng.standard_normal((2, *found.shape))
        found = np.where(found > CONTENT * top, np.hypot(found + real, imaginary), found)
    return found.astype(np.float32), matrix


def bright(values: NDArray[np.floating]) -> float:
    """The 99.5th percentile of the positive intensities; 0 without any."""
    positive = values[values > 0]
    return float(np.percentile(positive, 99.5)) if positive.size else 0.0
