"""The hot loops in plain torch: what is right, and what runs where nothing faster does.

Images are ``(B, C, *shape)``, d = 2 or 3; coordinates and vectors are in voxels, along the axes of
the grid that they stand on.
"""

from __future__ import annotations

from stn3d.kernels.reference.affine import sample_affine
from stn3d.kernels.reference.composition import compose, take_step
from stn3d.kernels.reference.correlation import lncc
from stn3d.kernels.reference.histogram import joint_histogram
from stn3d.kernels.reference.inversion import invert
from stn3d.kernels.reference.jacobian import jacobian_determinant
from stn3d.kernels.reference.matching import local_products
from stn3d.kernels.reference.resampling import Moves, resample, whole_shift
from stn3d.kernels.reference.sampling import inside, points_of, sample_linear
from stn3d.kernels.reference.self_similarity import self_similarity
from stn3d.kernels.reference.smoothing import (
    diffuse_divergence,
    gaussian_smooth,
    gaussian_weights,
    length_quantile,
    length_stride,
    taper,
)
from stn3d.kernels.reference.warping import (
    Buffers,
    Warped,
    buffers,
    coverage,
    force,
    warp,
    warp_slope,
)
from stn3d.kernels.reference.windows import box_sum, window_sizes

__all__ = [
    "Buffers",
    "Moves",
    "Warped",
    "box_sum",
    "buffers",
    "compose",
    "coverage",
    "diffuse_divergence",
    "force",
    "gaussian_smooth",
    "gaussian_weights",
    "inside",
    "invert",
    "jacobian_determinant",
    "joint_histogram",
    "length_quantile",
    "length_stride",
    "lncc",
    "local_products",
    "points_of",
    "resample",
    "sample_affine",
    "sample_linear",
    "self_similarity",
    "take_step",
    "taper",
    "warp",
    "warp_slope",
    "whole_shift",
    "window_sizes",
]
