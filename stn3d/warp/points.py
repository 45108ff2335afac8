"""Points, surfaces and streamlines mapped between the spaces of two images."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, overload

import numpy as np
import torch
from torch import Tensor

from stn3d.choices import CoordinateSystem, ImageRole, check_choice
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import (
    ImageSource,
    PointMap,
    check_geometry_path,
    read_geometry,
    read_image,
    read_transform,
    refuse_inputs,
    write_geometry,
)
from stn3d.io.points.base import Geometry
from stn3d.io.points.mapping import Floats
from stn3d.metrics import Array
from stn3d.transforms import Transform

PathLike: TypeAlias = "str | os.PathLike[str]"
TRANSFORM, INVERSE, MOVED = "transform.h5", "inverse.h5", "moved.nii.gz"
_SAMPLES = 500  # points at which a pair of files is compared
_WITH_GRID = ("trk", "trx", "freesurfer")


@dataclass(frozen=True, eq=False)
class Direction:
    """A transform for points, and where they go.

    Args:
        transform: the transform that the points go through.
        source: the image that they belong to.
        target: the image that they are mapped to.
        name: what the transform is, in words.
        folder: the folder of the registration, if it is one.
    """

    transform: Transform
    source: ImageRole
    target: ImageRole
    name: str
    folder: Path | None = None


@dataclass(frozen=True)
class TransformedPoints:
    """What was written.

    Args:
        path: the file.
        size: number of points, in words.
        source: the image that the points belonged to.
        target: the image that they were mapped to.
        name: the transform that they went through, in words.
        notes: what a user should know.
    """

    path: Path
    size: str
    source: ImageRole
    target: ImageRole
    name: str
    notes: tuple[str, ...]


@overload
def transform_points(
    transform: Transform | PathLike, points: Array, *, points_in: ImageRole | None = None
) -> Tensor: ...


@overload
def transform_points(
    transform: Transform | PathLike,
    points: PathLike,
    out: PathLike,
    *,
    points_in: ImageRole | None = None,
    coordinates: CoordinateSystem | None = None,
    like: ImageSource | None = None,
) -> TransformedPoints: ...


def transform_points(
    transform: Transform | PathLike,
    points: Array | PathLike,
    out: PathLike | None = None,
    *,
    points_in: ImageRole | None = None,
    coordinates: CoordinateSystem | None = None,
    like: ImageSource | None = None,
) -> Tensor | TransformedPoints:
    """Map points, a surface or streamlines from the space of one image to that of the other.

    Args:
        transform: fixed points to moving points; a transform file, or the folder of a registration.
        points: ``(..., d)`` points in world RAS+ millimetres; or a file with ``out``: CSV, TSV,
            ``.mrk.json``, ``.fcsv``; GIFTI, FreeSurfer, VTK, VTP, STL, PLY, OBJ; TCK, TRK, TRX.
        out: output file, of the same kind of data; everything but the coordinates is kept.
        points_in: the image that the points belong to: ``fixed`` (through the transform) or
            ``moving`` (through its inverse: the ``inverse.h5`` beside a ``transform.h5`` if the
            two are a pair, else computed). Default: fixed; moving for an ``inverse.h5`` beside a
            ``transform.h5``.
        coordinates: coordinate system of files that state none. Default: RAS.
        like: image that the points are mapped to: its grid goes into the headers of TRK, TRX and
            FreeSurfer's surfaces, and streamlines that leave it are counted.

    Returns:
        Of points: ``(..., d)`` float64 points in world RAS+ millimetres. Of a file: what was
        written.

    Raises:
        InputError: a file cannot be read or written, the dimensions differ, or a point has no
            image under the transform.

    Examples:
        >>> from stn3d.transforms import Translation
        >>> shift = Translation(torch.tensor([0.0, 5.0, 0.0]), torch.zeros(3))
        >>> transform_points(shift, [[1, 2, 3]])
        tensor([[1., 7., 3.]], dtype=torch.float64)
        >>> transform_points(shift, [[1, 2, 3]], points_in="moving")
        tensor([[ 1., -3.,  3.]], dtype=torch.float64)
    """
    if points_in is not None:
        check_choice("image that the points belong to", points_in, ImageRole)
    if isinstance(points, str | os.PathLike):
        if out is None:
            raise InputError(f"give the file for the mapped points of {points} as out.")
        return _transform_file(transform, Path(points), Path(out), points_in, coordinates, like)
    array = torch.as_tensor(points, dtype=torch.float64).detach().cpu()
    flat = array.reshape(-1, array.shape[-1]).numpy() if array.ndim else np.empty((0, 0))
    direction = _direction(transform, points_in, flat)
    _check_dimension(direction.transform, flat.shape[-1], "the array", transform)
    mapped = PointMap(direction.transform)(flat).points_mm
    return torch.from_numpy(mapped).reshape(array.shape)


def _transform_file(
    transform: Transform | PathLike,
    source: Path,
    out: Path,
    points_in: ImageRole | None,
    coordinates: CoordinateSystem | None,
    like: ImageSource | None,
) -> TransformedPoints:
    refuse_inputs([out], [transform, source, like])
    geometry = read_geometry(source, coordinates)
    out = check_geometry_path(out, geometry)
    direction = _direction(transform, points_in, geometry.sample(_SAMPLES))
    _check_dimension(direction.transform, geometry.ndim, str(source), transform)
    view, name = _view(direction, geometry, out, like)
    mapped = geometry.mapped(PointMap(direction.transform, view))
    notes = write_geometry(out, mapped, coordinates, view)
    outside = _outside_note(mapped, name)
    return TransformedPoints(
        out,
        mapped.size,
        direction.source,
        direction.target,
        direction.name,
        (*mapped.notes, *notes, *outside),
    )


# -- direction ------------------------------------------------------------------------------------


def _direction(
    transform: Transform | PathLike, points_in: ImageRole | None, sample: Floats
) -> Direction:
    """The transform from the image that points belong to, to the other one."""
    if isinstance(transform, Transform):
        return _either_way(transform, points_in or "fixed", "the transform")
    path = Path(transform)
    if path.is_dir():
        if not (path / TRANSFORM).is_file():
            raise InputError(
                f"the folder {path} holds no {TRANSFORM}; give the folder of a registration, or a "
                "transform file."
            )
        path = path / TRANSFORM
    if path.name in (TRANSFORM, INVERSE) and all(
        (path.parent / name).is_file() for name in (TRANSFORM, INVERSE)
    ):
        default: ImageRole = "moving" if path.name == INVERSE else "fixed"
        return _of_registration(path.parent, points_in or default, sample)
    return _either_way(read_transform(path), points_in or "fixed", path.name)


def _either_way(transform: Transform, points_in: ImageRole, name: str) -> Direction:
    if points_in == "fixed":
        return Direction(transform, "fixed", "moving", name)
    return Direction(transform.inverse(), "moving", "fixed", f"the inverse of {name}, computed")


def _of_registration(folder: Path, points_in: ImageRole, sample: Floats) -> Direction:
    """The transform from the folder of a registration, which holds both directions."""
    if points_in == "fixed":
        return Direction(read_transform(folder / TRANSFORM), "fixed", "moving", TRANSFORM, folder)
    forward, inverse = read_transform(folder / TRANSFORM), read_transform(folder / INVERSE)
    if _are_a_pair(forward, inverse, sample):
        return Direction(inverse, "moving", "fixed", INVERSE, folder)
    name = f"the inverse of {TRANSFORM}, computed, since {INVERSE} beside it is another transform's"
    return Direction(forward.inverse(), "moving", "fixed", name, folder)


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


def _check_dimension(
    transform: Transform, ndim: int, points: str, source: Transform | PathLike
) -> None:
    if ndim != transform.ndim:
        name = "the transform" if isinstance(source, Transform) else str(source)
        raise InputError(
            f"{points} holds {ndim}D points and {name} is {transform.ndim}D; "
            "give points of the transform's dimension."
        )


# -- field of view --------------------------------------------------------------------------------


def _view(
    direction: Direction, geometry: Geometry, out: Path, like: ImageSource | None
) -> tuple[Grid | None, str]:
    """Grid of the image that the points are mapped to, if it is known and of use; and its name."""
    if like is None and direction.folder is not None and direction.target == "fixed":
        moved = direction.folder / MOVED  # on the grid of the fixed image
        stores_grid = geometry.format in _WITH_GRID or out.suffix[1:] in _WITH_GRID
        if moved.is_file() and (stores_grid or geometry.kind == "streamlines"):
            like = moved
    if like is None:
        return None, ""
    image = read_image(like, "like", 0, allow_constant=True)
    if image.grid.ndim != direction.transform.ndim:
        raise InputError(
            f"{image.name} is {image.grid.ndim}D and the transform {direction.transform.ndim}D; "
            "give an image of the transform's dimension."
        )
    return image.grid, image.name


def _outside_note(geometry: Geometry, view: str) -> tuple[str, ...]:
    """A note on what lies outside the field of view."""
    count, total = geometry.outside()
    if not count:
        return ()
    what = {"points": "points", "surface": "vertices", "streamlines": "streamlines"}[geometry.kind]
    if view:
        return (f"{count:,} of {total:,} {what} leave the field of view of {view}",)
    return (
        f"{count:,} of {total:,} {what} leave the displacement field, the field of view of the "
        "image they belong to; there only the linear part of the transform moves them",
    )
