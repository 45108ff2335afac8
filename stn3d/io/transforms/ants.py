"""The files of ANTs' antsRegistration: a matrix and a displacement field with its inverse.

Convention: ``PREFIX0GenericAffine.mat`` and ``PREFIX1Warp.nii.gz`` are ITK transforms in LPS. Of
the numbered files the last is applied to a fixed point first: the field, then the matrix.
``PREFIX1InverseWarp.nii.gz`` is the inverse of the field alone.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import final

from stn3d.errors import InputError
from stn3d.io.texts import shown_path
from stn3d.io.transforms.base import ReferenceImages, TransformFileFormat
from stn3d.io.transforms.itk import read_itk, write_itk
from stn3d.transforms import Linear, Transform, chain

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
        named = _FILE.fullmatch(path.name) if os.path.isfile(path) else None
        files = _files(path.parent, named["prefix"] if named else path.name)
        if not files:
            raise InputError(
                f"there are no files {shown_path(path)}0GenericAffine.mat or "
                f"{shown_path(path)}1Warp.nii.gz; give the prefix of ANTs' files."
            )
        return chain(*(read_itk(file) for file in files))

    def write(self, path: Path, transform: Transform, images: ReferenceImages) -> list[Path]:
        if not isinstance(transform, Linear):
            raise InputError("fields are not written yet.")
        affine = self.outputs(path)[0]
        write_itk(affine, transform)
        return [affine]

    def outputs(self, path: Path) -> list[Path]:
        names = ("0GenericAffine.mat", "1Warp.nii.gz", "1InverseWarp.nii.gz")
        return [path.with_name(path.name + name) for name in names]


def _files(folder: Path, prefix: str) -> list[Path]:
    """Files in order of application to a fixed point: the highest number first."""
    found = {}
    for file in folder.glob("*") if os.path.isdir(folder) else ():
        match = _FILE.fullmatch(file.name)
        if match and match["prefix"] == prefix and not match["inverse"]:
            found[int(match["number"])] = file
    return [file for _, file in sorted(found.items(), reverse=True)]
