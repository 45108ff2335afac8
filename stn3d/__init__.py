"""stn3d: spatial transformers for volumes; register 2D and 3D medical images."""

from stn3d.startup import starting

with starting():
    from stn3d.apply import apply
    from stn3d.errors import InputError
    from stn3d.grid import Grid
    from stn3d.io import Image, read_image, read_transform, write_image, write_transform
    from stn3d.landmarks import register_landmarks
    from stn3d.registration.api import register
    from stn3d.registration.inputs import RegistrationImage
    from stn3d.registration.result import Registration
    from stn3d.series.api import register_series
    from stn3d.series.result import SeriesRegistration
    from stn3d.transforms import (
        Affine,
        Chain,
        DisplacementField,
        Rigid,
        Similarity,
        Transform,
        VelocityField,
    )

__version__ = "0.1.0"

__all__ = [
    "Affine",
    "Chain",
    "DisplacementField",
    "Grid",
    "Image",
    "InputError",
    "Registration",
    "RegistrationImage",
    "Rigid",
    "SeriesRegistration",
    "Similarity",
    "Transform",
    "VelocityField",
    "__version__",
    "apply",
    "read_image",
    "read_transform",
    "register",
    "register_landmarks",
    "register_series",
    "write_image",
    "write_transform",
]
