"""A pair on disk and a table of pairs."""

from __future__ import annotations

from pathlib import Path

import torch

from stn3d.io import read_image, read_labels, write_image, write_points, write_transform
from stn3d.transforms import Affine
from stn3d.warp import warp_labels
from tests.evaluation.cases import a_pair, shifted
from tests.helpers.synthetic import Known

SHIFTS = {"good": 4.0, "half": 2.0}  # of methods; the truth is 4 mm


def write_pair(folder: Path, ndim: int = 2) -> Known:
    """Images, labels, landmarks and a transform of each method."""
    known = a_pair(ndim)
    for role, (values, grid) in zip(("fixed", "moving"), known.sources, strict=True):
        image, labels = read_image((values, grid)), read_labels(((values > 0.3).int(), grid))
        write_image(folder / f"{role}.nii.gz", image.values, image)
        write_image(folder / f"{role}_labels.nii.gz", labels.values, labels)
    points = known.fixed_grid.points_mm()[known.foreground][::50]
    for role, one in (("fixed", points), ("moving", known.truth(points))):
        write_points(folder / f"{role}.csv", one)
    fixed = read_labels(folder / "fixed_labels.nii.gz")
    moving = read_labels(folder / "moving_labels.nii.gz")
    for method, shift in SHIFTS.items():
        transform: Affine = shifted(ndim, shift)
        write_transform(folder / f"{method}.h5", transform)
        moved = warp_labels(moving.values, moving.grid, transform, fixed.grid)
        write_image(folder / f"{method}_moved.nii.gz", moved.to(torch.int32), fixed)
    return known


HEADER = "pair,method,fixed,moving,transform,fixed_labels,moving_labels,fixed_points,moving_points"


def write_table(folder: Path, pairs: int = 2) -> Path:
    """A table of pairs, which are all the same one, by both methods."""
    rest = "fixed_labels.nii.gz,moving_labels.nii.gz,fixed.csv,moving.csv"
    lines = [
        f"{number},{method},fixed.nii.gz,moving.nii.gz,{method}.h5,{rest}"
        for number in range(pairs)
        for method in SHIFTS
    ]
    path = folder / "pairs.csv"
    path.write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return path
