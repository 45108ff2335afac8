"""Losses between images and of transforms; lower is better."""

from stn3d.losses.registration import RegistrationLoss
from stn3d.losses.regularity import (
    bending,
    diffusion,
    identity_deviation,
    inverse_consistency,
    jacobian,
)
from stn3d.losses.similarity import (
    METRICS,
    gradient,
    lncc,
    mind_descriptor,
    mind_ssc,
    mse,
    ncc,
    nmi,
)
from stn3d.losses.supervised import common_labels, dice, landmarks, one_hot, truth_error

__all__ = [
    "METRICS",
    "RegistrationLoss",
    "bending",
    "common_labels",
    "dice",
    "diffusion",
    "gradient",
    "identity_deviation",
    "inverse_consistency",
    "jacobian",
    "landmarks",
    "lncc",
    "mind_descriptor",
    "mind_ssc",
    "mse",
    "ncc",
    "nmi",
    "one_hot",
    "truth_error",
]
