"""Corresponding landmarks of both images."""

from __future__ import annotations

import os
from typing import TypeAlias

from torch import Tensor

from stn3d.errors import InputError
from stn3d.io import Landmarks, read_landmarks
from stn3d.landmarks.checks import paired
from stn3d.metrics import Array

PointSource: TypeAlias = "str | os.PathLike[str] | Array"
"""A file of points, see `stn3d.io.read_points`, or ``(N, d)`` points, world RAS+ millimetres."""


def read_landmark_pairs(
    fixed: PointSource | None, moving: PointSource | None, ndim: int
) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """Read the landmarks of both images.

    Args:
        fixed: landmarks in the fixed image; None for none.
        moving: the same landmarks in the moving image.
        ndim: dimension of the images.

    Returns:
        Two ``(N, d)`` float64 tensors, row by row the same landmark; or None twice.

    Raises:
        InputError: only one side is given, the landmarks do not correspond, or they are not of the
            images' dimension.
    """
    if fixed is None and moving is None:
        return None, None
    if fixed is None or moving is None:
        given, other = ("fixed", "moving") if moving is None else ("moving", "fixed")
        raise InputError(f"only {given} points are given; give --{other}-points too, or neither.")
    pairs = _read(fixed, moving)
    if pairs.fixed_mm.shape[1] != ndim:
        raise InputError(
            f"the landmarks are {pairs.fixed_mm.shape[1]}D and the images are {ndim}D; give "
            "landmarks of the images' dimension."
        )
    return pairs.fixed_mm.double(), pairs.moving_mm.double()


def _read(fixed: PointSource, moving: PointSource) -> Landmarks:
    paths = [source for source in (fixed, moving) if isinstance(source, str | os.PathLike)]
    if len(paths) == 2:
        return read_landmarks(*paths)
    if paths:
        raise InputError("give the landmarks of both images as files, or both as arrays.")
    return paired(fixed, moving)  # type: ignore[arg-type]
