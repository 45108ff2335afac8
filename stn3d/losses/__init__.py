"""Losses: how unlike two images are, and how irregular a transform is; lower is better."""

from stn3d.losses.regularity import (
    bending,
    diffusion,
    identity_deviation,
    inverse_consistency,
    jacobian,
)
from stn3d.losses.similarity import SIMILARITIES, Similarity, lncc, mse, ncc

__all__ = [
    "SIMILARITIES",
    "Similarity",
    "bending",
    "diffusion",
    "identity_deviation",
    "inverse_consistency",
    "jacobian",
    "lncc",
    "mse",
    "ncc",
]
