"""Fits of linear transforms and splines to corresponding points, with leave-one-out predictions."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from stn3d.grid import homogeneous
from stn3d.transforms.linear import Affine, LinearKind
from stn3d.transforms.spline import ThinPlateSpline

_MIN_EXTENT = 1e-3  # of the longest extent: points with a smaller one do not span the axis


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
    x, y = points_mm.double(), targets_mm.double()
    w = torch.ones_like(x[..., 0]) if weight is None else weight.double()
    w = (w / w.sum(-1, keepdim=True).clamp(min=1e-300))[..., None]
    x_mean, y_mean = (w * x).sum(-2), (w * y).sum(-2)
    x, y = x - x_mean[..., None, :], y - y_mean[..., None, :]
    cross, covariance = y.mT @ (w * x), x.mT @ (w * x)
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
    shift = y_mean - (linear @ x_mean[..., None])[..., 0]
    return Affine.from_matrix(homogeneous(linear, shift))


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

    Args:
        kind: ``rigid``, ``similarity`` or ``affine``.
        points_mm: ``(N, d)`` fixed points.
        targets_mm: ``(N, d)`` moving points.
        weight: ``(N,)`` weights >= 0 of the points.

    Returns:
        ``(N, d)`` mapped points, float64.
    """
    x, y = points_mm.double(), targets_mm.double()
    found = []
    for rows, others in leave_one_out_weights(weight):
        fits = fit_linear(kind, x[None], y[None], others)
        found.append(fits(x[rows][:, None])[:, 0])
    return torch.cat(found)


def leave_one_out_weights(
    weight: Tensor, max_elements: int = 1 << 20
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of rows ``(B,)`` with weights ``(B, N)`` in which that row has weight 0."""
    for rows in torch.arange(len(weight)).split(max(1, max_elements // len(weight))):
        others = weight.double().repeat(len(rows), 1)
        others[torch.arange(len(rows)), rows] = 0
        yield rows, others


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
