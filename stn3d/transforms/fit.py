"""Fits of linear transforms and splines to corresponding points, with leave-one-out predictions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stn3d.arguments import tensor_arguments
from stn3d.grid import homogeneous
from stn3d.transforms.linear import Affine, LinearKind
from stn3d.transforms.spline import ThinPlateSpline

_ROUNDING = 1e-12  # of the variance of all points: errors of what is left after a subtraction
_MIN_EXTENT = 1e-3  # of the longest extent: points with a smaller one do not span the axis


@tensor_arguments(["points_mm", "targets_mm", "weight"])
def fit_linear(
    kind: LinearKind, points_mm: Tensor, targets_mm: Tensor, weight: Tensor | None = None
) -> Affine:
    """Least-squares rigid, similarity or affine transform of weighted points.

    Rigid and similarity transforms are never reflections (Kabsch 1976,
    doi:10.1107/S0567739476001873; Umeyama 1991, doi:10.1109/34.88573, eqs. 40 to 43).

    Args:
        kind: ``rigid``, ``similarity`` or ``affine``.
        points_mm: ``(..., N, d)`` fixed points.
        targets_mm: ``(..., N, d)`` moving points.
        weight: ``(..., N)`` weights >= 0 of the points. Default: equal.

    Returns:
        The transform as an `Affine`, computed in float64. If the points do not span the space, the
        affine with the linear part of minimum norm.

    Examples:
        >>> points = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
        >>> targets = torch.tensor([[5.0, 5.0], [5.0, 9.0], [1.0, 5.0]])
        >>> fit_linear("similarity", points, targets)(torch.tensor([[1.0, 1.0]])).round(decimals=3)
        tensor([[3., 7.]])
    """
    return _fitted(kind, _moments(points_mm, targets_mm, weight))


@dataclass(frozen=True, eq=False)
class _Moments:
    """Weighted means and second moments of points x and targets y, without what is batched."""

    x_mean: Tensor
    y_mean: Tensor
    cross: Tensor
    covariance: Tensor


def _moments(points_mm: Tensor, targets_mm: Tensor, weight: Tensor | None) -> _Moments:
    x, y = points_mm.double(), targets_mm.double()
    w = _shares(torch.ones_like(x[..., 0]) if weight is None else weight)[..., None]
    x_mean, y_mean = (w * x).sum(-2), (w * y).sum(-2)
    x, y = x - x_mean[..., None, :], y - y_mean[..., None, :]
    return _Moments(x_mean, y_mean, y.mT @ (w * x), x.mT @ (w * x))


def _shares(weight: Tensor) -> Tensor:
    """Weights divided by their sum, float64."""
    w = weight.double()
    return w / w.sum(-1, keepdim=True).clamp(min=1e-300)


def _fitted(kind: LinearKind, moments: _Moments) -> Affine:
    """The least-squares transform of points with these moments."""
    cross, covariance = moments.cross, moments.covariance
    if kind == "affine":
        linear = cross @ torch.linalg.pinv(covariance, hermitian=True)
    else:
        u, singular, vt = torch.linalg.svd(cross)
        signs = torch.ones_like(singular)
        signs[..., -1] = torch.linalg.det(u @ vt).sign()
        linear = u @ (signs[..., None] * vt)
        if kind == "similarity":
            variance = covariance.diagonal(dim1=-2, dim2=-1).sum(-1).clamp(min=1e-300)
            linear = linear * ((signs * singular).sum(-1) / variance)[..., None, None]
    shift = moments.y_mean - (linear @ moments.x_mean[..., None])[..., 0]
    return Affine.from_matrix(homogeneous(linear, shift))


@tensor_arguments(["points_mm", "targets_mm", "weight"])
def fit_spline(
    points_mm: Tensor, targets_mm: Tensor, smoothing: float = 0.0, weight: Tensor | None = None
) -> ThinPlateSpline:
    """Thin-plate spline of weighted points; points of weight 0 are not used.

    The smoothing at a point is ``smoothing * mean(weight) / weight`` (Rohr et al. 2001,
    doi:10.1109/42.929618).

    Args:
        points_mm: ``(N, d)`` fixed points.
        targets_mm: ``(N, d)`` moving points.
        smoothing: regularisation, see `ThinPlateSpline`. With 0, positive weights have no effect.
        weight: ``(N,)`` weights >= 0 of the points. Default: equal.

    Raises:
        ValueError: the points do not determine an affine transform.
    """
    x, y = points_mm.double(), targets_mm.double()
    if weight is None or not smoothing:
        used = torch.ones_like(x[:, 0]).bool() if weight is None else weight > 0
        return ThinPlateSpline(x[used], y[used], smoothing)
    w = weight[weight > 0].double()
    smoothings = (smoothing * w.mean() / w).tolist()
    return ThinPlateSpline(x[weight > 0], y[weight > 0], tuple(smoothings))


def linear_leave_one_out(
    kind: LinearKind, points_mm: Tensor, targets_mm: Tensor, weight: Tensor
) -> Tensor:
    """Map each point by the fit to all others.

    The moments without a point follow from those of all points, so time and memory grow linearly.

    Args:
        kind: ``rigid``, ``similarity`` or ``affine``.
        points_mm: ``(N, d)`` fixed points.
        targets_mm: ``(N, d)`` moving points.
        weight: ``(N,)`` weights >= 0 of the points.

    Returns:
        ``(N, d)`` mapped points, float64.
    """
    whole, share = _moments(points_mm, targets_mm, weight), _shares(weight)
    x, y = points_mm.double() - whole.x_mean, targets_mm.double() - whole.y_mean
    rest = (1 - share)[:, None]
    factor = (share[:, None] / rest**2)[..., None]
    others = _Moments(
        whole.x_mean - share[:, None] * x / rest,
        whole.y_mean - share[:, None] * y / rest,
        whole.cross / rest[..., None] - factor * y[:, :, None] * x[:, None],
        whole.covariance / rest[..., None] - factor * x[:, :, None] * x[:, None],
    )
    return _fitted(kind, others)(points_mm.double()[:, None])[:, 0]


def others_span(points_mm: Tensor, weight: Tensor, rank: int) -> Tensor:
    """``(N,)`` bool: whether all other points with a positive weight span ``rank`` axes.

    Args:
        points_mm: ``(N, d)`` points.
        weight: ``(N,)`` weights >= 0 of the points.
        rank: number of axes.
    """
    share = _shares((weight > 0).double())
    x = points_mm.double()
    x = x - (share[:, None] * x).sum(0)
    rest = (1 - share)[:, None, None]
    product = x[:, :, None] * x[:, None]
    whole = x.T @ (share[:, None] * x)
    covariance = whole / rest - share[:, None, None] * product / rest**2
    variances = torch.linalg.eigvalsh(covariance).flip(-1)
    variances[variances < _ROUNDING * whole.trace()] = 0
    extents = variances.sqrt()
    return extents[..., rank - 1] > _MIN_EXTENT * extents[..., 0]


def spline_leave_one_out(spline: ThinPlateSpline) -> Tensor:
    """Map each control point by the spline with the same smoothing through all others.

    Computed in closed form: the error is the point's coefficient divided by its diagonal element of
    the inverted system (Rippa 1999, doi:10.1023/A:1018975909870, extended by the affine part). The
    result is undefined for a point without which the others do not determine an affine transform.

    Returns:
        ``(n, d)`` mapped points, float64.
    """
    n = len(spline.points_mm)
    diagonal = spline.coefficients_from_targets[:n].diagonal()
    return spline.targets_mm.double() - spline.coefficients[:n] / diagonal[:, None]


def extents_mm(points_mm: Tensor, weight: Tensor) -> Tensor:
    """Standard deviations of points along their principal axes, largest first.

    Args:
        points_mm: ``(..., N, d)`` points.
        weight: ``(..., N)`` weights >= 0 of the points.

    Returns:
        ``(..., d)`` standard deviations in mm, float64.
    """
    w = (weight / weight.sum(-1, keepdim=True).clamp(min=1e-300)).double()[..., None]
    x = points_mm.double() - (w * points_mm).sum(-2, keepdim=True)
    return torch.linalg.eigvalsh(x.mT @ (w * x)).clamp(min=0).sqrt().flip(-1)


def spans(points_mm: Tensor, weight: Tensor, rank: int) -> Tensor:
    """``(...)`` bool: whether points ``(..., N, d)`` with a positive weight span ``rank`` axes."""
    extents = extents_mm(points_mm, (weight > 0).double())
    return extents[..., rank - 1] > _MIN_EXTENT * extents[..., 0]
