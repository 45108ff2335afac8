"""The direction of a transform for points: from the image that they belong to, to the other one.

A transform maps points of the fixed image to points of the moving image. The folder of a
registration holds both directions, ``transform.h5`` and ``inverse.h5``; of other transforms the
inverse is computed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from stn3d.choices import ImageRole
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import ImageSource, PointMap, TransformSource, as_transform, read_transform
from stn3d.io.points.mapping import Floats
from stn3d.transforms import Transform, chain

TRANSFORM, INVERSE = "transform.h5", "inverse.h5"


@dataclass(frozen=True, eq=False)
class Images:
    """The images of a transform, where they are known.

    Args:
        fixed: the fixed image.
        moving: the moving image.
    """

    fixed: ImageSource | None = None
    moving: ImageSource | None = None

    def one(self, role: ImageRole) -> ImageSource | None:
        """The image of a role."""
        return self.fixed if role == "fixed" else self.moving


@dataclass(frozen=True, eq=False)
class Direction:
    """A transform for points, where they go, what it is in words, and the registration's folder."""

    transform: Transform
    source: ImageRole
    target: ImageRole
    name: str
    folder: Path | None


def steps_of(transform: TransformSource | Sequence[TransformSource]) -> list[TransformSource]:
    """A transform or several as a list, in the order in which a fixed point passes through.

    Args:
        transform: transform source, or a list of transforms and paths; a list of numbers is one
            matrix.

    Returns:
        The sources, paths as texts.
    """
    several = isinstance(transform, list | tuple) and all(
        isinstance(one, str | os.PathLike | Transform) for one in transform
    )
    steps = list(transform) if several and transform else [transform]  # type: ignore[arg-type]
    return [os.fspath(one) if isinstance(one, str | os.PathLike) else one for one in steps]


def direction_of(
    steps: list[TransformSource],
    points_in: ImageRole | None,
    sample: Floats,
    points: str,
    images: Images,
) -> Direction:
    """The transform from the image that points belong to, to the other one.

    Args:
        steps: the transforms in the order in which a fixed point passes through.
        points_in: the image that the points belong to, see `stn3d.transform_points`.
        sample: ``(n, d)`` some of the points, at which a pair of files is checked.
        points: what the points are, for messages.
        images: the images, for transform formats that need them.

    Raises:
        InputError: a transform cannot be read, or has another dimension than the points.
    """
    folders = [_folder_of(one) for one in steps]
    if points_in is None:
        is_inverse = len(steps) == 1 and folders[0] is not None
        is_inverse = is_inverse and Path(str(steps[0])).name == INVERSE
        points_in = "moving" if is_inverse else "fixed"
    order = list(range(len(steps)))
    parts: list[Transform] = []
    names = []
    for n in order if points_in == "fixed" else order[::-1]:
        fixed = images.fixed if n == 0 else None
        moving = images.moving if n == order[-1] else None
        one, name = _step(steps[n], folders[n], points_in, sample, Images(fixed, moving))
        if one.ndim != sample.shape[-1]:
            raise InputError(
                f"{points} holds {sample.shape[-1]}D points and {_name(steps[n], folders[n])} is "
                f"{one.ndim}D; give points of the transform's dimension."
            )
        parts.append(one)
        names.append(name)
        sample = PointMap(one)(sample).points_mm
    target: ImageRole = "moving" if points_in == "fixed" else "fixed"
    folder = folders[0] if target == "fixed" else None
    return Direction(chain(*parts), points_in, target, ", then ".join(names), folder)


def _folder_of(step: TransformSource) -> Path | None:
    """The folder of a registration that a path names: itself, or the file of a pair in it."""
    if not isinstance(step, str):
        return None
    path = Path(step)
    if os.path.isdir(path):
        if not (path / TRANSFORM).is_file():
            raise InputError(
                f"the folder {path} holds no {TRANSFORM}; give the folder of a registration, or a "
                "transform file."
            )
        return path
    pair = [path.parent / name for name in (TRANSFORM, INVERSE)]
    is_one = path.name in (TRANSFORM, INVERSE) and all(os.path.isfile(one) for one in pair)
    return path.parent if is_one else None


def _name(step: TransformSource, folder: Path | None) -> str:
    if isinstance(step, str):
        return step if folder is None else str(folder / TRANSFORM)
    return "the transform"


def _step(
    step: TransformSource, folder: Path | None, points_in: ImageRole, sample: Floats, images: Images
) -> tuple[Transform, str]:
    """One of the transforms in the direction of the points, and what it is in words."""
    name = Path(step).name if isinstance(step, str) else "the transform"
    if folder is not None:
        return _of_registration(folder, points_in, sample)
    found = as_transform(step, fixed=images.fixed, moving=images.moving)
    return (found, name) if points_in == "fixed" else _computed(found, name)


def _computed(transform: Transform, name: str, why: str = "") -> tuple[Transform, str]:
    return transform.inverse(), f"the inverse of {name}, computed{why}"


def _of_registration(folder: Path, points_in: ImageRole, sample: Floats) -> tuple[Transform, str]:
    """The transform from the folder of a registration, which holds both directions."""
    forward = read_transform(folder / TRANSFORM)
    if points_in == "fixed":
        return forward, TRANSFORM
    if not (folder / INVERSE).is_file():
        return _computed(forward, TRANSFORM)
    inverse = read_transform(folder / INVERSE)
    if _are_a_pair(forward, inverse, sample):
        return inverse, INVERSE
    return _computed(forward, TRANSFORM, f", since {INVERSE} beside it is another transform's")


@torch.no_grad()
def _are_a_pair(forward: Transform, inverse: Transform, sample: Floats) -> bool:
    """Whether two transforms invert each other at most points, up to interpolation."""
    if forward.ndim != inverse.ndim or sample.shape[-1] != forward.ndim or not len(sample):
        return forward.ndim == inverse.ndim
    points = torch.from_numpy(np.array(sample, np.float64))
    mapped = inverse(points)
    gap, length = (forward(mapped) - points).norm(dim=1), (mapped - points).norm(dim=1)
    grids = [getattr(part, "grid", None) for part in forward.parts]
    spacings = [max(grid.spacing_mm) for grid in grids if isinstance(grid, Grid)]
    voxel_mm = max(spacings, default=1e-3)
    return bool(gap.median() <= max(voxel_mm / 2, 0.1 * float(length.median())))
