"""Volumes of structures: numbers of voxels of the label map times the volume of a voxel."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from stn3d.grid import Grid
from stn3d.structures import STRUCTURES

Row: TypeAlias = "list[str | int | float]"
COLUMNS = "image", "status", "index", "name", "volume_ml", "brain_mask_ml"


@dataclass(frozen=True)
class StructureVolume:
    """The volume of a structure within an image.

    Args:
        index: id in the label map.
        name: name with the side.
        voxels: number of voxels.
        volume_ml: volume.
    """

    index: int
    name: str
    voxels: int
    volume_ml: float

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary for JSON."""
        return dataclasses.asdict(self)


def structure_volumes(classes: Tensor, grid: Grid) -> tuple[StructureVolume, ...]:
    """The volumes of all structures but the background.

    Args:
        classes: ``(1, 1, *grid.shape)`` uint8, classes of `stn3d.structures.STRUCTURES`.
        grid: grid of the classes.
    """
    counts = np.zeros(len(STRUCTURES), np.int64)
    for plane in classes[0, 0].numpy():
        counts += np.bincount(plane.ravel(), minlength=len(STRUCTURES))
    sizes = zip(STRUCTURES[1:], counts[1:].tolist(), strict=True)
    return tuple(
        StructureVolume(one.label, one.full_name, n, round(n * voxel_ml(grid), 4))
        for one, n in sizes
    )


def voxel_ml(grid: Grid) -> float:
    """The volume of a voxel in ml."""
    return abs(float(torch.linalg.det(grid.world_from_index))) / 1000


def volumes_csv(rows: Iterable[Row]) -> str:
    """A table with the columns `COLUMNS`."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return file.getvalue()
