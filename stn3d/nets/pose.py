"""Pose of a head: the linear transform to the common head space, fitted to a coordinate map."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stn3d.grid import Grid, apply_matrix
from stn3d.losses.coordinates import COORDINATE_UNIT_MM
from stn3d.nets.coordinates import CoordinateRegressor
from stn3d.nets.precision import has_native_bfloat16
from stn3d.nets.working_grid import working_image
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.transforms import Affine, LinearKind
from stn3d.transforms.fit import fit_linear

# In voxels of the working grid, which has the resolution that the network was trained at.
_MARGIN_VOX = 2  # background kept around the head
_OUTLIER_VOX = 2.5  # residual at which the weight of a voxel falls to a quarter
_REWEIGHTINGS = 8
_MIN_CONFIDENCE = 0.1
_MAX_PASSES = 5
_CONVERGED_VOX = 0.5  # mean change of the head's position after which no further pass follows


@dataclass(frozen=True, eq=False)
class Pose:
    """The position and shape of a head as an affine transform.

    Args:
        common_from_world: From the image's world to the common head space.
        residual_mm: Weighted mean distance between predicted and fitted coordinates.
        points_mm: ``(N, d)`` world positions of the voxels of the fit.
        weight: ``(N,)`` weights of the voxels in the last iteration.
    """

    common_from_world: Affine
    residual_mm: float
    points_mm: Tensor
    weight: Tensor


def estimate_pose(
    network: CoordinateRegressor, image: PreparedImage, spacing_mm: float
) -> Pose | None:
    """The pose of the head in an image, computed once; None if the network finds too little tissue.

    After each pass the head is rotated to the estimated pose and the network runs again, until the
    pose converges: the more upright the head, the more accurate the coordinates.

    Args:
        network: Trained at this spacing.
        image: Any orientation, spacing and field of view.
        spacing_mm: Spacing of the network's working grid.
    """
    key = "pose", network, spacing_mm
    return image.cached(key, lambda: _converged_pose(network, image, spacing_mm))


def _converged_pose(
    network: CoordinateRegressor, image: PreparedImage, spacing_mm: float
) -> Pose | None:
    coarse, pose = image.at(spacing_mm), None
    upright_from_world = Affine.identity(image.grid.ndim)
    for _ in range(_MAX_PASSES):
        grid = Grid(coarse.grid.shape, upright_from_world.matrix @ coarse.grid.world_from_index)
        rotated = PreparedImage(coarse.image, grid, coarse.mask)
        found = _fit_pose(network, working_image(rotated, spacing_mm, _MARGIN_VOX))
        if found is None:
            return pose
        common_from_world = upright_from_world.then(found.common_from_world)
        assert isinstance(common_from_world, Affine)
        points, weight = found.points_mm, found.weight
        world_points = upright_from_world.inverse()(points)
        pose = replace(found, common_from_world=common_from_world, points_mm=world_points)
        # Only the rigid part is applied: where the network is unsure, the scale is too small.
        step = fit_linear("rigid", points, found.common_from_world(points), weight)
        upright_from_world = fit_linear("rigid", world_points, step(points), weight)
        change = torch.linalg.vector_norm(step(points) - points, dim=-1)
        if float(change.mean()) < _CONVERGED_VOX * spacing_mm:
            break
    return pose


@torch.no_grad()
def _fit_pose(network: CoordinateRegressor, image: PreparedImage) -> Pose | None:
    """One pass of the network over an image on its working grid, and a robust affine fit."""
    device = image.image.device
    with torch.autocast(device.type, torch.bfloat16, enabled=has_native_bfloat16(device)):
        output = network(image.image)[0].cpu()
    grid, outlier_mm = _half_resolution(image.grid), _OUTLIER_VOX * min(image.grid.spacing_mm)
    points = grid.points_mm()[tuple(slice(n) for n in output.shape[1:])].flatten(0, -2)
    coordinates = COORDINATE_UNIT_MM * output[:-1].flatten(1).T.double()
    confidence = (2 * torch.sigmoid(output[-1].flatten().double()) - 1).clamp(min=0)
    tissue = confidence > _MIN_CONFIDENCE
    if int(tissue.sum()) < 4**grid.ndim:
        return None
    points, coordinates, confidence = points[tissue], coordinates[tissue], confidence[tissue]
    fit, residual_mm, weight = _robust_fit(points, coordinates, confidence, outlier_mm)
    return Pose(fit, residual_mm, points, weight)


def _half_resolution(grid: Grid) -> Grid:
    """The grid whose voxel i covers voxels 2i and 2i + 1 of another along each axis."""
    shape = tuple(-(-n // 2) for n in grid.shape)
    matrix = grid.world_from_index.clone()
    matrix[:-1, :-1] *= 2
    matrix[:-1, -1] = apply_matrix(
        grid.world_from_index, torch.full((grid.ndim,), 0.5, dtype=torch.float64)
    )
    return Grid(shape, matrix)


def _robust_fit(
    points: Tensor, targets: Tensor, confidence: Tensor, outlier_mm: float
) -> tuple[Affine, float, Tensor]:
    """Affine fit by iteratively reweighted least squares, with the Geman-McClure estimator (1985).

    Returns:
        The fit, its weighted mean residual in mm, the weights of the points.
    """
    weight = confidence
    for _ in range(_REWEIGHTINGS):
        fit = fit_linear("affine", points, targets, weight)
        distance = torch.linalg.vector_norm(fit(points) - targets, dim=-1)
        weight = confidence / (1 + (distance / outlier_mm) ** 2) ** 2
    return fit, float((weight * distance).sum() / weight.sum()), weight


def transform_between(kind: LinearKind, fixed: Pose, moving: Pose) -> Affine:
    """The transform from the fixed to the moving head through the common space."""
    moving_from_fixed = fixed.common_from_world.then(moving.common_from_world.inverse())
    assert isinstance(moving_from_fixed, Affine)
    if kind == "affine":
        return moving_from_fixed
    return fit_linear(kind, fixed.points_mm, moving_from_fixed(fixed.points_mm), fixed.weight)
