"""SimpleITK as reference: conversion of images, grids and transforms from RAS tensors to LPS.

Independent of stn3d.io, so that the two cannot share an error.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from stn3d.grid import Grid


def flip(d: int) -> np.ndarray:
    """Matrix between RAS and LPS: x and y change sign."""
    return np.diag([-1.0, -1.0, 1.0][:d])


def set_geometry(image: sitk.Image, grid: Grid) -> sitk.Image:
    d = grid.ndim
    matrix = grid.world_from_index.numpy()
    columns = flip(d) @ matrix[:d, :d]
    spacing = np.linalg.norm(columns, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((columns / spacing).flatten().tolist())
    image.SetOrigin((flip(d) @ matrix[:d, d]).tolist())
    return image


def image_of(values: Tensor, grid: Grid) -> sitk.Image:
    """ITK image of values ``(1, 1, *shape)``."""
    return set_geometry(sitk.GetImageFromArray(values[0, 0].numpy().T.copy()), grid)


def values_of(image: sitk.Image) -> Tensor:
    """Values ``(1, 1, *shape)`` of an ITK image."""
    return torch.from_numpy(sitk.GetArrayFromImage(image).T.copy())[None, None]


def resampled(
    image: sitk.Image, fixed: Grid, transform: sitk.Transform, how: int, outside: float
) -> Tensor:
    """Image resampled by ITK, ``(1, 1, *fixed.shape)``."""
    reference = set_geometry(sitk.Image(list(fixed.shape), sitk.sitkUInt8), fixed)
    return values_of(sitk.Resample(image, reference, transform, how, outside))


def mapped(transform: sitk.Transform, points_mm: Tensor) -> Tensor:
    """RAS points ``(N, d)`` mapped by an ITK transform."""
    d = points_mm.shape[-1]
    lps = points_mm.double().numpy() @ flip(d)
    return torch.tensor(np.array([transform.TransformPoint(p.tolist()) for p in lps]) @ flip(d))


def _plain(values: np.ndarray | Tensor) -> list[float]:
    return [float(v) for v in np.asarray(values).flatten()]


def rigid(rotation: Tensor, shift_mm: Tensor, centre_mm: Tensor) -> sitk.Transform:
    """Rigid transform: Euler2D of an angle, or a versor of a rotation vector."""
    d = len(shift_mm)
    transform = sitk.Euler2DTransform() if d == 2 else sitk.VersorRigid3DTransform()
    _set_rotation(transform, rotation)
    return place(transform, shift_mm, centre_mm)


def similarity(
    rotation: Tensor, scale: float, shift_mm: Tensor, centre_mm: Tensor
) -> sitk.Transform:
    d = len(shift_mm)
    transform = sitk.Similarity2DTransform() if d == 2 else sitk.Similarity3DTransform()
    _set_rotation(transform, rotation)
    transform.SetScale(scale)
    return place(transform, shift_mm, centre_mm)


def affine(matrix: Tensor, shift_mm: Tensor, centre_mm: Tensor) -> sitk.Transform:
    d = len(shift_mm)
    transform = sitk.AffineTransform(d)
    transform.SetMatrix(_plain(flip(d) @ matrix.numpy() @ flip(d)))
    return place(transform, shift_mm, centre_mm)


def _set_rotation(transform: sitk.Transform, rotation: Tensor) -> None:
    if len(rotation) == 1:
        transform.SetAngle(float(rotation))
    else:
        transform.SetRotation(_plain(flip(3) @ rotation.numpy()), float(rotation.norm()))


def place(transform: sitk.Transform, shift_mm: Tensor, centre_mm: Tensor) -> sitk.Transform:
    """Set translation and centre of a transform, in RAS millimetres."""
    d = len(shift_mm)
    transform.SetCenter(_plain(flip(d) @ centre_mm.numpy()))
    transform.SetTranslation(_plain(flip(d) @ shift_mm.numpy()))
    return transform


def field(displacement_mm: Tensor, grid: Grid) -> sitk.Transform:
    """ITK transform of a displacement field ``(1, d, *shape)`` in RAS millimetres."""
    d = grid.ndim
    vectors = displacement_mm[0].movedim(0, -1).double().numpy() @ flip(d)
    array = vectors.transpose(*reversed(range(d)), d).copy()
    image = set_geometry(sitk.GetImageFromArray(array, isVector=True), grid)
    return sitk.DisplacementFieldTransform(image)


def composite(parts: Sequence[sitk.Transform], d: int) -> sitk.Transform:
    """Composite of transforms in order of application; ITK applies the last one first."""
    whole = sitk.CompositeTransform(d)
    for part in reversed(parts):
        whole.AddTransform(part)
    return whole
