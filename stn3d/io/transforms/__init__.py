"""Reading and writing of transform files."""

from stn3d.io.transforms.base import Reference, grid_of_reference
from stn3d.io.transforms.registry import check_transform_path, read_transform, write_transform
from stn3d.io.transforms.spec import (
    format_of_spec,
    read_spec,
    read_specs,
    spec_files,
    split_format,
)

__all__ = [
    "Reference",
    "check_transform_path",
    "format_of_spec",
    "grid_of_reference",
    "read_spec",
    "read_specs",
    "read_transform",
    "spec_files",
    "split_format",
    "write_transform",
]
