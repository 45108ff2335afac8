"""Images of several volumes, read one volume at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from stn3d.errors import InputError
from stn3d.io import nifti
from stn3d.io.image import Image
from stn3d.io.images import read_exact, read_image, read_labels
from stn3d.io.nifti import Stored
from stn3d.io.sources import ImageSource, open_source


@dataclass(frozen=True, eq=False)
class Volumes:
    """Volumes of an image on disk, each read on access.

    Args:
        stored: the image. NIfTI and MGH files, also compressed, are read one volume at a time;
            other formats are in memory.
        role: name of the image in messages.
        numbers: volume numbers, counted from 0; None for an image of a single volume.
        ndim: 2 or 3; None for the number of axes.
    """

    stored: Stored
    role: str
    numbers: tuple[int | None, ...]
    ndim: int | None = None

    @property
    def name(self) -> str:
        """Name of the image in messages."""
        return self.stored.name

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Image]:
        return (self.image(n) for n in range(len(self)))

    def image(self, n: int) -> Image:
        """The n-th volume as an image; it may be constant.

        Raises:
            InputError: the volume holds NaN or Inf, or cannot be read.
        """
        number = self.numbers[n]
        return read_image(self.stored, self.role, number, ndim=self.ndim, allow_constant=True)

    def exact(self, n: int) -> Image:
        """The n-th volume as an image without any rounding, see `read_exact`.

        Raises:
            InputError: the volume holds NaN or Inf, or cannot be read.
        """
        return read_exact(self.stored, self.role, self.numbers[n], ndim=self.ndim)

    def labels(self, n: int) -> Image:
        """The n-th volume as a label map; one of several may be empty.

        Raises:
            InputError: the volume holds no labels, or cannot be read.
        """
        several = len(self) > 1
        number = self.numbers[n]
        return read_labels(self.stored, "labels", number, ndim=self.ndim, allow_empty=several)

    def in_dimension(self, ndim: int) -> Volumes:
        """Single slices as 2D images if 2D is wanted; any other volumes as they are."""
        single = len(self.stored.shape) > 2 and self.stored.shape[2] == 1
        return replace(self, ndim=2) if ndim == 2 and single else self

    def in_memory(self, image: Image) -> Volumes:
        """These volumes, if they are one, with its values already read."""
        return replace(self, stored=open_source(image, self.role), numbers=(None,))

    def header_on(self, like: Image) -> Image:
        """The image with a header for this number of volumes and this repetition time."""
        if len(self) == 1:
            return like
        header = nifti.header_of_volumes(like.header, self.stored.header, len(self))
        return replace(like, header=header)


def open_volumes(source: ImageSource, role: str = "image", volume: int | None = None) -> Volumes:
    """Open all volumes of an image, or one of them.

    Args:
        source: image source, see `stn3d.io.read_image`.
        role: name of the image in messages.
        volume: number of a single volume, counted from 0; default: all.

    Raises:
        InputError: the image does not exist or cannot be read.
    """
    stored = open_source(source, role if role.endswith("image") else f"{role} image")
    several = volume is None and stored.num_volumes > 1
    return Volumes(stored, role, tuple(range(stored.num_volumes)) if several else (volume,))


def open_series(source: ImageSource, role: str = "series") -> Volumes:
    """Open the volumes of a 4D image.

    Raises:
        InputError: the image does not exist, cannot be read or has a single volume.
    """
    volumes = open_volumes(source, role)
    if len(volumes) == 1:
        shape = " x ".join(str(n) for n in volumes.stored.shape)
        raise InputError(
            f"the {role} {volumes.name} has a single volume ({shape} voxels); give a 4D image, "
            "or use register for a pair of images."
        )
    return volumes
