"""Transforms applied and written by libraries: SimpleITK, nitransforms, MONAI."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from scripts.bench.studies.cross_tool.cases import FLIP, MOVING_SHAPE, Applied, Case, matrix_of

FIELD_SUFFIXES = (".nii.gz", ".nrrd", ".mha")


# -- SimpleITK ------------------------------------------------------------------------------------


def sitk_apply(case: Case, files: Sequence[Path]) -> Applied:
    """A transform file or a field, resampled and mapped by SimpleITK."""
    path = str(files[0])
    if path.endswith(FIELD_SUFFIXES):
        vectors = sitk.ReadImage(path, sitk.sitkVectorFloat64)
        transform = sitk.Transform(sitk.DisplacementFieldTransform(vectors))
    else:
        transform = sitk.ReadTransform(path)
    fixed, moving = (sitk.ReadImage(str(one)) for one in case.paths)
    moved = sitk.Resample(moving, fixed, transform, sitk.sitkLinear, 0.0)
    points = [transform.TransformPoint(point) for point in (case.points * FLIP).tolist()]
    return Applied(sitk.GetArrayFromImage(moved).T, np.array(points) * FLIP)


def sitk_write(case: Case, kind: str, path: Path) -> None:
    """A transform file or a field, written by SimpleITK."""
    affine = sitk.AffineTransform(3)
    matrix = np.diag([*FLIP, 1]) @ matrix_of(case.linear) @ np.diag([*FLIP, 1])
    affine.SetMatrix(matrix[:3, :3].ravel().tolist())
    affine.SetTranslation(matrix[:3, 3].tolist())
    if kind == "linear":
        sitk.WriteTransform(affine, str(path))
        return
    like = sitk.ReadImage(str(case.paths[0]))
    vectors = case.field.displacement_mm[0].movedim(0, -1).double().numpy() * FLIP
    image = sitk.GetImageFromArray(np.transpose(vectors, (2, 1, 0, 3)), isVector=True)
    image.CopyInformation(like)
    if kind == "field":
        sitk.WriteImage(sitk.Cast(image, sitk.sitkVectorFloat32), str(path))
        return
    field = sitk.DisplacementFieldTransform(image)
    sitk.WriteTransform(sitk.CompositeTransform([affine, field]), str(path))


# -- nitransforms ---------------------------------------------------------------------------------


def _nitransform(case: Case, path: Path, format: str, kind: str) -> Any:
    from nitransforms.linear import load
    from nitransforms.manip import TransformChain
    from nitransforms.nonlinear import DenseFieldTransform

    fixed, moving = case.paths
    if format == "x5":
        found = TransformChain.from_filename(path, fmt="X5")
        found.reference = fixed
        return found
    if kind == "field":
        return DenseFieldTransform.from_filename(path, fmt=format)
    return load(path, fmt=format, reference=fixed, moving=moving)


def nitransforms_apply(case: Case, path: Path, format: str, kind: str) -> Applied:
    """A file, resampled and mapped by nitransforms.

    It interpolates fields by cubic splines, so points are mapped at voxel centres.
    """
    from nitransforms.resampling import apply

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = _nitransform(case, path, format, kind)
        fixed_points = case.points if kind == "linear" else case.voxels
        points = np.asarray(found.map(fixed_points))
        fixed, moving = (nib.load(one) for one in case.paths)
        moved = apply(found, moving, reference=fixed, order=1)
    return Applied(np.asarray(moved.dataobj, np.float32), points, fixed_points)


def nitransforms_write(case: Case, path: Path, format: str, kind: str) -> None:
    """A file, written by nitransforms."""
    from nitransforms.linear import Affine
    from nitransforms.manip import TransformChain
    from nitransforms.nonlinear import DenseFieldTransform

    fixed, moving = case.paths
    vectors = case.field.displacement_mm[0].movedim(0, -1).numpy()
    affine = case.fixed.world_from_index.numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        linear = Affine(matrix_of(case.linear), reference=str(fixed))
        dense = DenseFieldTransform(nib.Nifti1Image(vectors, affine), is_deltas=True)
        if kind == "both":
            TransformChain([dense, linear]).to_filename(path)
        elif kind == "field":
            dense.to_filename(path, fmt=format)
        else:
            linear.to_filename(path, fmt=format, moving=str(moving))


# -- MONAI ----------------------------------------------------------------------------------------


def monai_apply(case: Case, ddf: NDArray[Any]) -> Applied:
    """A displacement field in voxels, applied by MONAI's Warp."""
    from monai.networks.blocks import Warp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = Warp(padding_mode="zeros")
    # Warp needs an image of the shape of the field; the outer voxels of the larger one are zeros
    shape = [max(sizes) for sizes in zip(MOVING_SHAPE, case.fixed.shape, strict=True)]
    image = torch.zeros(1, 1, *shape)
    a, b, c = MOVING_SHAPE
    image[:, :, :a, :b, :c] = case.image
    field = torch.zeros(1, 3, *shape)
    i, j, k = case.fixed.shape
    field[:, :, :i, :j, :k] = torch.from_numpy(ddf)
    moved = layer(image, field)[0, 0, :i, :j, :k]
    return Applied(moved.numpy(), None)
