"""The formats of transform files, and reading and writing by format.

Convention: transforms map points of the fixed image to points of the moving image, in world RAS+
millimetres. Each format's module states the direction and the frame that its files have.
"""

from __future__ import annotations

import os
from pathlib import Path

from stn3d.choices import TransformFormat, check_choice
from stn3d.errors import InputError
from stn3d.io.files import check_output
from stn3d.io.texts import shown_path
from stn3d.io.transforms.afni import Afni
from stn3d.io.transforms.ants import Ants
from stn3d.io.transforms.base import Reference, ReferenceImages, TransformFileFormat, has_suffix
from stn3d.io.transforms.dicom import Dicom
from stn3d.io.transforms.elastix import Elastix
from stn3d.io.transforms.freesurfer import FreeSurfer
from stn3d.io.transforms.fsl import Fsl
from stn3d.io.transforms.greedy import Greedy
from stn3d.io.transforms.itk import Itk
from stn3d.io.transforms.monai import Monai
from stn3d.io.transforms.x5 import X5
from stn3d.transforms import Transform

_ALL: tuple[TransformFileFormat, ...] = (
    Itk(),
    Ants(),
    Greedy(),
    Fsl(),
    FreeSurfer(),
    Afni(),
    Elastix(),
    X5(),
    Dicom(),
    Monai(),
)
FORMATS: dict[str, TransformFileFormat] = {one.name: one for one in _ALL}


def read_transform(
    path: str | os.PathLike[str],
    *,
    fixed: Reference | None = None,
    moving: Reference | None = None,
    format: TransformFormat = "auto",
) -> Transform:
    """Read a transform file.

    Args:
        path: file of any format in `stn3d.choices.TRANSFORM_FORMATS`; for ANTs also the prefix of
            its files. For an example see `write_transform`.
        fixed: the fixed image (grid, image or path), for formats that do not store its geometry.
        moving: the moving image, likewise.
        format: format of the file. Default: by extension and content.

    Returns:
        The transform from fixed to moving points in RAS+ millimetres; fields are float32 on their
        own grid.

    Raises:
        InputError: the file does not exist, is damaged, could have several formats, needs an image
            that is not given, or holds a kind of transform that stn3d does not support.
    """
    path = Path(path)
    check_choice("format", format, TransformFormat)
    return _format_of(path, format).read(path, ReferenceImages(fixed, moving))


def write_transform(
    path: str | os.PathLike[str],
    transform: Transform,
    *,
    fixed: Reference | None = None,
    moving: Reference | None = None,
    format: TransformFormat = "auto",
) -> list[Path]:
    """Write a transform atomically; equal transforms give equal bytes.

    Displacement fields are stored as float32; a velocity field is stored as its displacement field.

    Args:
        path: output file: ``.h5`` for any transform (an ITK composite transform), ``.tfm``,
            ``.txt`` or ``.mat`` for a linear one; other formats by their extension or ``format``.
        transform: fixed points to moving points, not a batch of several.
        fixed: the fixed image (grid, image or path), for formats that need its geometry.
        moving: the moving image, likewise.
        format: format of the file. Default: by extension.

    Returns:
        The files written.

    Raises:
        InputError: the file cannot be written, the format does not support the transform, or needs
            an image that is not given.
        ValueError: the transform is a batch of several, or of a kind that no file can hold.

    Examples:
        >>> import tempfile, math, torch
        >>> from stn3d import Rigid
        >>> parameters = torch.tensor([0, 0, math.pi / 2, 10, -5, 0], dtype=torch.float64)
        >>> rigid = Rigid(parameters, torch.zeros(3, dtype=torch.float64))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     files = write_transform(f"{folder}/rigid.tfm", rigid)
        ...     again = read_transform(f"{folder}/rigid.tfm")
        >>> again(torch.tensor([[20.0, 0.0, 0.0]])).round(decimals=3)
        tensor([[10., 15.,  0.]])
    """
    check_transform_path(path, format)
    path = Path(path)
    return _output_format(path, format).write(path, transform, ReferenceImages(fixed, moving))


def check_transform_path(
    path: str | os.PathLike[str], format: TransformFormat = "auto"
) -> list[Path]:
    """Check that `write_transform` can write a file, before any computation.

    Returns:
        The files that it may write.

    Raises:
        InputError: the extension is not supported, or the folder cannot be written.
    """
    path = Path(path)
    check_choice("format", format, TransformFormat)
    return [check_output(file) for file in _output_format(path, format).outputs(path)]


def format_of(path: str | os.PathLike[str]) -> TransformFormat:
    """The format of a transform file, by its extension and content.

    Raises:
        InputError: there is no such file, or its format is not clear.
    """
    return _format_of(Path(path), "auto").name


def _output_format(path: Path, format: TransformFormat) -> TransformFileFormat:
    if format != "auto":
        return FORMATS[format]
    for one in FORMATS.values():
        if has_suffix(path, *one.suffixes):
            return one
    suffixes = [suffix for one in FORMATS.values() for suffix in one.suffixes]
    raise InputError(
        f"cannot write a transform as {shown_path(path)}: use the extension .h5, another of "
        f"{', '.join(suffixes)}, or name the format, as in ants:{path.name or 'PREFIX'}."
    )


def _format_of(path: Path, format: TransformFormat) -> TransformFileFormat:
    """The format of an input.

    Raises:
        InputError: there is no such file, or its format is not clear.
    """
    if format != "auto":
        return FORMATS[format]
    found = [one for one in FORMATS.values() if one.recognises(path)]
    if len(found) == 1:
        return found[0]
    if found:
        named = " or ".join(f"{one.name}:{path.name}" for one in found)
        raise InputError(
            f"{shown_path(path)} may have several formats; name the one that it has: {named}."
        )
    if not os.path.isfile(path):
        raise InputError(f"there is no transform file {shown_path(path)}; check the path.")
    raise InputError(
        f"{shown_path(path)} cannot be read as a transform; give a complete file of a known format "
        f"({', '.join(FORMATS)}), and name the format if neither extension nor content does, as in "
        "fsl:x.mat."
    )
