"""Linear interpolation in a volume: cells of points, values and their gradients.

Volumes are ``(I, J, K)``; a 2D image has I = 1. Values are linear between voxel centres, constant
in the outer half voxel, and 0 beyond the domain.

Points are processed in rows: first the cells of a whole row (`locate`, which is vectorised), then
the interpolation point by point.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stn3d.kernels.common.jit import kernel


@kernel
def steps(shape: Any) -> Any:
    """Flat index steps to the next voxel along each axis; 0 along an axis of one voxel."""
    ni, nj, nk = shape
    return (
        np.uint32(nj * nk if ni > 1 else 0),
        np.uint32(nk if nj > 1 else 0),
        np.uint32(1 if nk > 1 else 0),
    )


@kernel
def _locate_axis(
    x: Any, n: Any, stride: Any, index: Any, fraction: Any, within: Any, real: Any
) -> None:
    """One axis of `locate`."""
    # The lower voxel is at most the last but one, so that its neighbour exists. NaN becomes 0,
    # since max and min return the second argument only if the comparison is true.
    zero, one, half = real(0), real(1), real(0.5)
    top, low = real(n - 1), real(max(n - 2, 0))
    for k in range(len(index)):
        clamped = min(max(zero, x[k]), top)
        whole = np.floor(min(clamped, low))
        fraction[k] = clamped - whole
        index[k] += np.int32(whole) * stride
        within[k] *= one if (x[k] >= -half and x[k] < top + half) else zero


@kernel
def locate(x: Any, shape: Any, index: Any, fraction: Any, within: Any) -> None:
    """The cells of as many points ``x`` ``(3, K)`` as ``index`` has elements.

    Args:
        index: becomes the flat index of each cell's lower corner.
        fraction: ``(3, K)``, becomes the position within the cell along each axis, 0 to 1.
        within: becomes 1 inside the image's domain, else 0.
    """
    real = fraction.dtype.type
    _, nj, nk = shape
    for k in range(len(index)):
        index[k] = 0
        within[k] = real(1)
    _locate_axis(x[0], shape[0], np.int32(nj * nk), index, fraction[0], within, real)
    _locate_axis(x[1], shape[1], np.int32(nk), index, fraction[1], within, real)
    _locate_axis(x[2], shape[2], np.int32(1), index, fraction[2], within, real)


@kernel
def locate_2d(x: Any, shape: Any, index: Any, fraction: Any, within: Any) -> None:
    """`locate` in a 2D image, along both axes at once."""
    real = fraction.dtype.type
    zero, one, half = real(0), real(1), real(0.5)
    top_j, top_k = real(shape[1] - 1), real(shape[2] - 1)
    low_j, low_k = real(max(shape[1] - 2, 0)), real(max(shape[2] - 2, 0))
    stride = np.int32(shape[2])
    xj, xk, fj, fk = x[1], x[2], fraction[1], fraction[2]
    for k in range(len(index)):
        j, c = xj[k], xk[k]
        at_j, at_k = min(max(zero, j), top_j), min(max(zero, c), top_k)
        whole_j, whole_k = np.floor(min(at_j, low_j)), np.floor(min(at_k, low_k))
        fj[k], fk[k] = at_j - whole_j, at_k - whole_k
        index[k] = np.int32(whole_j) * stride + np.int32(whole_k)
        inside_j = j >= -half and j < top_j + half
        inside_k = c >= -half and c < top_k + half
        within[k] = one if inside_j and inside_k else zero


@kernel
def lerp(low: Any, high: Any, fraction: Any) -> Any:
    """Linear interpolation of two values."""
    return low + fraction * (high - low)


@kernel
def interpolate(values: Any, p: Any, step: Any, fi: Any, fj: Any, fk: Any) -> Any:
    """The value in the cell of eight voxels at flat index ``p``."""
    si, sj, sk = step
    q, r, s = p + sj, p + si, p + si + sj
    near = lerp(lerp(values[p], values[p + sk], fk), lerp(values[q], values[q + sk], fk), fj)
    far = lerp(lerp(values[r], values[r + sk], fk), lerp(values[s], values[s + sk], fk), fj)
    return lerp(near, far, fi)


@kernel
def interpolate_gradient(values: Any, p: Any, step: Any, fi: Any, fj: Any, fk: Any) -> Any:
    """The value in a cell of eight voxels and its derivatives along the three axes."""
    si, sj, sk = step
    q, r, s = p + sj, p + si, p + si + sj
    d00, d01 = values[p + sk] - values[p], values[q + sk] - values[q]
    d10, d11 = values[r + sk] - values[r], values[s + sk] - values[s]
    c00, c01 = values[p] + fk * d00, values[q] + fk * d01
    c10, c11 = values[r] + fk * d10, values[s] + fk * d11
    near, far = lerp(c00, c01, fj), lerp(c10, c11, fj)
    along_j = lerp(c01 - c00, c11 - c10, fi)
    along_k = lerp(lerp(d00, d01, fj), lerp(d10, d11, fj), fi)
    return lerp(near, far, fi), far - near, along_j, along_k


@kernel
def interpolate_2d(values: Any, p: Any, step: Any, fj: Any, fk: Any) -> Any:
    """`interpolate` in a 2D image."""
    _, sj, sk = step
    q = p + sj
    return lerp(lerp(values[p], values[p + sk], fk), lerp(values[q], values[q + sk], fk), fj)


@kernel
def gradient_2d(values: Any, p: Any, step: Any, fj: Any, fk: Any) -> Any:
    """The derivatives of `interpolate_2d` along the two axes."""
    _, sj, sk = step
    q = p + sj
    near, far = values[p + sk] - values[p], values[q + sk] - values[q]
    along_j = (values[q] + fk * far) - (values[p] + fk * near)
    return along_j, lerp(near, far, fj)
