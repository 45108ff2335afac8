"""The result of `warp` and its buffers."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Warped(NamedTuple):
    """An image sampled through a transform.

    Args:
        moved: ``(1, C, *out)`` values; beyond the image the nearest voxel's value.
        coverage: ``(1, 1, *out)`` weight of each sample: 1 inside the image, falling to 0 over the
            last voxel before its faces; None where all are 1.
    """

    moved: Tensor
    coverage: Tensor | None


Buffers = tuple[Tensor, Tensor]


def buffers(image: Tensor, displacement_vox: Tensor) -> Buffers:
    """Zeros for the values and the coverage of `warp`."""
    shape = displacement_vox.shape[2:]
    return image.new_zeros(1, image.shape[1], *shape), image.new_zeros(1, 1, *shape)
