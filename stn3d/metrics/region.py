"""The region of the fixed image in which metrics are computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stn3d.arguments import plain_tensor, tensor_arguments
from stn3d.metrics.arrays import Array, as_array
from stn3d.preprocessing.intensity import limits

FOREGROUND_LEVEL = 0.02  # of the intensity range


@dataclass(frozen=True, eq=False)
class EvaluationRegion:
    """The voxels of the fixed image in which metrics are computed.

    Args:
        name: ``mask`` (the fixed mask), ``foreground`` (see `foreground`) or ``image`` (all).
        voxels: ``fixed.grid.shape`` bool.
    """

    name: Literal["mask", "foreground", "image"]
    voxels: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "voxels", plain_tensor(self.voxels))

    def as_dict(self) -> dict[str, Any]:
        """Name, number of voxels, and their share of the image in percent; for JSON."""
        count = int(self.voxels.sum())
        return {
            "name": self.name,
            "voxels": count,
            "image_pct": round(100 * count / self.voxels.numel(), 2),
        }


@tensor_arguments()
def foreground(image: Tensor) -> Tensor:
    """Voxels brighter than 2 % of the intensity range, ``shape`` bool.

    The range goes from the background to the 99.5th percentile of the foreground; see
    `stn3d.preprocessing.intensity.limits`.

    Args:
        image: ``(1, C, *shape)``; only the first channel is used.
    """
    dark, bright = limits(image[:, :1])
    return image[0, 0] > dark + FOREGROUND_LEVEL * (bright - dark)


def eroded(mask: Array, voxels: int = 2) -> NDArray[np.bool_]:
    """The mask without its outer two voxels, along axes of at least five voxels.

    Args:
        mask: ``grid.shape`` bool; voxels outside the grid are outside the mask.
        voxels: how many outer voxels to remove.
    """
    inner = as_array(mask).astype(bool, copy=False)
    for _ in range(voxels):
        kept = inner.copy()
        for axis, n in enumerate(inner.shape):
            if n < 5:
                continue
            here, source = np.moveaxis(kept, axis, 0), np.moveaxis(inner, axis, 0)
            here[1:] &= source[:-1]
            here[:-1] &= source[1:]
            here[[0, -1]] = False
        inner = kept
    return inner
