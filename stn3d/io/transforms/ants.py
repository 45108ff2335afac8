"""The files of ANTs' antsRegistration: a matrix and a displacement field with its inverse.

Convention: ``PREFIX0GenericAffine.mat`` and ``PREFIX1Warp.nii.gz`` are ITK transforms in LPS. Of
the numbered files the last is applied to a fixed point first: the field, then the matrix.
``PREFIX1InverseWarp.nii.gz`` is the inverse of the field alone, so moving points go through the
inverse of the matrix and then through it.
"""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from pathlib import Path
from typing import final

import torch

from stn3d.errors import InputError
from stn3d.io.files import atomic_write
from stn3d.io.texts import shown_path
from stn3d.io.transforms.base import ReferenceImages, TransformFileFormat
from stn3d.io.transforms.fields import as_field, field_and_matrix
from stn3d.io.transforms.itk import (
    is_vector_file,
    read_itk,
    read_itk_field,
    write_itk,
    write_itk_field,
)
from stn3d.transforms import Affine, Linear, Transform, chain, invert_fields

_FILE = re.compile(
    r"(?P<prefix>.*?)(?P<number>\d+)"
    r"(?P<kind>(?P<inverse>Inverse)?Warp\.nii(\.gz)?|[A-Za-z]+\.(mat|txt))"
)


@final
class Ants(TransformFileFormat):
    """The files of antsRegistration, named by their prefix or by one of them."""

    name = "ants"

    def recognises(self, path: Path) -> bool:
        return not os.path.exists(path) and bool(_files(path.parent, path.name))

    def read(self, path: Path, images: ReferenceImages) -> Transform:
        named = _FILE.fullmatch(path.name)
        prefix = path.parent / named["prefix"] if named else path
        files = _files(prefix.parent, prefix.name if named is None else named["prefix"])
        if not files:
            raise InputError(
                f"there are no files {shown_path(prefix)}0GenericAffine.mat or "
                f"{shown_path(prefix)}1Warp.nii.gz; give the prefix of ANTs' files."
            )
        if named and named["inverse"]:
            return _inverse(files, path)
        return chain(*(_read(file) for file in files))

    def write(self, path: Path, transform: Transform, images: ReferenceImages) -> list[Path]:
        affine, warp, inverse_warp = self.outputs(path)
        stale = [file for file in (warp, inverse_warp) if os.path.exists(file)]
        if stale and isinstance(transform, Linear):
            raise InputError(
                f"{stale[0]} belongs to another transform with this prefix, and a linear transform "
                "has no field; remove it, or give another prefix."
            )
        field, matrix = field_and_matrix(transform, images, "ANTs' displacement field")
        with ExitStack() as stack:
            parts = {affine: stack.enter_context(atomic_write(affine))}
            write_itk(parts[affine], Affine.from_matrix(torch.from_numpy(matrix)))
            if field is not None:
                inverse = as_field(invert_fields(field)[0], images, "ANTs' inverse field")
                for file, one in ((warp, field), (inverse_warp, inverse)):
                    parts[file] = stack.enter_context(atomic_write(file))
                    write_itk_field(parts[file], one)
        return list(parts)

    def outputs(self, path: Path) -> list[Path]:
        names = ("0GenericAffine.mat", "1Warp.nii.gz", "1InverseWarp.nii.gz")
        return [path.with_name(path.name + name) for name in names]


def _read(file: Path) -> Transform:
    return read_itk_field(file) if is_vector_file(file) else read_itk(file)


def _inverse(files: list[Path], inverse_warp: Path) -> Transform:
    """Moving points to fixed points: the linear transforms inverted, then the inverse field."""
    linear = [_read(file).inverse() for file in reversed(files) if not is_vector_file(file)]
    return chain(*linear, read_itk_field(inverse_warp))


def _files(folder: Path, prefix: str) -> list[Path]:
    """Files in order of application to a fixed point: the highest number first."""
    found = {}
    for file in folder.glob("*") if os.path.isdir(folder) else ():
        match = _FILE.fullmatch(file.name)
        if match and match["prefix"] == prefix and not match["inverse"]:
            found[int(match["number"])] = file
    return [file for _, file in sorted(found.items(), reverse=True)]
