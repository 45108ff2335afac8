"""Volume change between the visits of one subject, from Jacobian determinants.

Convention: ``J_j(x)`` is the volume in visit j over the volume in the template at a point x of the
template. By the chain rule ``J_2 / J_1`` is the determinant of the transform from visit 1 to
visit 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import Image, ImageSource, atomic_write, read_labels, require_same_grid
from stn3d.template.update import image_on
from stn3d.transforms import Transform
from stn3d.warp import jacobian_determinant, warp_image

_LEAST = 1e-3  # determinants are clipped to this and its inverse for ratios


def read_label_maps(labels: Sequence[ImageSource], visits: Sequence[Image]) -> list[Image]:
    """The label maps of the visits.

    Raises:
        InputError: there is not one for each visit, or one is not on the grid of its visit.
    """
    if labels and len(labels) != len(visits):
        raise InputError(
            f"there are {len(labels)} label maps and {len(visits)} visits; give one for each "
            "visit, in the same order."
        )
    found = [read_labels(one) for one in labels]
    for one, visit in zip(found, visits, strict=False):
        require_same_grid(one, visit, "label map")
    return found


def label_volumes_ml(
    labels: Image, transform: Transform, grid: Grid, determinants: Sequence[Tensor]
) -> list[dict[int, float]]:
    """Volumes of the labels of one visit in all visits, by the determinants in the template.

    Args:
        labels: label map of the visit.
        transform: points of the template to points of the visit.
        grid: grid of the template.
        determinants: ``grid.shape`` Jacobian determinants of the transform to each visit.

    Returns:
        For each visit, the volume by label in ml; in 2D the area in units of 1000 mm^2.
    """
    voxel_ml = abs(float(torch.linalg.det(grid.world_from_index))) / 1000
    volumes: list[dict[int, float]] = [{} for _ in determinants]
    for label in labels.values.unique().tolist():
        if label != 0:
            share = warp_image((labels.values == label).float(), labels.grid, transform, grid)
            share = share[0, 0].double()
            for found, determinant in zip(volumes, determinants, strict=True):
                found[label] = float((share * determinant).sum()) * voxel_ml
    return volumes


def mean_volumes_ml(of_maps: Sequence[Sequence[dict[int, float]]]) -> list[dict[int, float]]:
    """The mean over the visits whose label maps were used, for each visit; 0 where one lacks a
    label."""
    labels = sorted({label for one in of_maps for label in one[0]})
    return [
        {
            label: sum(one[visit].get(label, 0.0) for one in of_maps) / len(of_maps)
            for label in labels
        }
        for visit in range(len(of_maps[0]))
    ]


def write_jacobian(path: Path, transform: Transform, grid: Grid) -> Tensor:
    """Write the Jacobian determinants of the transform to a visit.

    Returns:
        ``grid.shape`` determinants.
    """
    found = jacobian_determinant(transform, grid)
    write_map(path, found, grid)
    return found


def ratio(later: Tensor, earlier: Tensor) -> Tensor:
    """Determinants of the transform from an earlier to a later visit, at points of the template."""
    return later.clamp(_LEAST, 1 / _LEAST) / earlier.clamp(_LEAST, 1 / _LEAST)


def write_map(path: Path, values: Tensor, grid: Grid) -> None:
    """Write a map on the grid of the template."""
    with atomic_write(path) as part:
        image_on(values[None, None], grid, path.name).save(part)


def changes(volumes_ml: Sequence[dict[int, float]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Volume changes between consecutive visits, for template.json.

    Args:
        volumes_ml: volume by label for each visit, in order.
        names: names of the visits.
    """
    rows: list[dict[str, Any]] = []
    for (earlier, later), (before, after) in zip(
        pairwise(names), pairwise(volumes_ml), strict=True
    ):
        for label in before:
            change = after[label] - before[label]
            rows.append(
                {
                    "label": label,
                    "from": earlier,
                    "to": later,
                    "volume_before_ml": before[label],
                    "volume_after_ml": after[label],
                    "change_ml": change,
                    "change_pct": 100 * change / before[label] if before[label] else None,
                }
            )
    return rows
