"""Noise of the images of a pair, and how much smoother a deformation should be because of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from stn3d.preprocessing.pair import Pair

_BACKGROUND = 0.05  # of the intensity range
_WINDOW_VOX = 5
_SD_OF_MAD = 0.6745  # median absolute deviation of a normal distribution with an SD of 1
_LITTLE, _MUCH = 0.05, 0.25  # noise fractions from which the field is smoother, and twice as smooth


def noise_fraction(image: Tensor, mask: Tensor | None, spacing_mm: Sequence[float]) -> float:
    """Variance of the noise relative to that of the image in small windows, of the first channel.

    The second differences along all axes in turn show noise and hardly any structure (Immerkaer
    1996, doi:10.1006/cviu.1996.0060). Measured in the middle third along each axis.

    Args:
        image: ``(1, C, *shape)``, intensities from 0 to 1.
        mask: Not used; noise is that of the image.
        spacing_mm: Not used.

    Returns:
        0 to 1; 0 where there is too little to measure.
    """
    values = image[:, :1]
    for axis, n in enumerate(image.shape[2:], start=2):
        values = values.narrow(axis, n // 3, n - 2 * (n // 3))
    if min(values.shape[2:]) < _WINDOW_VOX + 2:
        return 0.0
    noise, d = values, image.ndim - 2
    for axis in range(2, image.ndim):
        noise = noise.diff(n=2, dim=axis)
    pool = F.avg_pool2d if d == 2 else F.avg_pool3d
    mean, square, least = (
        pool(one, _WINDOW_VOX, stride=2)
        for one in (values, values**2, (values > _BACKGROUND).float())
    )
    whole = least > 1 - 1e-3
    inner = (slice(None),) * 2 + (slice(1, -1),) * d  # where there are second differences
    shown = (values > _BACKGROUND)[inner]
    if int(whole.sum()) < _WINDOW_VOX**d or not bool(shown.any()):
        return 0.0
    sd = float(noise[shown].abs().median()) / _SD_OF_MAD
    variance = float((square - mean**2)[whole].median())
    return min(1.0, sd**2 / 6**d / variance) if variance > 0 else 0.0


def smoothing_factor(pair: Pair, spacing_mm: float) -> float:
    """How much smoother than on a level of clear images a field should be, 1 to 2.

    Args:
        pair: The images.
        spacing_mm: Spacing of the level.
    """
    share = (sum(_fractions(pair, spacing_mm)) / 2 - _LITTLE) / (_MUCH - _LITTLE)
    return 1.0 + min(1.0, max(0.0, share))


def without_noise(r: float, pair: Pair, spacing_mm: float) -> float:
    """The mean correlation in small windows that a pair would have without noise, -1 to 1.

    Noise adds variance that the other image does not explain.

    Args:
        r: The mean correlation with noise.
        pair: The images.
        spacing_mm: Spacing of the level on which they were compared.
    """
    fixed, moving = _fractions(pair, spacing_mm)
    clear = (1 - fixed) * (1 - moving)
    return max(-1.0, min(1.0, r / math.sqrt(clear))) if clear > 0 else 0.0


def _fractions(pair: Pair, spacing_mm: float) -> list[float]:
    """The noise fraction of both images on a level."""
    level = pair.at(spacing_mm)
    return [image.statistic(noise_fraction) for image in (level.fixed, level.moving)]
