"""The inputs of a registration: both images with their masks, channels, labels and landmarks."""

from stn3d.registration.inputs.extents import require_similar_extents
from stn3d.registration.inputs.image import LoadedImage, RegistrationImage, Role
from stn3d.registration.inputs.labels import MAX_LABEL_CHANNELS, label_channels
from stn3d.registration.inputs.landmarks import PointSource
from stn3d.registration.inputs.pair import LoadedPair, read_pair

__all__ = [
    "MAX_LABEL_CHANNELS",
    "LoadedImage",
    "LoadedPair",
    "PointSource",
    "RegistrationImage",
    "Role",
    "label_channels",
    "read_pair",
    "require_similar_extents",
]
