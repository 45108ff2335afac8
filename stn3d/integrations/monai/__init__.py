"""MONAI's transforms for registration: register, apply and draw transforms in pipelines; and for
the segmentation of heads.

Images are channel-first MetaTensors of one subject, ``(C, i, j[, k])``; every transform keeps their
affine right and can be inverted by MONAI's ``Invertd``.
"""

from stn3d.integrations.monai.apply import ApplyTransform, ApplyTransformd, Direction
from stn3d.integrations.monai.modes import Mode, Padding
from stn3d.integrations.monai.random import (
    RandAffineWorld,
    RandAffineWorldd,
    RandSmoothDeform,
    RandSmoothDeformd,
)
from stn3d.integrations.monai.register import Registerd
from stn3d.integrations.monai.segment import SegmentHeadd

__all__ = [
    "ApplyTransform",
    "ApplyTransformd",
    "Direction",
    "Mode",
    "Padding",
    "RandAffineWorld",
    "RandAffineWorldd",
    "RandSmoothDeform",
    "RandSmoothDeformd",
    "Registerd",
    "SegmentHeadd",
]
