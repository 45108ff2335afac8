"""Gaussian smoothing and diffusion of a field's divergence, by shifted additions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d.kernels.common.region import Region, store_region


def gaussian_smooth(
    image: Tensor,
    sigma_vox: Sequence[float],
    region: Region | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Smooth everywhere, axis by axis, then store the region."""
    with torch.no_grad():
        for axis, sigma in enumerate(sigma_vox, start=2):
            weights = gaussian_weights(sigma, image.shape[axis])
            if len(weights) > 1:
                image = _smooth_axis(image, axis, weights)
    return image if out is None else store_region(image, region, out)


def gaussian_weights(sigma: float, n: int) -> list[float]:
    """Weights of the voxels at distances 0, 1, ..., truncated at three sigmas, normalised to 1.

    The single weight 1 for a sigma below 0.1 voxel or an axis of one voxel.
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


def diffuse_divergence(
    field_vox: Tensor, weights: Sequence[float], region: Region, out: Tensor
) -> Tensor:
    """Second differences of the padded field everywhere, then store the region."""
    shape = field_vox.shape[2:]
    padded = F.pad(field_vox, [1, 1] * len(shape), mode="replicate")

    def shifted(component: int, shifts: dict[int, int]) -> Tensor:
        view = padded[:, component]
        for axis, n in enumerate(shape):
            view = view.narrow(axis + 1, 1 + shifts.get(axis, 0), n)
        return view

    components = []
    for a, weight in enumerate(weights):
        total = shifted(a, {a: 1}) - 2 * shifted(a, {}) + shifted(a, {a: -1})
        for b in range(len(shape)):
            if b != a:
                corners = [p * q * shifted(b, {a: p, b: q}) for p in (1, -1) for q in (1, -1)]
                total = total + sum(corners[1:], corners[0]) / 4
        components.append(field_vox[:, a] + weight * total)
    return store_region(torch.stack(components, dim=1), region, out)
