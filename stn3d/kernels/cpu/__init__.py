"""The hot loops as fused, parallel numba loops on torch's CPU tensors; no autograd here.

Each function does what the one of its name in `stn3d.kernels.reference` does. A 2D image is a
volume of one plane.
"""

from __future__ import annotations

from stn3d.kernels.cpu.affine import affine_back, sample_affine
from stn3d.kernels.cpu.composition import compose, take_step
from stn3d.kernels.cpu.correlation import lncc
from stn3d.kernels.cpu.histogram import histogram_slopes, joint_histogram
from stn3d.kernels.cpu.inversion import invert
from stn3d.kernels.cpu.jacobian import jacobian_determinant
from stn3d.kernels.cpu.matching import local_products, local_products_adjoint
from stn3d.kernels.cpu.resampling import resample
from stn3d.kernels.cpu.sampling import sample_adjoint, sample_linear, sample_slopes
from stn3d.kernels.cpu.self_similarity import self_similarity
from stn3d.kernels.cpu.smoothing import diffuse_divergence, gaussian_smooth, taper
from stn3d.kernels.cpu.warping import force, warp, warp_slope
from stn3d.kernels.cpu.windows import box_sum

__all__ = [
    "affine_back",
    "box_sum",
    "compose",
    "diffuse_divergence",
    "force",
    "gaussian_smooth",
    "histogram_slopes",
    "invert",
    "jacobian_determinant",
    "joint_histogram",
    "lncc",
    "local_products",
    "local_products_adjoint",
    "resample",
    "sample_adjoint",
    "sample_affine",
    "sample_linear",
    "sample_slopes",
    "self_similarity",
    "take_step",
    "taper",
    "warp",
    "warp_slope",
]
