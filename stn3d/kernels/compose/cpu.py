"""Composition of displacement fields ``(3, I, J, K)`` in voxels, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from stn3d.kernels.common.dispatch import needs_gradient
from stn3d.kernels.common.interpolation import interpolate, locate, steps
from stn3d.kernels.common.jit import kernel, run
from stn3d.kernels.common.region import Region
from stn3d.kernels.common.tensors import as_field, runs_of
from stn3d.kernels.compose import reference
from stn3d.kernels.sample_linear import sample_linear

_MANY = 16  # this many fields are faster in one call of `sample_linear`, which needs a copy


@kernel
def _step_row(step: Any, scale: Any, velocity: Any, keep: Any, most: Any, vector: Any) -> None:
    """``scale step + keep velocity`` for vectors ``(3, n)`` of a row; it becomes the velocity.

    Then vectors with a squared length above ``most`` are shortened. Velocity may be None.
    """
    one = vector.dtype.type(1)
    for axis in range(3):
        s, m = step[axis], vector[axis]
        for k in range(len(m)):
            m[k] = scale * s[k]
        if velocity is not None:
            v = velocity[axis]
            for k in range(len(m)):
                m[k] += keep * v[k]
            for k in range(len(m)):
                v[k] = m[k]
    a, b, c = vector[0], vector[1], vector[2]
    for k in range(len(a)):
        square = a[k] * a[k] + b[k] * b[k] + c[k] * c[k]
        cut = np.sqrt(most / square) if square > most else one
        a[k], b[k], c[k] = cut * a[k], cut * b[k], cut * c[k]


@kernel
def compose_planes(
    first: int,
    last: int,
    steps_vox: Any,
    scale: Any,
    limit: Any,
    velocity: Any,
    keep: Any,
    field: Any,
    runs: Any,
    out: Any,
) -> None:
    """``out(x) = s(x) + field(x + s(x))`` at the voxels of runs, with s by `_step_row`.

    ``out`` may be ``steps_vox``. Beyond the grid the field is 0.
    """
    real = field.dtype.type
    shape = field.shape[1:]
    nk = shape[2]
    step, most = steps(shape), limit * limit
    f0, f1, f2 = field[0].ravel(), field[1].ravel(), field[2].ravel()
    points, fractions = np.empty((3, nk), field.dtype), np.empty((3, nk), field.dtype)
    vectors, insides = np.empty((3, nk), field.dtype), np.empty(nk, field.dtype)
    indices = np.empty(nk, np.int32)
    for i in range(first, last):
        for j in range(shape[1]):
            start, end = runs[i, j, 0], runs[i, j, 1]
            n = end - start
            if n <= 0:
                continue
            x, fraction, vector = points[:, :n], fractions[:, :n], vectors[:, :n]
            within, index = insides[:n], indices[:n]
            corner = index.view(np.uint32)
            xi, xj, xk = x[0], x[1], x[2]
            mi, mj, mk = vector[0], vector[1], vector[2]
            fi, fj, fk = fraction[0], fraction[1], fraction[2]
            kept = None if velocity is None else velocity[:, i, j, start:end]
            _step_row(steps_vox[:, i, j, start:end], scale, kept, keep, most, vector)
            for k in range(n):
                xi[k] = real(i) + mi[k]
            for k in range(n):
                xj[k] = real(j) + mj[k]
            for k in range(n):
                xk[k] = real(start + k) + mk[k]
            locate(x, shape, index, fraction, within)
            o0, o1, o2 = out[0, i, j, start:end], out[1, i, j, start:end], out[2, i, j, start:end]
            for k in range(n):
                p, w = corner[k], within[k]
                o0[k] = mi[k] + w * interpolate(f0, p, step, fi[k], fj[k], fk[k])
                o1[k] = mj[k] + w * interpolate(f1, p, step, fi[k], fj[k], fk[k])
                o2[k] = mk[k] + w * interpolate(f2, p, step, fi[k], fj[k], fk[k])


def compose(first_vox: Tensor, second_vox: Tensor) -> Tensor:
    """Field by field; where gradients are needed, and for many fields, by `sample_linear`."""
    if len(first_vox) >= _MANY or needs_gradient(first_vox, second_vox):
        return reference.compose(first_vox, second_vox, sample_linear)
    out = torch.empty_like(first_vox, memory_format=torch.contiguous_format)
    for first, second, one in zip(first_vox, second_vox.expand_as(first_vox), out, strict=True):
        take_step(first[None], second[None], 1.0, np.inf, None, one[None])
    return out


def take_step(
    step_vox: Tensor,
    field_vox: Tensor,
    scale: float,
    limit: float,
    region: Region | None,
    out: Tensor,
    velocity_vox: Tensor | None = None,
    keep: float = 0.0,
) -> Tensor:
    """Compose at the voxels of the region."""
    step, field, result = as_field(step_vox[0]), as_field(field_vox[0]), as_field(out[0])
    velocity = None if velocity_vox is None else as_field(velocity_vox[0])
    runs, real = runs_of(region, field), field.dtype.type
    options = real(scale), real(limit), velocity, real(keep), field, runs.runs, result
    work = runs.lengths.sum(axis=1)
    run(compose_planes, len(work), step, *options, work=work)
    if out.shape[1] == 2:
        out[0].copy_(torch.from_numpy(result[1:, 0]))
        if velocity_vox is not None and velocity is not None:
            velocity_vox[0].copy_(torch.from_numpy(velocity[1:, 0]))
    return out
