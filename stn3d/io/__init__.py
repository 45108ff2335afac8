"""Reading and writing of images, transforms and points; conversion between LPS and RAS."""

from stn3d.errors import GeometryWarning
from stn3d.io.ddf import from_ddf, to_ddf
from stn3d.io.dtypes import Values
from stn3d.io.files import (
    STDOUT,
    atomic_folder,
    atomic_write,
    check_output,
    input_at,
    is_stdout,
    refuse_inputs,
)
from stn3d.io.image import Image
from stn3d.io.image_output import (
    check_image_path,
    is_picture,
    require_2d,
    write_colours,
    write_image,
    write_volumes,
)
from stn3d.io.images import (
    as_image,
    in_dimension,
    read_exact,
    read_image,
    read_labels,
    read_mask,
    require_same_grid,
)
from stn3d.io.label_tables import read_label_table
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
from stn3d.io.sources import ImageSource
from stn3d.io.transform_sources import TransformSource, as_transform
from stn3d.io.transforms import (
    Reference,
    check_transform_path,
    format_of_spec,
    grid_of_reference,
    read_spec,
    read_specs,
    read_transform,
    spec_files,
    split_format,
    write_transform,
)
from stn3d.io.volumes import Volumes, open_series, open_volumes

__all__ = [
    "STDOUT",
    "GeometryWarning",
    "Image",
    "ImageSource",
    "Landmarks",
    "PointMap",
    "PointTable",
    "Reference",
    "TransformSource",
    "Values",
    "Volumes",
    "as_image",
    "as_transform",
    "atomic_folder",
    "atomic_write",
    "check_geometry_path",
    "check_image_path",
    "check_output",
    "check_transform_path",
    "format_of_spec",
    "from_ddf",
    "grid_of_reference",
    "in_dimension",
    "input_at",
    "is_picture",
    "is_stdout",
    "open_series",
    "open_volumes",
    "read_exact",
    "read_geometry",
    "read_image",
    "read_label_table",
    "read_labels",
    "read_landmarks",
    "read_mask",
    "read_points",
    "read_spec",
    "read_specs",
    "read_transform",
    "refuse_inputs",
    "require_2d",
    "require_same_grid",
    "spec_files",
    "split_format",
    "to_ddf",
    "write_colours",
    "write_geometry",
    "write_image",
    "write_points",
    "write_transform",
    "write_volumes",
]
