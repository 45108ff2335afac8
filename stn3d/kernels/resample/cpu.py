"""Resampling of a volume through a matrix and an optional displacement field, row by row.

Image and field are interpolated in one pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from stn3d.kernels.common.dispatch import needs_gradient
from stn3d.kernels.common.interpolation import locate, steps
from stn3d.kernels.common.jit import kernel, run
from stn3d.kernels.common.tensors import volumes
from stn3d.kernels.resample import reference
from stn3d.kernels.resample.rows import (
    interpolate_row,
    interpolate_straight_row,
    mapped_row,
    path_of,
    scratch,
)
from stn3d.kernels.resample.types import Displacement
from stn3d.kernels.sample_linear import sample_linear


@kernel
def resample_planes(first: int, last: int, image: Any, path: Any, outside: Any, out: Any) -> None:
    """``out(x) = image(path(x))``, see `stn3d.kernels.resample.rows.Path`.

    Args:
        image: ``(C, I, J, K)``.
        path: output voxels to image indices.
        outside: value beyond the domain.
        out: ``(C, *wanted)``.
    """
    shape, step = image.shape[1:], steps(image.shape[1:])
    nj, nk = out.shape[2], out.shape[3]
    x, buffers = np.empty((3, nk), np.float64), scratch(nk, path.vectors)
    fraction, within = np.empty((3, nk), image.dtype), np.empty(nk, image.dtype)
    index, line = np.empty(nk, np.int32), np.empty(shape[2], image.dtype)
    corner, matrix = index.view(np.uint32), path.matrix
    straight = len(path.vectors) == 0 and matrix[0, 2] == 0 and matrix[1, 2] == 0
    for i in range(first, last):
        for j in range(nj):
            mapped_row(i, j, path, buffers, x)
            locate(x, shape, index, fraction, within)
            for c in range(len(image)):
                values, into = image[c].ravel(), out[c, i, j]
                if straight:
                    interpolate_straight_row(
                        values, shape[2], corner, step, fraction, within, outside, line, into
                    )
                else:
                    interpolate_row(values, corner, step, fraction, within, outside, into)


def resample(
    image: Tensor,
    matrix: Tensor,
    shape: Sequence[int],
    displacement: Displacement | None,
    outside_value: float,
) -> Tensor:
    """Resample plane by plane; where gradients are needed, as the reference by `sample_linear`."""
    if needs_gradient(image, matrix, *(displacement or ())):
        return reference.resample(image, matrix, shape, displacement, outside_value, sample_linear)
    source, out = volumes(image), image.new_empty(1, image.shape[1], *shape)
    path, target = path_of(matrix, shape, displacement, image.dtype), volumes(out)
    run(resample_planes, target.shape[1], source, path, source.dtype.type(outside_value), target)
    return out
