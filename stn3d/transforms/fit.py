"""The transform that brings points onto points, and what it says of points that it never saw."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from stn3d.grid import homogeneous
from stn3d.transforms.linear import Affine, LinearKind
from stn3d.transforms.spline import ThinPlateSpline

_THIN = 1e-3  # of the longest extent: points that reach less far along an axis do not span it


def fit_linear(
    kind: LinearKind, points_mm: Tensor, targets_mm: Tensor, weight: Tensor | None = None
) -> Affine:
    """The rigid, similarity or affine transform of least weighted squared distances.

    Rigid and similarity never mirror (Kabsch 1976, doi:10.1107/S0567739476001873; Umeyama 1991,
    doi:10.1109/34.88573, eqs. 40 to 43).

    Args:
        kind: which transforms to choose from.
        points_mm: ``(..., N, d)`` fixed points.
        targets_mm: where they should go, ``(..., N, d)``.
        weight: of the points, ``(..., N)``, not negative; None counts all alike.

    Returns:
        The transform as an affine, reckoned in float64; where the points do not span the space,
        that of least change of lengths.
    """
    x, y = points_mm.double(), targets_mm.double()
    w = torch.ones_like(x[..., 0]) if weight is None else weight.double()
    w = (w / w.sum(-1, keepdim=True).clamp(min=1e-300))[..., None]
    x_mean, y_mean = (w * x).sum(-2), (w * y).sum(-2)
    x, y = x - x_mean[..., None, :], y - y_mean[..., None, :]
    cross, spread = y.mT @ (w * x), x.mT @ (w * x)
    if kind == "affine":
        linear = cross @ torch.linalg.pinv(spread, hermitian=True)
    else:
        u, singular, vt = torch.linalg.svd(cross)
        signs = torch.ones_like(singular)
        signs[..., -1] = torch.linalg.det(u @ vt).sign()
        linear = u @ (signs[..., None] * vt)
        if kind == "similarity":
            length = spread.diagonal(dim1=-2, dim2=-1).sum(-1).clamp(min=1e-300)
            linear = linear * ((signs * singular).sum(-1) / length)[..., None, None]
    shift = y_mean - (linear @ x_mean[..., None])[..., 0]
    return Affine.from_matrix(homogeneous(linear, shift))


def fit_spline(
    points_mm: Tensor, targets_mm: Tensor, smoothing: float = 0.0, weight: Tensor | None = None
) -> ThinPlateSpline:
    """The thin-plate spline of points that weigh differently; those of no weight are left out.

    A target pulls as its weight says, relative to the mean: its point is smoothed by
    ``smoothing * mean / weight`` (Rohr et al. 2001, doi:10.1109/42.929618).

    Args:
        points_mm: ``(N, d)`` fixed points.
        targets_mm: ``(N, d)``, where they should go.
        smoothing: see `ThinPlateSpline`; at 0 all weights above 0 count alike.
        weight: of the points, ``(N,)``, not negative; None counts all alike.

    Raises:
        ValueError: the points do not fix an affine map.
    """
    x, y = points_mm.double(), targets_mm.double()
    if weight is None or not smoothing:
        kept = torch.ones_like(x[:, 0]).bool() if weight is None else weight > 0
        return ThinPlateSpline(x[kept], y[kept], smoothing)
    w = weight[weight > 0].double()
    each = (smoothing * w.mean() / w).tolist()
    return ThinPlateSpline(x[weight > 0], y[weight > 0], tuple(each))


def linear_left_out(
    kind: LinearKind, points_mm: Tensor, targets_mm: Tensor, weight: Tensor
) -> Tensor:
    """Where each point goes by the fit to all others.

    Args:
        kind, points_mm, targets_mm, weight: as `fit_linear` takes them, ``(N, d)`` and ``(N,)``.

    Returns:
        ``(N, d)``, float64.
    """
    x, y = points_mm.double(), targets_mm.double()
    found = []
    for rows, others in left_out_weights(weight):
        fits = fit_linear(kind, x[None], y[None], others)
        found.append(fits(x[rows][:, None])[:, 0])
    return torch.cat(found)


def left_out_weights(weight: Tensor, most: int = 1 << 20) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows ``(B,)`` and, for each, the weights ``(B, N)`` without it; at most so many numbers."""
    for rows in torch.arange(len(weight)).split(max(1, most // len(weight))):
        others = weight.double().repeat(len(rows), 1)
        others[torch.arange(len(rows)), rows] = 0
        yield rows, others


def spline_left_out(spline: ThinPlateSpline) -> Tensor:
    """Where each control point goes by the spline, as smooth, through all others.

    Without a second fit: the gap is the point's coefficient by its diagonal element of the inverted
    system (Rippa 1999, doi:10.1023/A:1018975909870; here with an affine part). It means nothing
    for a point without which the others fix no affine map.

    Returns:
        ``(n, d)``, float64.
    """
    n = len(spline.points_mm)
    diagonal = spline.coefficients_from_targets[:n].diagonal()
    return spline.targets_mm.double() - spline.coefficients[:n] / diagonal[:, None]


def extents_mm(points_mm: Tensor, weight: Tensor) -> Tensor:
    """How far points reach from their mean along their principal axes, the longest first.

    Args:
        points_mm: ``(..., N, d)``.
        weight: ``(..., N)``, not negative.

    Returns:
        ``(..., d)`` root mean squares, float64.
    """
    w = (weight / weight.sum(-1, keepdim=True).clamp(min=1e-300)).double()[..., None]
    x = points_mm.double() - (w * points_mm).sum(-2, keepdim=True)
    return torch.linalg.eigvalsh(x.mT @ (w * x)).clamp(min=0).sqrt().flip(-1)


def spans(points_mm: Tensor, weight: Tensor, rank: int) -> Tensor:
    """``(...)`` bool: whether points ``(..., N, d)`` of a weight above 0 span so many axes."""
    extents = extents_mm(points_mm, (weight > 0).double())
    return extents[..., rank - 1] > _THIN * extents[..., 0]
