"""Images of the shared data with displaced headers, and the points where errors are measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn3d import Grid, read_image
from stn3d.metrics import foreground


def grid_of(path: Path) -> Grid:
    """The grid of an image, from its header alone."""
    image: Any = nib.load(path)
    return Grid(image.shape, torch.from_numpy(image.affine))


def write_displaced(image: Path, matrix: NDArray[np.float64], path: Path) -> None:
    """Write an image with its header displaced by a matrix in RAS+ mm; no voxel is resampled."""
    source: Any = nib.load(image)
    affine = matrix @ source.affine
    moved = nib.Nifti1Image(np.asanyarray(source.dataobj), affine)
    moved.set_sform(affine, code=1)
    moved.set_qform(affine, code=1)
    nib.save(moved, path)


def foreground_points_mm(path: Path) -> Tensor:
    """``(N, 3)`` world positions of the foreground, every third voxel along each axis, float64."""
    image = read_image(path)
    every = (slice(None, None, 3),) * 3
    region = foreground(image.values)[every]
    return image.grid.points_mm()[every][region].double()
