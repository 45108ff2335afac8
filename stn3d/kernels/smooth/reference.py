"""Smoothing of images and of fields, and fading out towards the faces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


def gaussian_smooth(image: Tensor, sigma_vox: Sequence[float]) -> Tensor:
    """Convolve with a Gaussian along each axis. See `stn3d.kernels`."""
    with torch.no_grad():
        for axis, sigma in enumerate(sigma_vox, start=2):
            weights = gaussian_weights(sigma, image.shape[axis])
            if len(weights) > 1:
                image = _smooth_axis(image, axis, weights)
    return image


def gaussian_weights(sigma: float, n: int) -> list[float]:
    """Weights of the voxels at distances 0, 1, ..., cut off at three sigmas, that sum to 1.

    One alone, which changes nothing, below a sigma of 0.1 voxel or on an axis of one voxel.
    """
    if sigma < 0.1 or n == 1:
        return [1.0]
    weights = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(max(1, math.ceil(3 * sigma)) + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    return [w / total for w in weights]


def _smooth_axis(image: Tensor, axis: int, weights: Sequence[float]) -> Tensor:
    n = image.shape[axis]
    first, last = image.narrow(axis, 0, 1), image.narrow(axis, n - 1, 1)
    result = image * weights[0]
    for k, w in enumerate(weights[1:], start=1):
        inner = max(n - k, 0)
        if inner:
            result.narrow(axis, k, inner).add_(image.narrow(axis, 0, inner), alpha=w)
            result.narrow(axis, 0, inner).add_(image.narrow(axis, n - inner, inner), alpha=w)
        result.narrow(axis, 0, n - inner).add_(first, alpha=w)
        result.narrow(axis, inner, n - inner).add_(last, alpha=w)
    return result


def diffuse_divergence(field_vox: Tensor, weights: Sequence[float]) -> Tensor:
    """Add a weighed gradient of the divergence. See `stn3d.kernels`."""
    shape = field_vox.shape[2:]
    padded = F.pad(field_vox, [1, 1] * len(shape), mode="replicate")

    def moved(component: int, shifts: dict[int, int]) -> Tensor:
        view = padded[:, component]
        for axis, n in enumerate(shape):
            view = view.narrow(axis + 1, 1 + shifts.get(axis, 0), n)
        return view

    components = []
    for a, weight in enumerate(weights):
        total = moved(a, {a: 1}) - 2 * moved(a, {}) + moved(a, {a: -1})
        for b in range(len(shape)):
            if b != a:
                corners = [p * q * moved(b, {a: p, b: q}) for p in (1, -1) for q in (1, -1)]
                total = total + sum(corners[1:], corners[0]) / 4
        components.append(field_vox[:, a] + weight * total)
    return torch.stack(components, dim=1)


def taper(vectors: Tensor, weights: Sequence[Tensor], quantile: float) -> float:
    """Weigh a field's vectors in place; a quantile of their lengths. See `stn3d.kernels`."""
    for axis, weight in enumerate(weights, start=2):
        shape = [-1 if a == axis else 1 for a in range(vectors.ndim)]
        vectors.mul_(weight.to(vectors).reshape(shape))
    shape = [1] * (5 - vectors.ndim) + list(vectors.shape[2:])
    stride = length_stride(shape)
    few = vectors[0].reshape(-1, *shape)[:, ::stride, ::stride]
    lengths = torch.linalg.vector_norm(few, dim=0).cpu().numpy()
    return length_quantile(lengths[lengths > 0], quantile)


def length_stride(shape: Sequence[int]) -> int:
    """Every how many planes and rows of a volume vectors are measured: about a hundred thousand."""
    return max(1, math.isqrt(math.prod(shape) // 100_000))


def length_quantile(lengths: NDArray[Any], quantile: float) -> float:
    """A quantile of some lengths; the longest where a thousandth of them is no number of voxels."""
    if len(lengths) < 1000:
        return float(lengths.max(initial=0))
    rank = math.ceil(quantile * len(lengths)) - 1
    return float(np.partition(lengths, rank)[rank])
