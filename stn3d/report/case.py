"""What a report is made from: the images and data of a registration, its transform and metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from stn3d.io import Image
from stn3d.preprocessing.intensity import limits
from stn3d.registration.inputs import LoadedImage, LoadedPair
from stn3d.report.planes import Plane, affine_part, planes_of
from stn3d.transforms import Affine, Transform

_POINTS = 200_000  # of an image that are looked at for its centre


@dataclass(frozen=True, eq=False)
class ReportCase:
    """What a report is made from.

    Args:
        inputs: both images with their masks, labels and landmarks.
        transform: fixed points to moving points.
        metrics: content of metrics.json.
        files: names of the files in the folder of the report, see `Outputs.files`.
        uncertainty: the expected error in mm on the fixed image's grid, 0 where nothing is known.
    """

    inputs: LoadedPair
    transform: Transform
    metrics: Mapping[str, Any]
    files: Mapping[str, str] = field(default_factory=dict)
    uncertainty: Image | None = None

    @property
    def sides(self) -> tuple[LoadedImage, LoadedImage]:
        """The fixed and the moving image with their data."""
        return self.inputs.fixed, self.inputs.moving

    @property
    def fixed(self) -> Image:
        return self.inputs.fixed.image

    @property
    def moving(self) -> Image:
        return self.inputs.moving.image

    @cached_property
    def affine(self) -> Affine:
        """The affine part of the transform."""
        return affine_part(self.transform, self.fixed.grid)

    @cached_property
    def is_deformable(self) -> bool:
        """Whether the transform is more than its affine part."""
        grid = self.fixed.grid.with_shape([6] * self.fixed.grid.ndim)
        points = grid.points_mm().flatten(0, -2)
        with torch.no_grad():
            rest = self.transform.forward(points) - self.affine.forward(points)
        return float(rest.abs().max()) > 1e-5 * max(self.fixed.grid.size_mm)

    @cached_property
    def most_expected_mm(self) -> float:
        """The expected error at the end of its colours: the 99th percentile where it is known; 0
        without a map."""
        if self.uncertainty is None:
            return 0.0
        values = self.uncertainty.values.flatten()
        known = values[values > 0][:: max(1, values.numel() // _POINTS)]
        return float(known.float().quantile(0.99)) if len(known) else 0.0

    @property
    def decimals(self) -> int:
        """Decimals of positions in mm: a tenth of a voxel."""
        return max(1, 1 - math.floor(math.log10(min(self.fixed.grid.spacing_mm))))

    @cached_property
    def planes(self) -> list[Plane]:
        """The planes shown: through the excluded region if there is one, else through the middle of
        what the fixed image shows."""
        grid = self.fixed.grid
        finest_mm = min(grid.spacing_mm)
        pixels = min(max(round(max(grid.size_mm) / finest_mm), 192), 400 if grid.ndim == 3 else 900)
        return planes_of(grid, self._centre_mm(), pixels)

    def _centre_mm(self) -> Tensor:
        exclude, image = self.inputs.fixed.exclude, self.fixed
        step = max(1, round((image.grid.num_voxels / _POINTS) ** (1 / image.grid.ndim)))
        few = (0, 0) + (slice(None, None, step),) * image.grid.ndim
        if exclude is not None:
            weights = (exclude.values[0, 0] > 0).double()
            step = 1
        else:
            low, high = limits(image.values)
            weights = ((image.values[few].double() - low) / max(high - low, 1e-12)).clamp(0, 1)
            weights = (weights > 0.1).double()
        found = weights.nonzero().double()
        if not len(found):
            return image.grid.centre_mm
        index = step * found.mean(dim=0)
        matrix = image.grid.world_from_index
        return matrix[:-1, :-1] @ index + matrix[:-1, -1]
