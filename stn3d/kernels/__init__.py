"""The hot loops behind one small face: fused numba loops on the CPU, plain torch elsewhere.

Images are ``(B, C, *shape)``, d = 2 or 3; coordinates and vectors are in voxels, along the axes of
the grid that they stand on. `stn3d.kernels.reference` defines what is right.
"""

from __future__ import annotations

from stn3d.kernels.affine import sample_affine
from stn3d.kernels.composition import compose, exponential, take_step
from stn3d.kernels.correlation import lncc
from stn3d.kernels.histogram import entropy, joint_histogram, mutual_information
from stn3d.kernels.inversion import invert
from stn3d.kernels.jacobian import jacobian_determinant
from stn3d.kernels.matching import local_products
from stn3d.kernels.reference import Buffers, Moves, Warped, buffers, inside, points_of
from stn3d.kernels.region import Region
from stn3d.kernels.resampling import resample
from stn3d.kernels.sampling import sample_linear
from stn3d.kernels.self_similarity import self_similarity
from stn3d.kernels.smoothing import diffuse_divergence, gaussian_smooth, taper
from stn3d.kernels.warping import force, warp, warp_slope
from stn3d.kernels.windows import box_sum

__all__ = [
    "Buffers",
    "Moves",
    "Region",
    "Warped",
    "box_sum",
    "buffers",
    "compose",
    "diffuse_divergence",
    "entropy",
    "exponential",
    "force",
    "gaussian_smooth",
    "inside",
    "invert",
    "jacobian_determinant",
    "joint_histogram",
    "lncc",
    "local_products",
    "mutual_information",
    "points_of",
    "resample",
    "sample_affine",
    "sample_linear",
    "self_similarity",
    "take_step",
    "taper",
    "warp",
    "warp_slope",
]
