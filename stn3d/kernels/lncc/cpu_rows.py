"""Formulas of LNCC and of its exact gradient, for a row of windows.

With n = sum w, means a = sum w f / n, b = sum w m / n, variances A, B and covariance X of a
window (fixed f, moved m, weights w; w = 1 without weights), noise variances e_A, e_B:
  squared correlation L = X^2 / ((A + e_A) (B + e_B)), texture T = A / (A + 10 e_A),
  loss = 1 - sum w T L / sum w T = 1 - P / Q.
The derivative of P (and of Q) by m(x) is a window sum of coefficients, since the window around x
contains the centres of all windows that contain x (Avants et al. 2008, without their
approximation).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stn3d.kernels.common.jit import kernel


@kernel
def product_row(
    quantity: Any, f: Any, m: Any, weight: Any, a: Any, b: Any, shift: Any, row: Any
) -> None:
    """A quantity to be summed over windows: f, f f, m, m m, f m, each times w; or w."""
    if quantity == 0:
        for k in range(a, b):
            row[k + shift] = f[k]
    elif quantity == 1:
        for k in range(a, b):
            row[k + shift] = f[k] * f[k]
    elif quantity == 2:
        for k in range(a, b):
            row[k + shift] = m[k]
    elif quantity == 3:
        for k in range(a, b):
            row[k + shift] = m[k] * m[k]
    elif quantity == 4:
        for k in range(a, b):
            row[k + shift] = f[k] * m[k]
    else:
        for k in range(a, b):
            row[k + shift] = f[k] * 0 + 1
    if weight is not None:
        for k in range(a, b):
            row[k + shift] *= weight[k]


@kernel
def plain_row(
    sums: Any,
    size: Any,
    sizes_k: Any,
    noise_f: Any,
    noise_m: Any,
    a: Any,
    b: Any,
    shift: Any,
    by_one: Any,
    by_m: Any,
    by_f: Any,
) -> Any:
    """P and Q of a row of windows without weights, and the coefficients of 1, m and f in P."""
    real = sums.dtype.type
    zero, one, two, ten = real(0), real(1), real(2), real(10)
    p, q = zero, zero
    for k in range(a, b):
        inverse_n = one / (size * sizes_k[k])
        mean_f, mean_m = sums[0, k] * inverse_n, sums[2, k] * inverse_n
        var_f = max(sums[1, k] * inverse_n - mean_f * mean_f, zero)
        var_m = sums[3, k] * inverse_n - mean_m * mean_m
        cross = sums[4, k] * inverse_n - mean_f * mean_m
        over_f, over_m = one / (var_f + noise_f), one / (max(var_m, zero) + noise_m)
        texture = var_f / (var_f + ten * noise_f)
        scaled = cross * over_f * over_m
        squared = cross * scaled
        p += texture * squared
        q += texture
        by_cross = two * texture * scaled * inverse_n
        by_var = -texture * squared * over_m * inverse_n if var_m > zero else zero
        by_f[k + shift] = by_cross
        by_m[k + shift] = two * by_var
        by_one[k + shift] = -(two * mean_m * by_var + mean_f * by_cross)
    return p, q


@kernel
def weighted_row(
    sums: Any,
    weight: Any,
    ratio: Any,
    noise_f: Any,
    noise_m: Any,
    a: Any,
    b: Any,
    shift: Any,
    out: Any,
    full: Any,
) -> Any:
    """P and Q of a row of windows with weights, and the coefficients of P - ratio Q in ``out``.

    The coefficients of 1, m and f in the derivative by m. If ``full``, also those of 1 and f in
    the derivative by f (its coefficient of m equals that of f by m), then those of the derivative
    by the weights: of the window's voxels and of its centre.
    """
    real = sums.dtype.type
    zero, one, two, ten, least = real(0), real(1), real(2), real(10), real(1e-6)
    p, q = zero, zero
    for k in range(a, b):
        inverse_n = one / max(sums[5, k], least)
        mean_f, mean_m = sums[0, k] * inverse_n, sums[2, k] * inverse_n
        var_f = max(sums[1, k] * inverse_n - mean_f * mean_f, zero)
        var_m = sums[3, k] * inverse_n - mean_m * mean_m
        cross = sums[4, k] * inverse_n - mean_f * mean_m
        over_f, over_m = one / (var_f + noise_f), one / (max(var_m, zero) + noise_m)
        over_t = one / (var_f + ten * noise_f)
        texture = var_f * over_t
        scaled = cross * over_f * over_m
        squared = cross * scaled
        w = weight[k]
        p += w * texture * squared
        q += w * texture
        by_cross = two * w * texture * scaled * inverse_n
        by_var = -w * texture * squared * over_m * inverse_n if var_m > zero else zero
        out[0, k + shift] = -(two * mean_m * by_var + mean_f * by_cross)
        out[1, k + shift] = two * by_var
        out[2, k + shift] = by_cross
        if full:
            gain = squared - ratio
            by_var_f = zero
            if var_f > zero:
                by_texture = ten * noise_f * over_t * over_t
                by_var_f = w * (gain * by_texture - texture * squared * over_f) * inverse_n
            out[3, k + shift] = -(two * mean_f * by_var_f + mean_m * by_cross)
            out[4, k + shift] = two * by_var_f
            own = by_cross * (mean_f * mean_m - cross) + by_var_f * (mean_f * mean_f - var_f)
            own += by_var * (mean_m * mean_m - max(var_m, zero))
            out[5, k + shift] = own if sums[5, k] > least else zero
            out[6, k + shift] = texture * gain
    return p, q


@kernel
def by_moved_row(sums: Any, f: Any, m: Any, weight: Any, a: Any, b: Any, out: Any) -> None:
    """Derivative of P - ratio Q by the moved image, from window sums of the coefficients."""
    for k in range(a, b):
        out[k] = sums[0, k] + m[k] * sums[1, k] + f[k] * sums[2, k]
    if weight is not None:
        for k in range(a, b):
            out[k] *= weight[k]


@kernel
def by_others_row(
    sums: Any, centre: Any, f: Any, m: Any, w: Any, a: Any, b: Any, by_fixed: Any, by_weight: Any
) -> None:
    """Derivatives of P - ratio Q by the fixed image and by the weights."""
    half, shift = sums.dtype.type(0.5), np.uint64((centre.shape[0] - f.shape[0]) // 2)
    for k in range(a, b):
        by_fixed[k] = w[k] * (sums[3, k] + f[k] * sums[4, k] + m[k] * sums[2, k])
    for k in range(a, b):
        squares = half * (f[k] * f[k] * sums[4, k] + m[k] * m[k] * sums[1, k])
        straight = sums[5, k] + f[k] * sums[3, k] + m[k] * sums[0, k]
        by_weight[k] = straight + squares + f[k] * m[k] * sums[2, k] + centre[k + shift]
