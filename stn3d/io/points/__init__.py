"""Points, surfaces and streamlines in files."""

from stn3d.io.points.base import Geometry, PointTable
from stn3d.io.points.landmarks import Landmarks, read_landmarks, read_points, write_points
from stn3d.io.points.mapping import PointMap
from stn3d.io.points.registry import check_geometry_path, read_geometry, write_geometry

__all__ = [
    "Geometry",
    "Landmarks",
    "PointMap",
    "PointTable",
    "check_geometry_path",
    "read_geometry",
    "read_landmarks",
    "read_points",
    "write_geometry",
    "write_points",
]
