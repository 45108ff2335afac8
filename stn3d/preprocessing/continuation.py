"""Intensities where a mask excludes voxels, continued from those around them.

Excluded voxels have no weight, but a moving image is interpolated between voxels, and its gradient
is that of neighbours. Beside a lesion both contain the lesion, and a force pulls its edge.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d import kernels
from stn3d.preprocessing.prepared import PreparedImage

_SWEEPS = 4  # on each level; the coarser ones have made everything but details smooth


def continued(image: PreparedImage) -> PreparedImage:
    """An image whose contrasts go on smoothly where its mask is below a half; labels stay.

    Args:
        image: The image; itself is returned where nothing is to be continued.
    """
    if image.mask is None:
        return image
    known = image.mask > 0.5
    if bool(known.all()) or not bool(known.any()):
        return image
    return image.cached(
        "continued", lambda: image.map_groups(image.image, lambda v: smooth_beyond(v, known))
    )


def smooth_beyond(values: Tensor, known: Tensor) -> Tensor:
    """Values where they are known, and elsewhere nearly the mean of their neighbours.

    Coarse to fine: the means of the known voxels on a grid of half the size, continued there, are
    interpolated and relaxed.

    Args:
        values: ``(1, C, *shape)``; those that are not known are not used.
        known: ``(1, 1, *shape)``, true somewhere.

    Returns:
        ``(1, C, *shape)``.
    """
    d = values.ndim - 2
    weight = known.to(values)
    half: Any = [(n + 1) // 2 for n in values.shape[2:]]
    pool = F.adaptive_avg_pool2d if d == 2 else F.adaptive_avg_pool3d
    share = pool(weight, half)
    coarse = pool(values * weight, half) / share.clamp(min=1e-6)
    if not bool((share > 0).all()):
        coarse = smooth_beyond(coarse, share > 0)
    mode = "bilinear" if d == 2 else "trilinear"
    found = F.interpolate(coarse, size=values.shape[2:], mode=mode, align_corners=False)
    count = kernels.box_sum(torch.ones_like(weight), [1] * d)
    for _ in range(_SWEEPS):
        found = torch.where(known, values, found)
        found = kernels.box_sum(found, [1] * d) / count
    return torch.where(known, values, found)
