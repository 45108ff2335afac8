"""The linear transform that brings points onto points, by least squares."""

from __future__ import annotations

import torch
from torch import Tensor

from stn3d.grid import homogeneous
from stn3d.transforms.linear import Affine, LinearKind


def fit_linear(
    kind: LinearKind, points_mm: Tensor, targets_mm: Tensor, weight: Tensor | None = None
) -> Affine:
    """The rigid, similarity or affine transform of least weighted squared distances.

    Rigid and similarity never mirror (Umeyama 1991, doi:10.1109/34.88573).

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
