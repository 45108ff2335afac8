"""Points, surfaces and streamlines mapped between the spaces of two images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, overload

import numpy as np
import torch
from torch import Tensor

from stn3d.arguments import TensorLike, points_tensor
from stn3d.choices import CoordinateSystem, ImageRole, check_choice
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import (
    ImageSource,
    PointMap,
    TransformSource,
    check_geometry_path,
    read_geometry,
    read_image,
    refuse_inputs,
    spec_files,
    write_geometry,
)
from stn3d.io.points.base import Geometry
from stn3d.warp.direction import Direction, Images, direction_of, steps_of

PathLike: TypeAlias = "str | os.PathLike[str]"
_MOVED = "moved.nii.gz"  # of a registration, on the grid of the fixed image
_SAMPLES = 500  # points at which a pair of files is compared
_WITH_GRID = ("trk", "trx", "freesurfer")


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
    transform: TransformSource | Sequence[TransformSource],
    points: TensorLike,
    *,
    points_in: ImageRole | None = None,
    fixed: ImageSource | None = None,
    moving: ImageSource | None = None,
) -> Tensor: ...


@overload
def transform_points(
    transform: TransformSource | Sequence[TransformSource],
    points: PathLike,
    out: PathLike,
    *,
    points_in: ImageRole | None = None,
    coordinates: CoordinateSystem | None = None,
    fixed: ImageSource | None = None,
    moving: ImageSource | None = None,
) -> TransformedPoints: ...


def transform_points(
    transform: TransformSource | Sequence[TransformSource],
    points: TensorLike | PathLike,
    out: PathLike | None = None,
    *,
    points_in: ImageRole | None = None,
    coordinates: CoordinateSystem | None = None,
    fixed: ImageSource | None = None,
    moving: ImageSource | None = None,
) -> Tensor | TransformedPoints:
    """Map points, a surface or streamlines from the space of one image to that of the other.

    Args:
        transform: fixed points to moving points, see `stn3d.io.as_transform`; the folder of a
            registration; or a list of these, in the order in which a fixed point passes through.
        points: ``(..., d)`` points in world RAS+ millimetres; or a file with ``out``: CSV, TSV,
            ``.mrk.json``, ``.fcsv``; GIFTI, FreeSurfer, VTK, VTP, STL, PLY, OBJ; TCK, TRK, TRX.
        out: output file, of the same kind of data; everything but the coordinates is kept.
        points_in: the image that the points belong to: ``fixed`` (through the transform) or
            ``moving`` (through its inverse: the ``inverse.h5`` beside a ``transform.h5`` if the
            two are a pair, else computed). Default: fixed; moving for an ``inverse.h5`` beside a
            ``transform.h5``.
        coordinates: coordinate system of files that state none. Default: RAS.
        fixed: the fixed image, for transform formats that need it. The grid of the image that the
            points are mapped to goes into the headers of TRK, TRX and FreeSurfer's surfaces, and
            what leaves it is counted.
        moving: the moving image, likewise.

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
    images, steps = Images(fixed, moving), steps_of(transform)
    if isinstance(points, str | os.PathLike):
        if out is None:
            raise InputError(f"give the file for the mapped points of {points} as out.")
        return _transform_file(steps, Path(points), Path(out), points_in, coordinates, images)
    array = points_tensor(points).detach().cpu().double()
    flat = array.reshape(-1, array.shape[-1]).numpy() if array.ndim else np.empty((0, 0))
    direction = direction_of(steps, points_in, flat, "the array", images)
    return torch.from_numpy(PointMap(direction.transform)(flat).points_mm).reshape(array.shape)


def _transform_file(
    steps: list[TransformSource],
    source: Path,
    out: Path,
    points_in: ImageRole | None,
    coordinates: CoordinateSystem | None,
    images: Images,
) -> TransformedPoints:
    files = [file for one in steps if isinstance(one, str) for file in spec_files(one)]
    refuse_inputs([out], [files, source, images.fixed, images.moving])
    geometry = read_geometry(source, coordinates)
    out = check_geometry_path(out, geometry)
    direction = direction_of(steps, points_in, geometry.sample(_SAMPLES), str(source), images)
    view, name = _view(direction, geometry, out, images.one(direction.target))
    mapped = geometry.mapped(PointMap(direction.transform, view))
    notes = write_geometry(out, mapped, coordinates, view)
    notes = (*mapped.notes, *notes, *_outside_note(mapped, name))
    return TransformedPoints(
        out, mapped.size, direction.source, direction.target, direction.name, notes
    )


def _view(
    direction: Direction, geometry: Geometry, out: Path, image: ImageSource | None
) -> tuple[Grid | None, str]:
    """Grid of the image that the points are mapped to, if it is known and of use; and its name."""
    if image is None and direction.folder is not None:
        moved = direction.folder / _MOVED
        stores_grid = geometry.format in _WITH_GRID or out.suffix[1:] in _WITH_GRID
        if moved.is_file() and (stores_grid or geometry.kind == "streamlines"):
            image = moved
    if image is None:
        return None, ""
    found = read_image(image, direction.target, 0, allow_constant=True)
    if found.grid.ndim != direction.transform.ndim:
        raise InputError(
            f"{found.name} is {found.grid.ndim}D and the transform {direction.transform.ndim}D; "
            "give an image of the transform's dimension."
        )
    return found.grid, Path(found.name).name


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
