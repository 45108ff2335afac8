"""MIND-SSC's exponents in plain torch."""

from __future__ import annotations

from itertools import combinations, product

import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d.kernels.reference.windows import box_sum


def self_similarity(image: Tensor, noise: Tensor, radius: int, dilation: int) -> Tensor:
    """See `stn3d.kernels`."""
    d, reach = image.ndim - 2, radius + dilation
    padded = F.pad(image, [reach] * 2 * d, mode="replicate")
    distances = torch.stack(
        [_distances(padded, one, other, radius, reach) for one, other in neighbours(d, dilation)],
        dim=2,
    )
    apart = distances - distances.amin(dim=2, keepdim=True)
    least = noise.to(image).reshape(*image.shape[:2], *[1] * (d + 1))
    scale = torch.maximum(distances.mean(dim=2, keepdim=True), least)
    return apart * (-1 / scale)


def neighbours(d: int, dilation: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The pairs of a voxel's neighbours that are no opposites, as offsets from it."""
    pairs = []
    for a, b in combinations(range(d), 2):
        for sign, side in product((1, -1), (1, -1)):
            one, other = [0] * d, [0] * d
            one[a], other[b] = side * dilation, side * sign * dilation
            pairs.append((tuple(one), tuple(other)))
    return pairs


def _distances(
    padded: Tensor, one: tuple[int, ...], other: tuple[int, ...], radius: int, reach: int
) -> Tensor:
    """Sums of squared differences of the patches around two neighbours, at every voxel."""
    near, far = padded, padded
    for axis, (a, b) in enumerate(zip(one, other, strict=True), start=2):
        n = padded.shape[axis] - 2 * (reach - radius)
        near = near.narrow(axis, reach - radius + a, n)
        far = far.narrow(axis, reach - radius + b, n)
    sums = box_sum((near - far) ** 2, [radius] * len(one))
    for axis in range(2, padded.ndim):
        sums = sums.narrow(axis, radius, padded.shape[axis] - 2 * reach)
    return sums
