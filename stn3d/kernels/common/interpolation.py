"""Reading between voxels: where points lie, the values there, and how these change.

Volumes are ``(I, J, K)``; a 2D image has I = 1. Between voxel centres values are linear, in the
outer half voxel constant, beyond the outer faces 0.

A row of points is worked on at a time: where they lie (`locate`, which fills vector registers),
then the reads, one voxel after the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stn3d.kernels.cpu.jit import kernel


@kernel
def steps(shape: Any) -> Any:
    """Flat strides to the next voxel along each axis; 0 along an axis of one voxel."""
    ni, nj, nk = shape
    return (
        np.uint32(nj * nk if ni > 1 else 0),
        np.uint32(nk if nj > 1 else 0),
        np.uint32(1 if nk > 1 else 0),
    )


@kernel
def _locate_axis(
    x: Any, n: Any, stride: Any, index: Any, share: Any, within: Any, real: Any
) -> None:
    """One axis of `locate`."""
    # The lower voxel is at most the last but one, so that the far face needs no care. A coordinate
    # that is no number becomes 0, as max and min take the second only where it is truly beyond.
    zero, one, half = real(0), real(1), real(0.5)
    top, low = real(n - 1), real(max(n - 2, 0))
    for k in range(len(index)):
        clamped = min(max(zero, x[k]), top)
        whole = np.floor(min(clamped, low))
        share[k] = clamped - whole
        index[k] += np.int32(whole) * stride
        within[k] *= one if (x[k] >= -half and x[k] < top + half) else zero


@kernel
def locate(x: Any, shape: Any, index: Any, share: Any, within: Any) -> None:
    """The cells of points ``x`` ``(3, K)``: the flat index of the lower corner, how far along each
    axis the point lies from there, ``(3, K)``, and 1 inside the image's outer faces, else 0. As
    many points as ``index`` has room for; the others are left as they are."""
    real = share.dtype.type
    _, nj, nk = shape
    for k in range(len(index)):
        index[k] = 0
        within[k] = real(1)
    _locate_axis(x[0], shape[0], np.int32(nj * nk), index, share[0], within, real)
    _locate_axis(x[1], shape[1], np.int32(nk), index, share[1], within, real)
    _locate_axis(x[2], shape[2], np.int32(1), index, share[2], within, real)


@kernel
def locate_flat(x: Any, shape: Any, index: Any, share: Any, within: Any) -> None:
    """`locate` in an image of one plane, along both its axes at once."""
    real = share.dtype.type
    zero, one, half = real(0), real(1), real(0.5)
    top_j, top_k = real(shape[1] - 1), real(shape[2] - 1)
    low_j, low_k = real(max(shape[1] - 2, 0)), real(max(shape[2] - 2, 0))
    stride = np.int32(shape[2])
    xj, xk, fj, fk = x[1], x[2], share[1], share[2]
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
def between(low: Any, high: Any, share: Any) -> Any:
    return low + share * (high - low)


@kernel
def read(values: Any, p: Any, step: Any, fi: Any, fj: Any, fk: Any) -> Any:
    """The value between the eight voxels from flat index ``p`` on."""
    si, sj, sk = step
    q, r, s = p + sj, p + si, p + si + sj
    near = between(
        between(values[p], values[p + sk], fk), between(values[q], values[q + sk], fk), fj
    )
    far = between(
        between(values[r], values[r + sk], fk), between(values[s], values[s + sk], fk), fj
    )
    return between(near, far, fi)


@kernel
def read_slopes(values: Any, p: Any, step: Any, fi: Any, fj: Any, fk: Any) -> Any:
    """The value between eight voxels and its derivatives along the three axes."""
    si, sj, sk = step
    q, r, s = p + sj, p + si, p + si + sj
    d00, d01 = values[p + sk] - values[p], values[q + sk] - values[q]
    d10, d11 = values[r + sk] - values[r], values[s + sk] - values[s]
    c00, c01 = values[p] + fk * d00, values[q] + fk * d01
    c10, c11 = values[r] + fk * d10, values[s] + fk * d11
    near, far = between(c00, c01, fj), between(c10, c11, fj)
    along_j = between(c01 - c00, c11 - c10, fi)
    along_k = between(between(d00, d01, fj), between(d10, d11, fj), fi)
    return between(near, far, fi), far - near, along_j, along_k


@kernel
def read_flat(values: Any, p: Any, step: Any, fj: Any, fk: Any) -> Any:
    """`read` in an image of one plane."""
    _, sj, sk = step
    q = p + sj
    return between(
        between(values[p], values[p + sk], fk), between(values[q], values[q + sk], fk), fj
    )


@kernel
def read_slopes_flat(values: Any, p: Any, step: Any, fj: Any, fk: Any) -> Any:
    """The derivatives of `read_flat` along the two axes."""
    _, sj, sk = step
    q = p + sj
    near, far = values[p + sk] - values[p], values[q + sk] - values[q]
    along_j = (values[q] + fk * far) - (values[p] + fk * near)
    return along_j, between(near, far, fj)
