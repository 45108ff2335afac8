"""Coarse copies of the images for the interactive view, and of the transform for its crosshair."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn3d.grid import Grid, apply_matrix, homogeneous
from stn3d.io import Image
from stn3d.report.case import ReportCase
from stn3d.report.encoding import packed
from stn3d.report.views import Scales
from stn3d.sampler import sample
from stn3d.transforms import Affine, Transform
from stn3d.warp import warp_image

_VOXELS = 1_000_000  # of a copy; three of them and the viewer make a page of 3 to 5 MB
GREYS = 127  # of a copy: seven bits compress better than eight
_NODES = 150_000  # of the copy of the transform
_TESTED = 4000  # points at which the copy of the transform is compared
_WHOLE = 16_000  # the largest displacement in 16-bit integers, whose differences are stored
_STEP = 0.005  # smallest unit of a displacement, in voxels


def viewer_volumes(case: ReportCase, scales: Scales) -> dict[str, Any]:
    """The volumes of the interactive view, as compressed NIfTI in base64.

    Args:
        case: a registration of 3D images.
        scales: intensity windows.

    Returns:
        ``fixed``, ``before``, ``after``: the fixed image, and the moving image on its own grid and
        on that of the fixed image; ``spacing_mm``: voxel size of the fixed image's copy;
        ``coarser``: whether that is coarser than the image; where it was estimated, ``expected``:
        the expected error, and ``expected_mm``: that of the brightest grey level.
    """
    grid = _coarse(case.fixed.grid)
    own = _coarse(case.moving.grid)
    moving = _resampled(case.moving, own)
    after = warp_image(moving, own, case.transform, grid)
    volumes = {
        "fixed": _nifti(_resampled(case.fixed, grid), grid, scales.fixed),
        "before": _nifti(moving, own, scales.moved),
        "after": _nifti(after, grid, scales.moved),
        "spacing_mm": grid.spacing_mm,
        "coarser": grid.shape != case.fixed.grid.shape,
    }
    if case.most_expected_mm > 0 and case.uncertainty is not None:
        index = apply_matrix(case.uncertainty.grid.index_from_world, grid.points_mm())
        # of the nearest voxel: 0 means that nothing is known, and must not be averaged
        errors = sample(case.uncertainty.values.float(), index[None], "nearest")
        volumes["expected"] = _nifti(errors, grid, (0.0, case.most_expected_mm))
        volumes["expected_mm"] = case.most_expected_mm
    return volumes


def _coarse(grid: Grid) -> Grid:
    """A grid with the same axes and field of view and not too many voxels."""
    spacing = min(grid.spacing_mm)
    while math.prod(grid.coarsened(spacing).shape) > _VOXELS:
        spacing *= 1.05
    return grid.coarsened(spacing)


def _resampled(image: Image, grid: Grid) -> Tensor:
    """An image on a coarse grid. Voxels are averaged in whole blocks and then interpolated; a
    Gaussian would need two more copies of the image."""
    values, own = image.values.float(), image.grid
    if grid.shape == own.shape:
        return values
    ratios = [t / s for s, t in zip(own.spacing_mm, grid.spacing_mm, strict=True)]
    blocks = [max(1, min(math.floor(r + 1e-6), n)) for r, n in zip(ratios, own.shape, strict=True)]
    if max(blocks) > 1:
        values = torch.nn.functional.avg_pool3d(values, blocks)
        shift = torch.tensor([(block - 1) / 2 for block in blocks]).double()
        index = homogeneous(torch.diag(torch.tensor(blocks).double()), shift)
        own = Grid(tuple(values.shape[2:]), own.world_from_index @ index)
    return warp_image(values, own, Affine.identity(grid.ndim), grid)


def _nifti(values: Tensor, grid: Grid, window: tuple[float, float]) -> str:
    low, high = window
    grey = ((values[0, 0] - low) / max(high - low, 1e-12)).clamp_(0, 1).mul_(GREYS).round_()
    array = grey.to(torch.uint8).numpy()
    image = nib.Nifti1Image(array, grid.world_from_index.numpy())
    image.header["cal_max"] = GREYS
    image.header["cal_min"] = 0
    return packed(image.to_bytes())


@dataclass(frozen=True, eq=False)
class CoarseTransform:
    """A transform as an affine matrix and displacements on a regular grid along the world axes,
    interpolated linearly: what the page maps its crosshair by.

    Args:
        transform: fixed points to moving points.
        affine: its affine part, ``(d + 1, d + 1)``.
        grid: the fixed image's grid; the displacements cover its bounding box.
    """

    transform: Transform
    affine: Tensor
    grid: Grid

    @cached_property
    def nodes(self) -> Grid:
        """Grid of the displacements, along the world axes."""
        d = self.grid.ndim
        corners = torch.tensor(list(product((0.0, 1.0), repeat=d))).double()
        corners = apply_matrix(self.grid.world_from_unit, corners)
        low, high = corners.min(dim=0).values, corners.max(dim=0).values
        size = (high - low).clamp(min=1e-6 * float((high - low).max()))
        wide = [s for s in size.tolist() if s > 0.05 * float(size.max())]
        step = (math.prod(wide) / _NODES) ** (1 / len(wide))
        step = max(step, min(self.grid.spacing_mm))
        shape = [max(2, math.ceil(s / step) + 1) for s in size.tolist()]
        matrix = torch.eye(d + 1, dtype=torch.float64)
        for axis, (n, s) in enumerate(zip(shape, size.tolist(), strict=True)):
            matrix[axis, axis] = s / (n - 1)
        matrix[:d, d] = low
        return Grid(tuple(shape), matrix)

    @cached_property
    def displacements(self) -> tuple[NDArray[np.int16], float]:
        """``(*shape, d)`` displacements beyond the affine part, and the mm of one unit."""
        points = self.nodes.points_mm()
        with torch.no_grad():
            rest = self.transform.forward(points) - apply_matrix(self.affine, points)
        largest = float(rest.abs().max())
        unit_mm = max(largest / _WHOLE, _STEP * min(self.grid.spacing_mm))
        return (rest / unit_mm).round().numpy().astype(np.int16), unit_mm

    def forward(self, points_mm: Tensor) -> Tensor:
        """What the page computes: ``(N, d)`` fixed points to moving points."""
        field, unit_mm = self.displacements
        values = torch.from_numpy(field.astype(np.float64)).movedim(-1, 0)[None] * unit_mm
        index = apply_matrix(self.nodes.index_from_world, points_mm)
        return apply_matrix(self.affine, points_mm) + sample(values, index[None])[0].movedim(0, -1)

    def error_mm(self) -> tuple[float, float]:
        """95th percentile and maximum of its distance from the transform, over the fixed image."""
        n = max(2, math.floor(_TESTED ** (1 / self.grid.ndim)))
        points = self.grid.with_shape([n] * self.grid.ndim).points_mm().flatten(0, -2)
        with torch.no_grad():
            away = (self.forward(points) - self.transform.forward(points)).norm(dim=-1)
        return float(away.quantile(0.95)), float(away.max())

    def as_dict(self) -> dict[str, Any]:
        """For the page: ``matrix``, ``shape``, ``low_mm``, ``step_mm``, ``unit_mm`` and ``field``,
        packed 16-bit integers: differences along the last axis of the grid, the components of
        vectors slowest, then the first axis."""
        field, unit_mm = self.displacements
        steps = np.diff(np.moveaxis(field, -1, 0), axis=-1, prepend=np.int16(0))
        matrix = self.nodes.world_from_index
        return self.matrix_only() | {
            "shape": list(self.nodes.shape),
            "low_mm": matrix[:-1, -1].tolist(),
            "step_mm": matrix.diagonal()[:-1].tolist(),
            "unit_mm": unit_mm,
            "field": packed(np.ascontiguousarray(steps).astype("<i2").tobytes()),
        }

    def matrix_only(self) -> dict[str, Any]:
        """For the page, of a linear transform."""
        return {"matrix": self.affine.tolist(), "field": ""}
