"""Transforms as they are named on command lines.

A SPEC is ``PATH``, ``FORMAT:PATH`` (``fsl:warp.nii.gz``), the folder of a registration (its
``transform.h5``), or ``inverse:SPEC``. ``inverse:`` of a folder is its ``inverse.h5``. If a file
exists under the whole text, it is meant.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast, get_args

from stn3d.choices import TransformFormat
from stn3d.errors import InputError
from stn3d.io.texts import shown_path
from stn3d.io.transforms.base import Reference
from stn3d.io.transforms.registry import format_of, read_transform
from stn3d.transforms import Transform, chain

_INVERSE = "inverse"
_FILES = ("transform.h5", "inverse.h5")  # of a registration


def read_spec(
    text: str, *, fixed: Reference | None = None, moving: Reference | None = None
) -> Transform:
    """Read a transform that is named on a command line.

    Args:
        text: the SPEC, see this module.
        fixed: the fixed image of the result, for formats that need it.
        moving: the moving image of the result. For ``inverse:``, the file's own fixed image is the
            moving image.

    Returns:
        Fixed points to moving points. The inverse of a displacement field lies on the field's grid.

    Raises:
        InputError: see `stn3d.io.read_transform`.
    """
    prefix, rest = _prefix(text)
    if prefix == _INVERSE:
        if (saved := _in_folder(rest, "inverse.h5")) is not None:
            return read_transform(saved)
        return read_spec(rest, fixed=moving, moving=fixed).inverse()
    path, format = split_format(text)
    saved = _in_folder(text, "transform.h5") if format == "auto" else None
    return read_transform(saved or path, fixed=fixed, moving=moving, format=format)


def read_specs(
    texts: Sequence[str], *, fixed: Reference | None = None, moving: Reference | None = None
) -> Transform:
    """Read transforms that are named on a command line, and join them.

    Args:
        texts: the SPECs in the order in which a fixed point passes through them.
        fixed: the fixed image of the whole, known to the first transform alone.
        moving: the moving image of the whole, known to the last transform alone.

    Returns:
        Fixed points to moving points.

    Raises:
        InputError: see `read_spec`; or there is none, or their dimensions differ.
    """
    if not texts:
        raise InputError("there is no transform; give one or more.")
    last = len(texts) - 1
    parts = [
        read_spec(
            text,
            fixed=fixed if count == 0 else None,
            moving=moving if count == last else None,
        )
        for count, text in enumerate(texts)
    ]
    for text, part in zip(texts, parts, strict=True):
        if part.ndim != parts[0].ndim:
            raise InputError(
                f"the transform {shown_path(text)} is {part.ndim}D and {shown_path(texts[0])} is "
                f"{parts[0].ndim}D; give transforms of one dimension."
            )
    return chain(*parts)


def format_of_spec(text: str) -> TransformFormat:
    """The format of the file that a SPEC names.

    Raises:
        InputError: there is no such file, or its format is not clear.
    """
    prefix, rest = _prefix(text)
    if prefix == _INVERSE:
        return format_of_spec(rest)
    path, format = split_format(text)
    if format != "auto":
        return format
    return format_of(_in_folder(text, "transform.h5") or path)


def split_format(text: str) -> tuple[Path, TransformFormat]:
    """Path and format of ``PATH`` or ``FORMAT:PATH``, for inputs and outputs."""
    prefix, rest = _prefix(text)
    if prefix in get_args(TransformFormat):
        return Path(rest), cast("TransformFormat", prefix)
    return Path(text), "auto"


def spec_files(text: str) -> list[Path]:
    """The paths that a SPEC names, to compare them with outputs."""
    prefix, rest = _prefix(text)
    if prefix == _INVERSE:
        return spec_files(rest)
    return [split_format(text)[0]]


def _prefix(text: str) -> tuple[str, str]:
    """What precedes the first colon, and the rest; an empty prefix for the name of a file."""
    if os.path.exists(text) or ":" not in text:
        return "", text
    prefix, _, rest = text.partition(":")
    return prefix.lower(), rest


def _in_folder(text: str, name: str) -> Path | None:
    """A file in the folder of a registration; None if the text does not name a folder.

    Raises:
        InputError: the folder has no such file.
    """
    if not os.path.isdir(text):
        return None
    path = Path(text) / name
    if not path.is_file():
        raise InputError(
            f"the folder {shown_path(text)} holds no {name}, as the folder of a registration does; "
            "give the transform's file."
        )
    return path
