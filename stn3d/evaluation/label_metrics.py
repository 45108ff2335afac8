"""Metrics of the labels of a pair."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn3d.evaluation.options import EvaluationOptions
from stn3d.grid import Grid
from stn3d.metrics import (
    Array,
    dice,
    hd95_vox,
    select_labels,
    surface_dice,
    surface_distances,
)
from stn3d.metrics.arrays import as_array
from stn3d.metrics.labels import ranked

# Metrics of a label, in the order in which they are written.
LABEL_METRICS = ("dice", "hd95_mm", "hd95_pooled_mm", "hausdorff_mm", "assd_mm", "hd95_vox", "nsd")


@dataclass(frozen=True)
class LabelMetrics:
    """Metrics of one label; None where a metric was not asked for, NaN where it is not defined.

    `stn3d.metrics.dice`, `SurfaceDistances`, `surface_dice` and `hd95_vox` define them.

    Args:
        fixed_voxels: number of voxels in the fixed map.
        moving_voxels: number of voxels in the moving map on its own grid; None if it is not known.
        moved_voxels: number of voxels in the moved map.
        dice: Dice coefficient, 0 to 1.
        hd95_mm: HD95, in mm.
        hd95_pooled_mm: 95th percentile of the distances of both directions together, in mm.
        hausdorff_mm: Hausdorff distance, in mm.
        assd_mm: average symmetric surface distance, in mm.
        hd95_vox: HD95 of Learn2Reg, in voxels.
        nsd: normalised surface Dice, 0 to 1.
        name: name of the label, if it is known.
    """

    fixed_voxels: int
    moving_voxels: int | None
    moved_voxels: int
    dice: float
    hd95_mm: float | None = None
    hd95_pooled_mm: float | None = None
    hausdorff_mm: float | None = None
    assd_mm: float | None = None
    hd95_vox: float | None = None
    nsd: float | None = None
    name: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Everything that was measured."""
        return {key: v for key, v in dataclasses.asdict(self).items() if v is not None}


@dataclass(frozen=True)
class LabelResults:
    """Metrics of all measured labels.

    Args:
        labels: metrics by label.
        omitted: reason for each label that is not measured, or whose distances are not defined.
    """

    labels: dict[int, LabelMetrics]
    omitted: dict[int, str]

    def mean(self, metric: str) -> float | None:
        """Mean of a metric over the labels for which it is defined.

        Returns:
            NaN if there is no such label; None if the metric was not measured.
        """
        values = [getattr(one, metric) for one in self.labels.values()]
        if any(value is None for value in values) or metric not in LABEL_METRICS:
            return None
        return mean_of_known(values)


def mean_of_known(values: Iterable[float]) -> float:
    """The mean without NaN; NaN if nothing else is left."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def measure_labels(
    fixed_labels: Array,
    moved_labels: Array,
    moving_labels: Array | None,
    grid: Grid,
    options: EvaluationOptions,
) -> LabelResults:
    """Metrics of the labels of a pair.

    Args:
        fixed_labels: label map of the fixed image.
        moved_labels: moving label map on the fixed grid, by nearest neighbour.
        moving_labels: moving label map on its own grid, from which labels are chosen together with
            the fixed map. Default: labels are chosen by the fixed map.
        grid: the fixed grid.
        options: what is measured.

    Raises:
        InputError: a map does not fit the grid, or holds other values than whole numbers from 0.
    """
    known = fixed_labels if moving_labels is None else moving_labels
    chosen = select_labels(fixed_labels, known, options.labels, options.smallest)
    labels, moved = chosen.labels, _counts(moved_labels)
    columns: dict[str, dict[int, Any]] = {"dice": dice(fixed_labels, moved_labels, labels)}
    if options.protocol == "l2r":
        columns["hd95_vox"] = hd95_vox(fixed_labels, moved_labels, grid, labels)
    else:
        distances = surface_distances(fixed_labels, moved_labels, grid, labels)
        for field in ("hd95_mm", "hd95_pooled_mm", "hausdorff_mm", "assd_mm"):
            columns[field] = {label: getattr(distances[label], field) for label in labels}
    if options.tolerance_mm is not None:
        tolerance = options.tolerance_mm
        columns["nsd"] = surface_dice(fixed_labels, moved_labels, grid, labels, tolerance)
    found = {
        label: LabelMetrics(
            chosen.fixed_voxels[label],
            None if moving_labels is None else chosen.moving_voxels[label],
            moved.get(label, 0),
            **{name: values[label] for name, values in columns.items()},
            name=options.names.get(label),
        )
        for label in labels
    }
    lost = {
        label: "distances are not defined: not in the moved label map"
        for label, one in found.items()
        if not one.moved_voxels
    }
    return LabelResults(found, dict(sorted({**chosen.omitted, **lost}.items())))


def _counts(labels: Array) -> dict[int, int]:
    """Number of voxels of each label."""
    array: NDArray[Any] = as_array(labels)
    values, ranks, _ = ranked(array, array[:0])
    sizes = np.bincount(ranks.ravel(), minlength=len(values))
    return {int(values[rank]): int(sizes[rank]) for rank in np.flatnonzero(sizes)}
