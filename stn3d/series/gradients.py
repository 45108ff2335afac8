"""Diffusion gradient directions (FSL's bvecs) of a motion-corrected series.

Convention of FSL: components along the axes of the image, i, j and k, the first with its sign
changed if the determinant of the affine is positive. A volume that is rotated back takes its
gradient direction along (Leemans & Jones 2009, doi:10.1002/mrm.21890).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io.texts import read_text, shown_path
from stn3d.transforms import Linear

Directions = NDArray[np.float64]
_MOST_MB = 16
_ADVICE = "give FSL's bvecs, three rows with a column for each volume"


def read_bvecs(path: str | os.PathLike[str], count: int) -> Directions:
    """Gradient directions of a file with three rows (FSL) or three columns.

    Args:
        path: text file of numbers.
        count: number of volumes.

    Returns:
        ``(count, 3)`` directions.

    Raises:
        InputError: the file cannot be read or does not fit the series.
    """
    name = shown_path(path)
    rows = [line.split() for line in read_text(path, "bvec file", _ADVICE, _MOST_MB).splitlines()]
    try:
        found = np.array([row for row in rows if row], dtype=np.float64)
    except ValueError:
        raise InputError(
            f"{shown_path(path)} does not hold a table of numbers; {_ADVICE}."
        ) from None
    if found.shape == (3, count):
        found = found.T
    if found.shape != (count, 3):
        shape = " x ".join(str(n) for n in found.shape)
        raise InputError(
            f"{name} holds {shape} numbers and the series has {count} volumes; {_ADVICE}."
        )
    if not np.isfinite(found).all():
        raise InputError(f"{name} holds NaN or Inf; {_ADVICE}.")
    return found


def rotated_bvecs(
    bvecs: Directions, transforms: Sequence[Linear], series: Grid, reference: Grid
) -> Directions:
    """Gradient directions of the moved volumes.

    Args:
        bvecs: ``(N, 3)`` directions in FSL's convention for the series; 0 0 0 without a gradient.
        transforms: for each volume, a rotation from points of the moved volumes to points of the
            volume.
        series: grid of the volumes.
        reference: grid of the moved volumes.

    Returns:
        ``(N, 3)`` directions in FSL's convention for the reference, with unchanged lengths.
    """
    world_from_fsl, fsl_from_world = _axes(series), np.linalg.inv(_axes(reference))
    turned = []
    for direction, transform in zip(bvecs, transforms, strict=True):
        rotation = transform.linear_part().detach().cpu().double().numpy()
        moved = fsl_from_world @ rotation.T @ world_from_fsl @ direction
        length = np.linalg.norm(moved)
        turned.append(moved * (np.linalg.norm(direction) / length) if length else moved)
    return np.array(turned)


def write_bvecs(path: Path, bvecs: Directions) -> None:
    """Write directions as three rows, as FSL does."""
    lines = (" ".join(f"{round(x, 6) + 0:.6f}" for x in row) for row in bvecs.T)
    path.write_text("\n".join(lines) + "\n", encoding="utf8")


def _axes(grid: Grid) -> NDArray[np.float64]:
    """World directions of FSL's axes, as columns."""
    columns = grid.world_from_index[:3, :3] / torch.tensor(grid.spacing_mm).double()
    axes: NDArray[np.float64] = columns.numpy().copy()
    if np.linalg.det(axes) > 0:
        axes[:, 0] *= -1
    return axes
