"""greedy's transforms: a matrix as text, and displacement fields.

Convention: both map fixed points to moving points. The matrix (``-it``, ``-a -o``) is in RAS
millimetres; fields (``-o``) are ITK's, vectors in LPS millimetres. A fixed point goes through the
field first: ``greedy -r warp.nii.gz affine.mat``.
"""

from __future__ import annotations

from pathlib import Path
from typing import final

from stn3d.errors import InputError
from stn3d.io.transforms.base import ReferenceImages, TransformFileFormat, has_suffix
from stn3d.io.transforms.fields import affine_from, as_field, require_linear
from stn3d.io.transforms.itk import is_vector_file, read_itk_field, write_itk_field
from stn3d.io.transforms.matrices import is_matrix, read_matrix, write_matrix
from stn3d.io.transforms.vectors import NIFTI_SUFFIXES
from stn3d.transforms import Transform

_SIZES = (3, 4)
_MATRIX_SUFFIXES = (".mat", ".txt")


@final
class Greedy(TransformFileFormat):
    """Matrices and fields of greedy."""

    name = "greedy"

    def recognises(self, path: Path) -> bool:
        return is_matrix(path, _SIZES)

    def read(self, path: Path, images: ReferenceImages) -> Transform:
        if is_vector_file(path):
            return read_itk_field(path)
        return affine_from(read_matrix(path, _SIZES, "a matrix of greedy"), path)

    def write(self, path: Path, transform: Transform, images: ReferenceImages) -> list[Path]:
        if has_suffix(path, *NIFTI_SUFFIXES):
            write_itk_field(path, as_field(transform, images, "a field for greedy"))
        else:
            write_matrix(path, require_linear(transform, path, "a matrix of greedy"))
        return [path]

    def outputs(self, path: Path) -> list[Path]:
        if has_suffix(path, *_MATRIX_SUFFIXES, *NIFTI_SUFFIXES):
            return [path]
        raise InputError(
            f"cannot write {path} for greedy: use .mat for a linear transform, .nii.gz for a field."
        )
