"""Reading and writing of images, transforms and points; conversion between LPS and RAS."""

from stn3d.errors import GeometryWarning
from stn3d.io.dtypes import Values
from stn3d.io.files import STDOUT, atomic_write, check_output, is_stdout, refuse_inputs
from stn3d.io.image_output import (
    check_image_path,
    write_colours,
    write_image,
    write_volumes,
)
from stn3d.io.images import (
    in_dimension,
    read_exact,
    read_image,
    read_labels,
    read_mask,
    require_same_grid,
)
from stn3d.io.points import (
    Landmarks,
    PointMap,
    PointTable,
    check_geometry_path,
    read_geometry,
    read_landmarks,
    read_points,
    write_geometry,
    write_points,
)
from stn3d.io.sources import Image, ImageSource
from stn3d.io.transforms import check_transform_path, read_transform, write_transform
from stn3d.io.volumes import Volumes, open_series, open_volumes

__all__ = [
    "STDOUT",
    "GeometryWarning",
    "Image",
    "ImageSource",
    "Landmarks",
    "PointMap",
    "PointTable",
    "Values",
    "Volumes",
    "atomic_write",
    "check_geometry_path",
    "check_image_path",
    "check_output",
    "check_transform_path",
    "in_dimension",
    "is_stdout",
    "open_series",
    "open_volumes",
    "read_exact",
    "read_geometry",
    "read_image",
    "read_labels",
    "read_landmarks",
    "read_mask",
    "read_points",
    "read_transform",
    "refuse_inputs",
    "require_same_grid",
    "write_colours",
    "write_geometry",
    "write_image",
    "write_points",
    "write_transform",
    "write_volumes",
]
