"""Base class of transform file formats, and the images that a transform belongs to."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

from stn3d.choices import TransformFormat
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io.geometry import grid_of
from stn3d.io.image import Image
from stn3d.io.sources import ImageSource, open_source
from stn3d.transforms import Transform

Reference: TypeAlias = "Grid | ImageSource"
"""An image of which only the geometry matters."""

Role = Literal["fixed", "moving"]


def grid_of_reference(source: Reference, role: Role) -> Grid:
    """Grid of an image; voxels of NIfTI files are not read.

    Raises:
        InputError: the image does not exist, or its header is invalid.
    """
    if isinstance(source, Grid):
        return source
    if isinstance(source, Image):
        return source.grid
    stored = open_source(source, f"{role} image")
    try:
        return grid_of(stored.affine, stored.shape[:3], 2 if stored.planar else None)
    except InputError as error:
        message = str(error)
        raise error if stored.name in message else InputError(f"{stored.name}: {message}") from None


@dataclass(frozen=True, eq=False)
class ReferenceImages:
    """The images that a transform belongs to, as far as they are known.

    Args:
        fixed: the fixed image.
        moving: the moving image.
    """

    fixed: Reference | None = None
    moving: Reference | None = None

    @cached_property
    def fixed_grid(self) -> Grid | None:
        """Grid of the fixed image, if it is known."""
        return None if self.fixed is None else grid_of_reference(self.fixed, "fixed")

    @cached_property
    def moving_grid(self) -> Grid | None:
        """Grid of the moving image, if it is known."""
        return None if self.moving is None else grid_of_reference(self.moving, "moving")

    def require_fixed(self, what: str) -> Grid:
        """Grid of the fixed image.

        Args:
            what: what needs it, for the message: ``a displacement field``.

        Raises:
            InputError: it is not known.
        """
        if self.fixed_grid is None:
            raise InputError(f"{what} needs the fixed image: give --like (fixed=).")
        return self.fixed_grid

    def require_both(self, what: str) -> tuple[Grid, Grid]:
        """Grids of the fixed and of the moving image.

        Args:
            what: what needs them, for the message: ``an FSL matrix``.

        Raises:
            InputError: one is not known.
        """
        if self.fixed_grid is None or self.moving_grid is None:
            raise InputError(
                f"{what} needs both images: give --like (fixed=) and --moving (moving=)."
            )
        return self.fixed_grid, self.moving_grid

    def swapped(self) -> ReferenceImages:
        """The same images with their roles exchanged, as the inverse transform has them."""
        return ReferenceImages(self.moving, self.fixed)


class TransformFileFormat(ABC):
    """Abstract base class of a file format of transforms.

    Formats are final classes without state, listed in `stn3d.io.transforms.registry`. No other
    module compares their names.
    """

    name: ClassVar[TransformFormat]
    suffixes: ClassVar[tuple[str, ...]] = ()
    """Extensions that select this format for an output."""

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """Whether a file can have this format, by its name and its first bytes."""

    @abstractmethod
    def read(self, path: Path, images: ReferenceImages) -> Transform:
        """Read a file, see `stn3d.io.transforms.read_transform`."""

    @abstractmethod
    def write(self, path: Path, transform: Transform, images: ReferenceImages) -> list[Path]:
        """Write a file, see `stn3d.io.transforms.write_transform`."""

    def outputs(self, path: Path) -> list[Path]:
        """The files that `write` may write.

        Raises:
            InputError: the format has no such extension.
        """
        return [path]


def has_suffix(path: Path, *suffixes: str) -> bool:
    """Whether a file name ends with one of some lower-case extensions, in any case."""
    return path.name.lower().endswith(suffixes)


def beginning(path: Path, length: int = 4096) -> bytes:
    """The first bytes of a file; none if it cannot be read."""
    if not os.path.isfile(path):
        return b""
    try:
        with open(path, "rb") as file:
            return file.read(length)
    except OSError:
        return b""
