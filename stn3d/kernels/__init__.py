"""Numerical kernels of registration: numba on the CPU, plain torch for everything else.

Images are ``(B, C, *shape)``, d = 2 or 3; coordinates and vectors are in voxels along the axes of
their grid. Each operation is a package: the public function with its signature and docstring,
``reference`` (plain torch, which defines the result) and ``cpu`` (numba kernels).
"""

from __future__ import annotations

from stn3d.kernels.boundary_window import apply_boundary_window
from stn3d.kernels.box_sum import box_sum
from stn3d.kernels.common.points import inside, points_of
from stn3d.kernels.common.region import Region
from stn3d.kernels.compose import compose, exponential, take_step
from stn3d.kernels.cost_volume import cost_volume
from stn3d.kernels.displacement_search import cheapest_displacement, displacement_cost
from stn3d.kernels.folded_volume import folded_volume
from stn3d.kernels.force import force
from stn3d.kernels.histogram import entropy, joint_histogram, mutual_information
from stn3d.kernels.invert import invert
from stn3d.kernels.jacobian import jacobian_determinant
from stn3d.kernels.lncc import lncc
from stn3d.kernels.resample import resample
from stn3d.kernels.resample.types import Displacement
from stn3d.kernels.resample_classes import resample_classes
from stn3d.kernels.resample_labels import resample_labels
from stn3d.kernels.sample_affine import sample_affine
from stn3d.kernels.sample_linear import sample_linear
from stn3d.kernels.self_similarity import self_similarity
from stn3d.kernels.smooth import diffuse_divergence, gaussian_smooth
from stn3d.kernels.total_variation import total_variation_smooth
from stn3d.kernels.warp import warp, warp_gradient
from stn3d.kernels.warp.types import Buffers, Warped, buffers

__all__ = [
    "Buffers",
    "Displacement",
    "Region",
    "Warped",
    "apply_boundary_window",
    "box_sum",
    "buffers",
    "cheapest_displacement",
    "compose",
    "cost_volume",
    "diffuse_divergence",
    "displacement_cost",
    "entropy",
    "exponential",
    "folded_volume",
    "force",
    "gaussian_smooth",
    "inside",
    "invert",
    "jacobian_determinant",
    "joint_histogram",
    "lncc",
    "mutual_information",
    "points_of",
    "resample",
    "resample_classes",
    "resample_labels",
    "sample_affine",
    "sample_linear",
    "self_similarity",
    "take_step",
    "total_variation_smooth",
    "warp",
    "warp_gradient",
]
