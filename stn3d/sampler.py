"""The sampler: values of an image at points given in the image's own index coordinates.

Jaderberg et al. 2015, eq. 5, for d = 2 and 3: V = sum U prod max(0, 1 - |x - m|). Border as in ITK:
an image has values between the outer faces of its outer voxels (-0.5 <= v < n - 0.5) and nothing
beyond; linear and nearest clamp within the outer half voxel, cubic mirrors its coefficients.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Literal, get_args

import torch
from torch import Tensor

from stn3d.kernels import inside, points_of, sample_linear

__all__ = ["Interpolation", "inside", "sample", "sample_displaced", "sample_spline"]

Interpolation = Literal["linear", "nearest", "cubic"]


def sample(
    image: Tensor,
    points_index: Tensor,
    interpolation: Interpolation = "linear",
    outside_value: float = 0.0,
) -> Tensor:
    """Read an image at points.

    Args:
        image: ``(B, C, *shape)``, floating; nearest also takes whole numbers.
        points_index: ``(B, ..., d)`` index coordinates of this image; a batch of one on either side
            serves all of the other.
        interpolation: ``linear`` (bi- or trilinear), ``nearest``, or ``cubic`` (interpolating cubic
            B-spline: Unser et al. 1993, doi:10.1109/78.193220).
        outside_value: what lies beyond the image's outer faces.

    Returns:
        ``(B, C, ...)`` values; differentiable in image and points for linear and cubic.

    Raises:
        ValueError: shapes do not fit, or the interpolation is unknown.
    """
    d = image.ndim - 2
    if d not in (2, 3) or points_index.shape[-1] != d or points_index.ndim < 2:
        raise ValueError(
            f"an image (B, C, *shape) and points (B, ..., d) are needed; "
            f"got {tuple(image.shape)} and {tuple(points_index.shape)}."
        )
    if interpolation not in get_args(Interpolation):
        known = ", ".join(get_args(Interpolation))
        raise ValueError(f"unknown interpolation {interpolation!r}; one of {known}.")
    batch = max(image.shape[0], points_index.shape[0])
    out_shape = points_index.shape[1:-1]
    points = points_index.reshape(points_index.shape[0], -1, d)
    if interpolation == "linear":
        values = sample_linear(image, points)
    elif interpolation == "nearest":
        values = _nearest(image, points)
    else:
        values = _cubic(image, points)
    if interpolation != "linear" or outside_value != 0:
        mask = inside(points, tuple(image.shape[2:]))[:, None]
        values = torch.where(mask, values, values.new_full((), outside_value))
    return values.reshape(batch, image.shape[1], *out_shape)


def sample_displaced(
    image: Tensor, displacement_vox: Tensor, interpolation: Interpolation = "linear"
) -> Tensor:
    """``image(x + u(x))`` at every voxel x of the grid that both stand on; 0 beyond the image.

    Args:
        image: ``(B, C, *shape)``, as for `sample`.
        displacement_vox: ``(B, d, *shape)``; a batch of one on either side serves all of the other.
        interpolation: as for `sample`.

    Returns:
        ``(B, C, *shape)`` values; differentiable in both for linear and cubic.
    """
    points = points_of(displacement_vox.shape[2:], displacement_vox)
    return sample(image, displacement_vox.movedim(1, -1) + points, interpolation)


def _take(image: Tensor, index: Tensor) -> Tensor:
    """Voxels at whole indices; image ``(B, C, *shape)``, index ``(B, N, d)`` -> ``(B, C, N)``."""
    batch = max(image.shape[0], index.shape[0])
    flat = torch.zeros_like(index[..., 0])
    for axis, n in enumerate(image.shape[2:]):
        flat = flat * n + index[..., axis]
    flat = flat[:, None].expand(batch, image.shape[1], -1)
    return image.flatten(2).expand(batch, -1, -1).gather(2, flat)


def _nearest(image: Tensor, points: Tensor) -> Tensor:
    """The nearest voxel, halves upward as in ITK."""
    index = torch.floor(points + 0.5).long()
    top = torch.tensor(image.shape[2:], device=points.device) - 1
    return _take(image, torch.minimum(index.clamp(min=0), top))


def _cubic(image: Tensor, points: Tensor) -> Tensor:
    """Cubic B-spline interpolation with mirrored coefficients."""
    return sample_spline(_spline_coefficients(image), points)


def sample_spline(coefficients: Tensor, points: Tensor) -> Tensor:
    """The cubic B-spline of coefficients, mirrored about the centres of the outer ones.

    Args:
        coefficients: ``(B, C, *shape)``.
        points: ``(B, N, d)`` in their index coordinates; a batch of one on either side serves all
            of the other. Beyond half a voxel around the outer ones the spline stays as it is there.

    Returns:
        ``(B, C, N)``; differentiable in both.
    """
    shape = coefficients.shape[2:]
    # Points far off or nowhere are masked by the caller: give them indices that can be mirrored.
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
    """The four cubic B-spline weights for offsets -1, 0, 1, 2; ``(4, ...)``."""
    t, s = fraction, 1 - fraction
    return torch.stack([s**3 / 6, 2 / 3 - t**2 + t**3 / 2, 2 / 3 - s**2 + s**3 / 2, t**3 / 6])


def _mirror(index: Tensor, n: int) -> Tensor:
    """Whole indices reflected about the centres of the outer voxels."""
    if n == 1:
        return torch.zeros_like(index)
    period = 2 * (n - 1)
    index = index.remainder(period)
    return torch.minimum(index, period - index)


@lru_cache(maxsize=16)
def _spline_prefilter(n: int) -> Tensor:
    """``(n, n)`` matrix from samples to mirrored cubic B-spline coefficients along one axis."""
    with torch.inference_mode(False):  # what is kept must also serve later gradients
        matrix = torch.zeros(n, n, dtype=torch.float64)
        rows = torch.arange(n)
        for offset, weight in ((-1, 1 / 6), (0, 2 / 3), (1, 1 / 6)):
            value = torch.tensor(weight, dtype=torch.float64)
            matrix.index_put_((rows, _mirror(rows + offset, n)), value, accumulate=True)
        return torch.linalg.inv(matrix)


def _spline_coefficients(image: Tensor) -> Tensor:
    """Coefficients whose cubic B-spline passes through the image's voxels."""
    for axis in range(2, image.ndim):
        prefilter = _spline_prefilter(image.shape[axis]).to(image)
        image = torch.tensordot(image, prefilter, dims=([axis], [1])).movedim(-1, axis)
    return image
