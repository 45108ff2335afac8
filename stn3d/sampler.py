"""The sampler: interpolation of an image at points in its own index coordinates.

Jaderberg et al. 2015, eq. 5, for d = 2 and 3: ``V = sum U prod max(0, 1 - |x - m|)``. The border
is as in ITK: an image is defined between the outer faces of its outer voxels
(-0.5 <= v < n - 0.5). Within the outer half voxel, linear and nearest interpolation clamp the
coordinates, and cubic interpolation mirrors the coefficients.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Literal, get_args

import torch
from torch import Tensor

from stn3d.arguments import tensor_arguments
from stn3d.kernels import inside, points_of, sample_linear

__all__ = ["Interpolation", "inside", "sample", "sample_displaced", "sample_spline"]

Interpolation = Literal["linear", "nearest", "cubic"]


@tensor_arguments(["points_index"])
def sample(
    image: Tensor,
    points_index: Tensor,
    interpolation: Interpolation = "linear",
    outside_value: float = 0.0,
) -> Tensor:
    """Interpolate an image at points.

    Args:
        image: ``(B, C, *shape)``. Whole numbers and bool are interpolated in float64 and rounded,
            so that they keep their dtype.
        points_index: ``(B, ..., d)`` index coordinates of this image. Batches of one are broadcast,
            here and in ``image``.
        interpolation: ``linear`` (bi- or trilinear), ``nearest``, or ``cubic`` (interpolating cubic
            B-spline: Unser et al. 1993, doi:10.1109/78.193220).
        outside_value: value beyond the outer faces of the image.

    Returns:
        ``(B, C, ...)`` values, differentiable in image and points for linear and cubic.

    Raises:
        ValueError: the shapes do not match, or the interpolation is unknown.

    Examples:
        >>> image = torch.tensor([[0.0, 1.0], [2.0, 3.0]])[None, None]
        >>> points = torch.tensor([[0.0, 0.25], [0.5, 0.5], [-0.6, 0.0]])[None]
        >>> sample(image, points)
        tensor([[[0.2500, 1.5000, 0.0000]]])
        >>> sample(image, points, "nearest", outside_value=-1.0)
        tensor([[[ 0.,  3., -1.]]])
    """
    d = image.ndim - 2
    if d not in (2, 3) or points_index.shape[-1] != d or points_index.ndim < 2:
        raise ValueError(
            f"an image (B, C, *shape) and points (B, ..., d) are needed; "
            f"got shapes {tuple(image.shape)} and {tuple(points_index.shape)}."
        )
    if interpolation not in get_args(Interpolation):
        known = ", ".join(get_args(Interpolation))
        raise ValueError(f"unknown interpolation {interpolation!r}; choose one of {known}.")
    batch = max(image.shape[0], points_index.shape[0])
    out_shape = points_index.shape[1:-1]
    points = points_index.reshape(points_index.shape[0], -1, d)
    whole = interpolation != "nearest" and not image.is_floating_point()
    source, points = (image.double(), points.double()) if whole else (image, points)
    if interpolation == "linear":
        values = sample_linear(source, points)
    elif interpolation == "nearest":
        values = _nearest(source, points)
    else:
        values = _cubic(source, points)
    values = _rounded_like(image, values) if whole else values
    if interpolation != "linear" or outside_value != 0 or whole:
        mask = inside(points, tuple(image.shape[2:]))[:, None]
        values = torch.where(mask, values, values.new_full((), outside_value))
    return values.reshape(batch, image.shape[1], *out_shape)


@tensor_arguments(["displacement_vox"])
def sample_displaced(
    image: Tensor, displacement_vox: Tensor, interpolation: Interpolation = "linear"
) -> Tensor:
    """``image(x + u(x))`` at every voxel x of the common grid; 0 beyond the image.

    Args:
        image: ``(B, C, *shape)``, as for `sample`.
        displacement_vox: ``(B, d, *shape)`` displacement u in voxels; batches of one are broadcast.
        interpolation: as for `sample`.

    Returns:
        ``(B, C, *shape)`` values, differentiable in image and displacement for linear and cubic.
    """
    points = points_of(displacement_vox.shape[2:], displacement_vox)
    return sample(image, displacement_vox.movedim(1, -1) + points, interpolation)


def _rounded_like(image: Tensor, values: Tensor) -> Tensor:
    """Interpolated values of an image of whole numbers in its dtype, within its range."""
    low, high = (float(value) for value in image.double().aminmax())
    return values.round().clamp(low, high).to(image.dtype)


def _take(image: Tensor, index: Tensor) -> Tensor:
    """Voxels at integer indices; image ``(B, C, *shape)``, index ``(B, N, d)`` -> ``(B, C, N)``."""
    batch = max(image.shape[0], index.shape[0])
    flat = torch.zeros_like(index[..., 0])
    for axis, n in enumerate(image.shape[2:]):
        flat = flat * n + index[..., axis]
    flat = flat[:, None].expand(batch, image.shape[1], -1)
    return image.flatten(2).expand(batch, -1, -1).gather(2, flat)


def _nearest(image: Tensor, points: Tensor) -> Tensor:
    """Nearest voxel; halves are rounded up, as in ITK."""
    index = torch.floor(points + 0.5).long()
    top = torch.tensor(image.shape[2:], device=points.device) - 1
    return _take(image, torch.minimum(index.clamp(min=0), top))


def _cubic(image: Tensor, points: Tensor) -> Tensor:
    """Cubic B-spline interpolation with mirrored coefficients."""
    return sample_spline(_spline_coefficients(image), points)


@tensor_arguments(["points"])
def sample_spline(coefficients: Tensor, points: Tensor) -> Tensor:
    """Evaluate a cubic B-spline whose coefficients are mirrored about the outer ones.

    Args:
        coefficients: ``(B, C, *shape)`` spline coefficients.
        points: ``(B, N, d)`` index coordinates of the coefficients; batches of one are broadcast.
            Coordinates are clamped half a voxel beyond the outer coefficients.

    Returns:
        ``(B, C, N)`` values, differentiable in coefficients and points.
    """
    shape = coefficients.shape[2:]
    # Distant and NaN points are masked by the caller; clamp them to indices that can be mirrored.
    size = torch.tensor(shape, dtype=points.dtype, device=points.device)
    points = torch.minimum(points.nan_to_num().clamp(min=-0.5), size - 0.5)
    base = torch.floor(points.detach())
    weights = _spline_weights(points - base).to(coefficients.dtype)
    values = None
    for taps in product(range(4), repeat=len(shape)):
        index = torch.stack(
            [_mirror(base[..., a].long() + t - 1, shape[a]) for a, t in enumerate(taps)], dim=-1
        )
        weight = torch.ones_like(weights[0, ..., 0])
        for axis, t in enumerate(taps):
            weight = weight * weights[t, ..., axis]
        term = _take(coefficients, index) * weight[:, None]
        values = term if values is None else values + term
    assert values is not None
    return values


def _spline_weights(fraction: Tensor) -> Tensor:
    """Cubic B-spline weights for the offsets -1, 0, 1, 2; ``(4, ...)``."""
    t, s = fraction, 1 - fraction
    return torch.stack([s**3 / 6, 2 / 3 - t**2 + t**3 / 2, 2 / 3 - s**2 + s**3 / 2, t**3 / 6])


def _mirror(index: Tensor, n: int) -> Tensor:
    """Integer indices reflected about the centres of the outer voxels."""
    if n == 1:
        return torch.zeros_like(index)
    period = 2 * (n - 1)
    index = index.remainder(period)
    return torch.minimum(index, period - index)


@lru_cache(maxsize=16)
def _spline_prefilter(n: int) -> Tensor:
    """``(n, n)`` matrix from samples to mirrored cubic B-spline coefficients along one axis."""
    with torch.inference_mode(False):  # cached tensors are also used in autograd
        matrix = torch.zeros(n, n, dtype=torch.float64)
        rows = torch.arange(n)
        for offset, weight in ((-1, 1 / 6), (0, 2 / 3), (1, 1 / 6)):
            value = torch.tensor(weight, dtype=torch.float64)
            matrix.index_put_((rows, _mirror(rows + offset, n)), value, accumulate=True)
        return torch.linalg.inv(matrix)


def _spline_coefficients(image: Tensor) -> Tensor:
    """Coefficients of the cubic B-spline that interpolates the voxels of an image."""
    for axis in range(2, image.ndim):
        prefilter = _spline_prefilter(image.shape[axis]).to(image)
        image = torch.tensordot(image, prefilter, dims=([axis], [1])).movedim(-1, axis)
    return image
