"""Figures that tell how good a registration is; their names carry the unit.

Labels, masks and images are arrays or tensors of the grid's shape, leading axes of length one
allowed; points are world RAS+ millimetres. `InputError` is raised for what does not fit the grid or
its partner, and for labels that are not whole numbers from 0 upward.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.kernels import Region
from stn3d.losses.similarity import lncc, variance
from stn3d.transforms import Linear, Transform
from stn3d.warp import jacobian_determinant

Array: TypeAlias = "Tensor | NDArray[Any]"
Protocol = Literal["strict", "l2r"]

# Labels up to this are counted as they are, larger ones (atlases go up to 600 million) by rank.
_LARGEST_COUNTED = 1 << 16


def scored_labels(fixed_labels: Array, moving_labels: Array, min_voxels: int = 100) -> list[int]:
    """The labels worth scoring: at least ``min_voxels`` voxels in both maps, background 0 left out.

    Args:
        fixed_labels: label map of the fixed image.
        moving_labels: label map of the moving image, unwarped, on whatever grid.
        min_voxels: labels smaller than this in either map are left out.

    Returns:
        The labels in rising order.
    """
    values, fixed, moving = _ranked(_array(fixed_labels), _array(moving_labels))
    enough = values != 0
    for ranks in (fixed, moving):
        enough &= np.bincount(ranks.ravel(), minlength=len(values)) >= min_voxels
    return [int(value) for value in values[enough]]


def dice(
    fixed_labels: Array, moved_labels: Array, labels: Sequence[int] | None = None
) -> dict[int, float]:
    """Dice overlap ``2 |A and B| / (|A| + |B|)`` of each label: 0 to 1, higher is better.

    Args:
        fixed_labels: label map of the fixed image.
        moved_labels: the moving image's labels on the fixed grid, by nearest neighbour if others
            shall compare.
        labels: the labels wanted; by default all but 0 that either map holds.

    Returns:
        Each label's Dice; NaN where neither map holds it.
    """
    fixed, moved = _array(fixed_labels).squeeze(), _array(moved_labels).squeeze()
    if fixed.shape != moved.shape:
        raise InputError(
            f"label maps of shapes {fixed.shape} and {moved.shape} cannot be compared; "
            "warp the moving one to the fixed grid."
        )
    values, fixed, moved = _ranked(fixed, moved)
    size = len(values)
    total = np.bincount(fixed.ravel(), minlength=size) + np.bincount(moved.ravel(), minlength=size)
    both = np.bincount(fixed[fixed == moved], minlength=size)
    present = {int(values[rank]): rank for rank in np.flatnonzero(total)}
    wanted = [v for v in present if v != 0] if labels is None else [int(v) for v in labels]
    return {
        v: float(2 * both[present[v]] / total[present[v]]) if v in present else math.nan
        for v in wanted
    }


def hd95_mm(
    fixed_labels: Array, moved_labels: Array, grid: Grid, labels: Sequence[int]
) -> dict[int, float]:
    """95th percentile of the Hausdorff distance (HD95) of each label, in mm; lower is better.

    HD95 is the larger of the two directed 95th percentiles of surface distances, as in MONAI's
    ``compute_hausdorff_distance(percentile=95)`` and DeepMind's surface-distance
    (Nikolov et al. 2021, doi:10.2196/26151):

        max(P95 of min_b |a - b| over a in A, P95 of min_a |b - a| over b in B)

    A and B are the surface voxels of the label in the two maps: voxels of the label with a face
    neighbour outside the label or outside the image. Distances run between voxel centres in world
    millimetres. Each surface voxel has the same weight, as in MONAI (DeepMind weights surface
    elements by area), and percentiles are interpolated linearly.

    Args:
        fixed_labels: label map of the fixed image.
        moved_labels: moving label map on the fixed grid, by nearest neighbour.
        grid: the fixed grid; for distances in voxels give ``Grid.of_spacing(shape)``.
        labels: labels to measure, without 0.

    Returns:
        HD95 of each label; NaN where either map lacks the label.
    """
    from scipy.spatial import cKDTree  # slow to import, and only labels need it

    fixed, moved = _surfaces(fixed_labels, grid), _surfaces(moved_labels, grid)
    distances = dict.fromkeys([int(label) for label in labels], math.nan)
    for label in distances:
        if label in fixed and label in moved:
            to_moved, _ = cKDTree(moved[label]).query(fixed[label])
            to_fixed, _ = cKDTree(fixed[label]).query(moved[label])
            distances[label] = float(max(np.percentile(to_moved, 95), np.percentile(to_fixed, 95)))
    return distances


@torch.no_grad()
def tre_mm(
    transform: Transform, fixed_points_mm: Array, moving_points_mm: Array
) -> dict[str, float]:
    """Target registration error, ``|transform(fixed) - moving|`` over landmarks, in mm.

    Args:
        transform: fixed points to moving points.
        fixed_points_mm: ``(N, d)`` landmarks of the fixed image.
        moving_points_mm: ``(N, d)`` the same landmarks in the moving image.

    Returns:
        ``mean``, ``p95`` and ``max``; NaN where there is no point.
    """
    fixed, moving = _points(fixed_points_mm, transform), _points(moving_points_mm, transform)
    if len(fixed) != len(moving):
        raise InputError(
            f"{len(fixed)} fixed but {len(moving)} moving landmarks; give them in pairs."
        )
    return _spread(transform(fixed) - moving)


@torch.no_grad()
def inverse_error_mm(
    transform: Transform, inverse: Transform, points_mm: Array
) -> dict[str, float]:
    """How far ``inverse(transform(x))`` lands from x, in mm.

    Args:
        transform: fixed points to moving points.
        inverse: moving points to fixed points.
        points_mm: ``(N, d)`` fixed points.

    Returns:
        ``mean``, ``p95`` and ``max``; NaN where there is no point.
    """
    points = _points(points_mm, transform)
    return _spread(inverse(transform(points)) - points)


@torch.no_grad()
def error_mm(
    transform: Transform, true_transform: Transform, grid: Grid, mask: Array | None = None
) -> dict[str, float]:
    """Distance between a transform and the true one over the voxels of a mask, in mm.

    Args:
        transform: fixed points to moving points.
        true_transform: the known truth, in the same direction.
        grid: the fixed grid.
        mask: voxels above 0 count; by default all.

    Returns:
        ``mean``, ``p95`` and ``max``; NaN where the mask is empty.
    """
    inside = torch.from_numpy(_mask(mask, grid))
    gaps = []
    for rows in grid.slabs():
        points = grid.points_mm(rows)[inside[rows]]
        gaps.append(transform(points) - true_transform(points))
    return _spread(torch.cat(gaps))


@torch.no_grad()
def jacobian_figures(
    transform: Transform, grid: Grid, mask: Array | None = None, protocol: Protocol = "strict"
) -> dict[str, float]:
    """Folding and unevenness: the transform's Jacobian determinants at the fixed grid's voxels.

    Determinants are by central differences of one voxel, in world millimetres. ``strict`` takes the
    mask eroded by two voxels and the spread of ``log(clip(det, 1e-3, 1e3))``. ``l2r`` does as the
    Learn2Reg challenge (Hering et al. 2022, doi:10.1109/TMI.2022.3213983): the mask less two voxels
    at the grid's faces, and ``log(clip(det + 3, 1e-9, 1e9))``. Axes of fewer than five voxels lose
    none.

    Args:
        transform: fixed points to moving points.
        grid: the fixed grid.
        mask: voxels above 0 count; by default all.
        protocol: ``strict`` or ``l2r``.

    Returns:
        ``folding_pct`` (share of voxels with a determinant of 0 or less), ``sd_log_jac`` (standard
        deviation), ``min_jac`` and ``max_jac``; NaN where nothing is left of the mask.
    """
    inner = _mask(mask, grid)
    inner = eroded(inner) if protocol == "strict" else inner & eroded(np.ones_like(inner))
    if not inner.any():
        return dict.fromkeys(("folding_pct", "sd_log_jac", "min_jac", "max_jac"), math.nan)
    found = jacobian_determinant(transform, grid).cpu()
    one = isinstance(transform, Linear)  # then one voxel tells of all
    det = found.flatten()[:1] if one else torch.from_numpy(found.numpy()[inner])
    shift, low, high = (0.0, 1e-3, 1e3) if protocol == "strict" else (3.0, 1e-9, 1e9)
    logs = det.double().add_(shift).clamp_(low, high).log_()
    return {
        "folding_pct": 100 * int((det <= 0).sum()) / len(det),
        "sd_log_jac": float(logs.std(correction=0)),
        "min_jac": float(det.min()),
        "max_jac": float(det.max()),
    }


@torch.no_grad()
def image_figures(
    fixed: Array, moved: Array, grid: Grid, mask: Array | None = None, radius_mm: float = 2.0
) -> dict[str, float]:
    """How alike two images are, in figures for a person to read.

    Args:
        fixed: the fixed image.
        moved: the moving image on the fixed grid.
        grid: the fixed grid.
        mask: weights of voxels from 0 to 1; by default all count.
        radius_mm: half the edge of the local correlation's window.

    Returns:
        ``correlation`` (Pearson's, -1 to 1), ``local_correlation`` (the mean squared correlation in
        a window around each voxel, 0 to 1: one minus the loss `lncc`) and ``rms_difference`` (in
        the images' units).
    """
    a, b, counted = _image(fixed, grid), _image(moved, grid), _mask(mask, grid)
    partly = None if mask is None or _array(mask).dtype == bool else _image(mask, grid)
    means, covariance = _moments(a, b, partly, counted)
    variances = _variance(a, partly, counted), _variance(b, partly, counted)
    local = lncc(
        a,
        b,
        None if mask is None else _image(mask, grid),
        radius_mm=radius_mm,
        spacing_mm=grid.spacing_mm,
        variances=variances,
        windows=Region.of(torch.from_numpy(counted)),
    )
    (aa, ab), (_, bb) = covariance
    return {
        "correlation": ab / math.sqrt(aa * bb) if aa * bb > 0 else 0.0,
        "local_correlation": 1 - float(local),
        "rms_difference": math.sqrt(max(aa - 2 * ab + bb, 0.0) + (means[0] - means[1]) ** 2),
    }


def _moments(
    a: Tensor, b: Tensor, weight: Tensor | None, counted: NDArray[np.bool_]
) -> tuple[list[float], list[list[float]]]:
    """Means and covariance of two images in 64 bits, plane by plane for the sake of memory."""
    first = np.unravel_index(counted.argmax(), counted.shape)
    images = [image[0, 0].numpy() for image in (a, b)]
    origin = np.array([0.0, *[float(image[first]) for image in images]])  # so that constants give 0
    total = np.zeros((3, 3))
    for plane, here in enumerate(counted):
        columns = np.ones((3, np.count_nonzero(here)))
        for column, image, zero in zip(columns[1:], images, origin[1:], strict=True):
            np.subtract(image[plane][here], zero, out=column, dtype=np.float64)
        weights = 1.0 if weight is None else weight[0, 0, plane].numpy()[here]
        total += (weights * columns) @ columns.T
    total /= max(total[0, 0], 1e-12)
    shift = total[0, 1:]
    return (shift + origin[1:]).tolist(), (total[1:, 1:] - np.outer(shift, shift)).tolist()


def _variance(image: Tensor, weight: Tensor | None, counted: NDArray[np.bool_]) -> float:
    """An image's variance; what weighs nothing would cost time."""

    def seen(values: Tensor) -> Tensor:
        return torch.from_numpy(values[0, 0].numpy()[counted])[None, None]

    return variance(seen(image), None if weight is None else seen(weight))


def _array(values: Array) -> NDArray[Any]:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _on_grid(values: Array, grid: Grid) -> NDArray[Any]:
    array = _array(values)
    if array.shape[-grid.ndim :] != grid.shape or array.size != grid.num_voxels:
        raise InputError(
            f"an array of shape {array.shape} does not fit the grid {grid.shape}; "
            "resample it to that grid."
        )
    return array.reshape(grid.shape)


def _image(values: Array, grid: Grid) -> Tensor:
    """``(1, 1, *grid.shape)``, float32."""
    array = _on_grid(values, grid).astype(np.float32, copy=False)
    return torch.from_numpy(array)[None, None]


def _mask(mask: Array | None, grid: Grid) -> NDArray[np.bool_]:
    """Which voxels count."""
    if mask is None:
        return np.ones(grid.shape, bool)
    values = _on_grid(mask, grid)
    return values if values.dtype == bool else values > 0


def eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask less two voxels at its border, along the axes of five voxels or more.

    Args:
        mask: of a grid's shape; the outside of the grid counts as outside of the mask.
    """
    for _ in range(2):
        kept = mask.copy()
        for axis, n in enumerate(mask.shape):
            if n < 5:
                continue
            here, source = np.moveaxis(kept, axis, 0), np.moveaxis(mask, axis, 0)
            here[1:] &= source[:-1]
            here[:-1] &= source[1:]
            here[[0, -1]] = False
        mask = kept
    return mask


def _points(points_mm: Array, transform: Transform) -> Tensor:
    """``(N, d)`` points, float64."""
    copied = points_mm if isinstance(points_mm, Tensor) else torch.tensor(np.array(points_mm))
    points = copied.to(torch.float64)
    if points.ndim != 2 or points.shape[1] != transform.ndim:
        raise InputError(
            f"the transform takes points (N, {transform.ndim}); got {tuple(points.shape)}."
        )
    return points


def _spread(vectors_mm: Tensor) -> dict[str, float]:
    """Mean, 95th percentile and maximum of the vectors' lengths."""
    lengths = torch.linalg.vector_norm(vectors_mm.double(), dim=-1).cpu().numpy()
    if not lengths.size:
        return dict.fromkeys(("mean", "p95", "max"), math.nan)
    p95 = float(np.percentile(lengths, 95))
    return {"mean": float(lengths.mean()), "p95": p95, "max": float(lengths.max())}


def _whole(labels: NDArray[Any]) -> NDArray[Any]:
    """Labels in an integer dtype that numpy can count."""
    if labels.dtype.kind == "f":
        whole = labels.astype(np.int64) if np.isfinite(labels).all() else np.full(1, -1)
        if not np.array_equal(whole, labels):
            raise InputError("a label map holds fractions, NaN or Inf; labels are whole numbers.")
        labels = whole
    if labels.size and labels.min() < 0:
        raise InputError("a label map holds negative numbers; labels go from 0 upward.")
    return labels if labels.dtype.kind == "i" else labels.astype(np.int64)


def _ranked(
    first: NDArray[Any], second: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Rising values that begin with 0, and both maps with each label replaced by its rank there."""
    first, second = _whole(first), _whole(second)
    largest = max(int(labels.max(initial=0)) for labels in (first, second))
    if largest <= _LARGEST_COUNTED:
        return np.arange(largest + 1), first, second
    values = np.unique(np.concatenate([[0], np.unique(first), np.unique(second)]))
    return values, np.searchsorted(values, first), np.searchsorted(values, second)


def _surfaces(labels: Array, grid: Grid) -> dict[int, NDArray[np.float64]]:
    """World points of each label's surface voxels, ``(N, d)``; all labels but 0 in one pass."""
    array = _whole(_on_grid(labels, grid))
    edge = np.zeros(array.shape, bool)
    for axis in range(array.ndim):
        along, on_edge = np.moveaxis(array, axis, 0), np.moveaxis(edge, axis, 0)
        changes = along[1:] != along[:-1]
        on_edge[1:] |= changes
        on_edge[:-1] |= changes
        on_edge[[0, -1]] = True
    edge &= array != 0
    order = np.argsort(array[edge], kind="stable")
    points = np.argwhere(edge)[order] @ grid.world_from_index[:-1, :-1].numpy().T
    values, starts = np.unique(array[edge][order], return_index=True)
    return dict(zip(values.tolist(), np.split(points, starts[1:]), strict=False))
