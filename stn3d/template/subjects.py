"""The images that a template is built from: read once, checked and named."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from stn3d.errors import InputError
from stn3d.grid import Grid, apply_matrix
from stn3d.io import Image, ImageSource, read_image
from stn3d.io.files import without_suffixes
from stn3d.io.sources import open_source
from stn3d.metrics import foreground
from stn3d.preprocessing.intensity import looks_like_ct

START = "start"
"""Name of an initial target that is given."""

_RESERVED = ("template", "changes")


@dataclass(frozen=True, eq=False)
class Subject:
    """An image that takes part in a template.

    Args:
        name: name of its results.
        source: the image.
        digest: hash of its values and its geometry.
        grid: its grid.
        image_name: path of the image, or its name in messages.
        centroid_mm: ``(d,)`` centroid of its foreground.
        foreground_ml: volume of its foreground; in 2D its area in units of 1000 mm^2.
        is_ct: whether it is a CT in HU.
    """

    name: str
    source: ImageSource
    digest: str
    grid: Grid
    image_name: str
    centroid_mm: Tensor
    foreground_ml: float
    is_ct: bool

    def read(self) -> Image:
        """Read the image again."""
        return read_image(self.source)


def read_subjects(images: Sequence[ImageSource], least: int = 2) -> list[Subject]:
    """Read all images, one at a time.

    Args:
        images: image sources.
        least: smallest number of images.

    Returns:
        The subjects in an order that does not depend on that of the images.

    Raises:
        InputError: there are too few images, one cannot be used or is given twice, or their
            dimensions differ.
    """
    if len(images) < least:
        raise InputError(f"a template needs at least {least} images; got {len(images)}.")
    found = [subject_of(i, n) for i, n in zip(images, names_of(images), strict=True)]
    for one in found:
        if one.grid.ndim != found[0].grid.ndim:
            raise InputError(
                f"{found[0].name} is {found[0].grid.ndim}D and {one.name} is {one.grid.ndim}D; "
                "give images of one dimension."
            )
        if one.grid.slice_axis is not None:
            raise InputError(
                f"{one.name} is a single slice of a volume; give volumes, or 2D images."
            )
        if one.is_ct != found[0].is_ct:
            ct, other = (one, found[0]) if one.is_ct else (found[0], one)
            raise InputError(
                f"{ct.name} is a CT in HU and {other.name} is not; give images of one modality."
            )
    return sorted(found, key=lambda one: (one.digest, one.name))


def subject_of(source: ImageSource, name: str) -> Subject:
    """Read an image and describe it.

    Raises:
        InputError: it cannot be used.
    """
    role = "start image" if name == START else "image"
    volumes = open_source(source, role).num_volumes
    if volumes > 1:
        raise InputError(
            f"{name} holds {volumes} volumes; give images of one volume, such as the mean of a "
            "series after motion correction."
        )
    image = read_image(source, role)
    seen = foreground(image.values)
    index = seen.nonzero().double().mean(0)
    volume_ml = float(seen.sum()) * abs(float(torch.linalg.det(image.grid.world_from_index))) / 1000
    return Subject(
        name,
        source,
        digest_of(image),
        image.grid,
        image.name,
        apply_matrix(image.grid.world_from_index, index[None])[0],
        volume_ml,
        looks_like_ct(image.values),
    )


def digest_of(image: Image) -> str:
    """Hash of an image's values and geometry."""
    content = hashlib.sha256(image.values.contiguous().numpy().tobytes())
    content.update(image.grid.world_from_index.numpy().tobytes())
    content.update(str(image.grid.shape).encode())
    return content.hexdigest()


def names_of(images: Sequence[ImageSource]) -> list[str]:
    """A name for each image: that of its file, with the folders in which it differs from others.

    Raises:
        InputError: two images are the same file, or a name cannot be used.

    Examples:
        >>> names_of(["a/T1.nii.gz", "b/T1.nii.gz"])
        ['a_T1', 'b_T1']
    """
    paths = [
        Path(one) if isinstance(one, str | os.PathLike) else Path(f"image-{number:02d}.nii.gz")
        for number, one in enumerate(images, start=1)
    ]
    parts = [(*p.absolute().parent.parts[1:], without_suffixes(p.name)) for p in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        names = [_joined(one[-depth:]) for one in parts]
        if len({name.lower() for name in names}) == len(names):
            return names
    twice = next(str(p) for p in paths if parts.count(parts[paths.index(p)]) > 1)
    raise InputError(f"{twice} is given twice; give each image once.")


def _joined(parts: Sequence[str]) -> str:
    """A file name of parts of a path, without what repeats in BIDS folders."""
    kept = [p for n, p in enumerate(parts) if not any(p in later for later in parts[n + 1 :])]
    name = "_".join(kept).lstrip(".")
    return f"image-{name}" if name.lower() in _RESERVED or not name else name
