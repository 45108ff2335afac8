"""Transform sources: files, matrices, SimpleITK transforms, and their conversion to `Transform`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import torch

from stn3d.arguments import TensorLike, points_tensor
from stn3d.errors import InputError
from stn3d.io.transforms import Reference, read_spec
from stn3d.io.transforms.itk import from_parts
from stn3d.transforms import Affine, Transform

if TYPE_CHECKING:
    import SimpleITK as sitk


@runtime_checkable
class HasTransform(Protocol):
    """A result with a transform, such as a `Registration`."""

    @property
    def transform(self) -> Transform:
        """Fixed points to moving points."""


TransformSource: TypeAlias = (
    "Transform | HasTransform | str | os.PathLike[str] | TensorLike | sitk.Transform"
)


def as_transform(
    source: TransformSource, *, fixed: Reference | None = None, moving: Reference | None = None
) -> Transform:
    """Any transform source as a `Transform`.

    Convention: fixed points to moving points, in world RAS+ mm for matrices; SimpleITK transforms
    are in LPS, as SimpleITK has them.

    Args:
        source: `Transform`; result of a registration of images or landmarks; path of a transform
            file, or a SPEC (`stn3d.io.read_spec`);
            ``(d + 1, d + 1)`` matrix ``moving_from_fixed`` (tensor, array or nested list); or
            SimpleITK transform: linear, displacement field or composite.
        fixed: the fixed image, for file formats that need it.
        moving: the moving image, for file formats that need it.

    Raises:
        InputError: the file cannot be read, the matrix has another shape or is singular, or it is
            another kind of transform.

    Examples:
        >>> shift = as_transform([[1, 0, 0, 10], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        >>> shift([[1, 2, 3]])
        tensor([[11.,  2.,  3.]], dtype=torch.float64)
    """
    if isinstance(source, Transform):
        return source
    if isinstance(source, HasTransform) and isinstance(source.transform, Transform):
        return source.transform
    if isinstance(source, str | os.PathLike):
        return read_spec(os.fspath(source), fixed=fixed, moving=moving)
    module = sys.modules.get("SimpleITK")
    if module is not None and isinstance(source, module.Transform):
        return _from_sitk(source)
    return _from_matrix(source)


def _from_sitk(source: Any) -> Transform:
    from stn3d.io.itk_child import parts_of  # imports SimpleITK

    answer, fields = parts_of(source)
    return from_parts(answer, fields, f"the {source.GetName()} in memory")


def _from_matrix(source: Any) -> Transform:
    try:
        matrix = points_tensor(source).detach().cpu().double()
    except InputError:
        raise InputError(
            f"a {type(source).__name__} is no transform; give a Transform, a path, a matrix or a "
            "SimpleITK transform."
        ) from None
    if matrix.shape not in ((3, 3), (4, 4)):
        raise InputError(
            f"a matrix of shape {tuple(matrix.shape)} is no transform; give the 4x4 matrix from "
            "fixed to moving points (3x3 in 2D)."
        )
    finite = bool(matrix.isfinite().all())
    last_row = torch.eye(len(matrix), dtype=torch.float64)[-1]
    if not finite or not torch.allclose(matrix[-1], last_row) or torch.linalg.det(matrix) == 0:
        raise InputError(
            "the matrix is no affine transform: it is singular, holds NaN or Inf, or its last row "
            "is not 0 ... 0 1."
        )
    return Affine.from_matrix(matrix)
