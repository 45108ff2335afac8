"""Registration by corresponding landmarks, without images."""

from stn3d.choices import LandmarkKind
from stn3d.landmarks.fitting import register_landmarks
from stn3d.landmarks.result import LandmarkRegistration

__all__ = ["LandmarkKind", "LandmarkRegistration", "register_landmarks"]
