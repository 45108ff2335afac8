"""Images of several volumes, of which one at a time is in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from stn3d.errors import InputError
from stn3d.io import nifti
from stn3d.io.images import read_image, read_labels
from stn3d.io.nifti import Stored
from stn3d.io.sources import Image, ImageSource, open_source


@dataclass(frozen=True, eq=False)
class Volumes:
    """Some or all volumes of an image that stays on disk; each is read when it is asked for.

    Args:
        stored: the image; a NIfTI or MGH file gives one volume at a time, also out of gzip, other
            formats are in memory as a whole.
        role: what messages call it.
        numbers: the volumes, counted from 0; None for the whole of an image that has only one.
    """

    stored: Stored
    role: str
    numbers: tuple[int | None, ...]

    @property
    def name(self) -> str:
        """What messages call the image."""
        return self.stored.name

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Image]:
        return (self.image(n) for n in range(len(self)))

    def image(self, n: int) -> Image:
        """The n-th of the volumes as an image; it may be constant.

        Raises:
            InputError: it holds NaN or Inf, or cannot be read.
        """
        return read_image(self.stored, self.role, self.numbers[n], allow_constant=True)

    def labels(self, n: int) -> Image:
        """The n-th of the volumes as a label map; where there are several one may be empty.

        Raises:
            InputError: it holds no labels, or cannot be read.
        """
        several = len(self) > 1
        return read_labels(self.stored, "labels", self.numbers[n], allow_empty=several)

    def header_on(self, like: Image) -> Image:
        """The image with a header for as many volumes as these, with their time."""
        if len(self) == 1:
            return like
        header = nifti.header_of_volumes(like.header, self.stored.header, len(self))
        return replace(like, header=header)


def open_volumes(source: ImageSource, role: str = "image", volume: int | None = None) -> Volumes:
    """All volumes of an image, or one of them.

    Args:
        source: see `stn3d.io.read_image`.
        role: what messages call it.
        volume: the number of the only one wanted.

    Raises:
        InputError: there is no such image.
    """
    stored = open_source(source, role if role.endswith("image") else f"{role} image")
    several = volume is None and stored.num_volumes > 1
    return Volumes(stored, role, tuple(range(stored.num_volumes)) if several else (volume,))


def open_series(source: ImageSource, role: str = "series") -> Volumes:
    """The volumes of a 4D image.

    Raises:
        InputError: there is no such image, or it has one volume only.
    """
    volumes = open_volumes(source, role)
    if len(volumes) == 1:
        shape = " x ".join(str(n) for n in volumes.stored.shape)
        raise InputError(
            f"the {role} {volumes.name} has one volume ({shape} voxels); give a 4D image, "
            "or use register for a pair."
        )
    return volumes
