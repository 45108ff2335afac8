"""Where a head lies: the linear transform to the common space that a chart tells."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stn3d.grid import Grid, apply_matrix
from stn3d.losses.chart import COORDINATE_UNIT_MM
from stn3d.nets.chart import ChartNetwork
from stn3d.nets.frame import working_image
from stn3d.nets.precision import bfloat16_is_fast
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.transforms import Affine, LinearKind
from stn3d.transforms.fit import fit_linear

_OUTLIER_MM = 10.0  # a voxel this far from where the fit has it counts a quarter
_ROUNDS = 8
_PASSES = 5
_STILL_MM = 2.0  # a pass that moves the head by less on average is the last


@dataclass(frozen=True, eq=False)
class Pose:
    """A head's place.

    Args:
        common_from_world: from the scan's world to the common space.
        residual_mm: mean distance of the voxels' own coordinates from it, outliers counting less.
        points_mm: ``(N, d)`` world positions of these voxels.
        weight: ``(N,)`` how much each counted in the end.
    """

    common_from_world: Affine
    residual_mm: float
    points_mm: Tensor
    weight: Tensor


def find_pose(
    network: ChartNetwork, scan: PreparedImage, spacing_mm: float, margin_mm: float = 8.0
) -> Pose | None:
    """The pose of the head in a scan; None where the network sees no tissue that it knows.

    The head is charted, turned as the chart says, and charted again, until that changes little: a
    chart is the better, the more upright the head is.

    Args:
        network: trained at this spacing.
        scan: any axes, spacing and field of view.
        spacing_mm: of the grid that the network works on.
        margin_mm: background kept around the head.
    """
    coarse, pose = scan.at(spacing_mm), None
    turned = Affine.identity(scan.grid.ndim)
    for _ in range(_PASSES):
        grid = Grid(coarse.grid.shape, turned.matrix @ coarse.grid.world_from_index)
        upright = working_image(
            PreparedImage(coarse.image, grid, coarse.mask), spacing_mm, margin_mm
        )
        found = _charted(network, upright)
        if found is None:
            return pose
        whole = turned.then(found.common_from_world)
        assert isinstance(whole, Affine)
        points, weight = found.points_mm, found.weight
        pose = replace(found, common_from_world=whole, points_mm=turned.inverse()(points))
        # Only the turn is kept: where a chart is in doubt it is too small.
        turn = fit_linear("rigid", points, found.common_from_world(points), weight)
        turned = fit_linear("rigid", pose.points_mm, turn(points), weight)
        change = torch.linalg.vector_norm(turn(points) - points, dim=-1)
        if float(change.mean()) < _STILL_MM:
            break
    return pose


@torch.no_grad()
def _charted(network: ChartNetwork, working: PreparedImage) -> Pose | None:
    """One pass of the network over a scan on its working grid."""
    device = working.image.device
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_is_fast(device)):
        chart = network(working.image)[0].cpu()
    grid = _coarse(working.grid)
    points = grid.points_mm()[tuple(slice(n) for n in chart.shape[1:])].flatten(0, -2)
    coordinates = COORDINATE_UNIT_MM * chart[:-1].flatten(1).T.double()
    sure = (2 * torch.sigmoid(chart[-1].flatten().double()) - 1).clamp(min=0)
    known = sure > 0.1
    if int(known.sum()) < 4**grid.ndim:
        return None
    points, coordinates, sure = points[known], coordinates[known], sure[known]
    fit, residual_mm, weight = _robust("affine", points, coordinates, sure)
    return Pose(fit, residual_mm, points, weight)


def _coarse(grid: Grid) -> Grid:
    """The grid of voxels that stand for 2 voxels along each axis each."""
    shape = tuple(-(-n // 2) for n in grid.shape)
    matrix = grid.world_from_index.clone()
    matrix[:-1, :-1] *= 2
    matrix[:-1, -1] = apply_matrix(
        grid.world_from_index, torch.full((grid.ndim,), 0.5, dtype=torch.float64)
    )
    return Grid(shape, matrix)


def _robust(
    kind: LinearKind, points: Tensor, targets: Tensor, sure: Tensor
) -> tuple[Affine, float, Tensor]:
    """A fit in which voxels far off count ever less (Geman and McClure 1985), by reweighting."""
    weight = sure
    for _ in range(_ROUNDS):
        fit = fit_linear(kind, points, targets, weight)
        distance = torch.linalg.vector_norm(fit(points) - targets, dim=-1)
        weight = sure / (1 + (distance / _OUTLIER_MM) ** 2) ** 2
    return fit, float((weight * distance).sum() / weight.sum()), weight


def transform_between(kind: LinearKind, fixed: Pose, moving: Pose) -> Affine:
    """The transform of a kind from one head to another: through the common space and back."""
    whole = fixed.common_from_world.then(moving.common_from_world.inverse())
    assert isinstance(whole, Affine)
    if kind == "affine":
        return whole
    return fit_linear(kind, fixed.points_mm, whole(fixed.points_mm), fixed.weight)
