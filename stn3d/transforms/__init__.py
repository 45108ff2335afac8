"""Transforms: maps from fixed points to moving points, in world RAS+ millimetres."""

from stn3d.transforms.base import Chain, Transform, chain
from stn3d.transforms.dense import (
    DisplacementField,
    VelocityField,
    compose,
    covering,
    invert_fields,
    rounded,
    sampled,
)
from stn3d.transforms.description import LinearParameters, describe_linear
from stn3d.transforms.inverse import Inverse
from stn3d.transforms.linear import (
    LINEAR_KINDS,
    Affine,
    Attention,
    Linear,
    LinearKind,
    Rigid,
    Similarity,
    Translation,
    rotation_matrix,
    split_linear,
)
from stn3d.transforms.projective import Homography, Projective
from stn3d.transforms.spline import BSpline, PiecewiseAffine, ThinPlateSpline, control_grid

__all__ = [
    "LINEAR_KINDS",
    "Affine",
    "Attention",
    "BSpline",
    "Chain",
    "DisplacementField",
    "Homography",
    "Inverse",
    "Linear",
    "LinearKind",
    "LinearParameters",
    "PiecewiseAffine",
    "Projective",
    "Rigid",
    "Similarity",
    "ThinPlateSpline",
    "Transform",
    "Translation",
    "VelocityField",
    "chain",
    "compose",
    "control_grid",
    "covering",
    "describe_linear",
    "invert_fields",
    "rotation_matrix",
    "rounded",
    "sampled",
    "split_linear",
]
