"""Transforms: maps from fixed points to moving points, in world RAS+ millimetres."""

from stn3d.transforms.base import Chain, Transform, chain
from stn3d.transforms.dense import DisplacementField, VelocityField, compose
from stn3d.transforms.linear import (
    LINEAR_KINDS,
    Affine,
    Linear,
    LinearKind,
    Rigid,
    Similarity,
    rotation_matrix,
)

__all__ = [
    "LINEAR_KINDS",
    "Affine",
    "Chain",
    "DisplacementField",
    "Linear",
    "LinearKind",
    "Rigid",
    "Similarity",
    "Transform",
    "VelocityField",
    "chain",
    "compose",
    "rotation_matrix",
]
