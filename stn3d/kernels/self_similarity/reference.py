"""Exponents of MIND-SSC by sums over windows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d.kernels.box_sum.reference import box_sum
from stn3d.kernels.self_similarity.pairs import neighbour_pairs


def self_similarity(image: Tensor, noise: Tensor, radius: int, dilation: int) -> Tensor:
    """The patch distances of all pairs, normalised by their minimum and mean."""
    d, reach = image.ndim - 2, radius + dilation
    padded = F.pad(image, [reach] * 2 * d, mode="replicate")
    pairs = neighbour_pairs(d, dilation)
    distances = torch.stack(
        [_distances(padded, one, other, radius, reach) for one, other in pairs], dim=2
    )
    excess = distances - distances.amin(dim=2, keepdim=True)
    least = noise.to(image).reshape(*image.shape[:2], *[1] * (d + 1))
    scale = torch.maximum(distances.mean(dim=2, keepdim=True), least)
    return excess * (-1 / scale)


def _distances(
    padded: Tensor, one: tuple[int, ...], other: tuple[int, ...], radius: int, reach: int
) -> Tensor:
    """Sums of squared differences of the patches around two neighbours, at every voxel."""
    first, second = padded, padded
    for axis, (a, b) in enumerate(zip(one, other, strict=True), start=2):
        n = padded.shape[axis] - 2 * (reach - radius)
        first = first.narrow(axis, reach - radius + a, n)
        second = second.narrow(axis, reach - radius + b, n)
    sums = box_sum((first - second) ** 2, [radius] * len(one))
    for axis in range(2, padded.ndim):
        sums = sums.narrow(axis, radius, padded.shape[axis] - 2 * reach)
    return sums
