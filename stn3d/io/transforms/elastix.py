"""elastix's TransformParameters files, as read by transformix.

Convention: parameters map fixed points to moving points in LPS millimetres. A file may name an
initial transform, which is applied first. The file also holds the geometry of the fixed image;
its Direction is column by column.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io.files import atomic_write
from stn3d.io.geometry import Matrix, itk_geometry, lps_flip, matrix_from_itk
from stn3d.io.texts import read_text, shown_path
from stn3d.io.transforms.base import ReferenceImages, TransformFileFormat, beginning, has_suffix
from stn3d.io.transforms.fields import (
    affine_from,
    as_field,
    linear_matrix,
    without_velocity,
)
from stn3d.io.transforms.itk import read_itk_field, write_itk_field
from stn3d.transforms import BSpline, DisplacementField, Linear, Transform, chain

_ENTRY = re.compile(r"^\s*\(\s*(\w+)\s+([^)]*)\)", re.MULTILINE)
_WORD = re.compile(r'"([^"]*)"|(\S+)')
_INITIAL = ("InitialTransformParameterFileName", "InitialTransformParametersFileName")
_NONE = "NoInitialTransform"
_MAX_MB = 128
_MAX_CHAIN = 16
_ADVICE = "give a TransformParameters file"
_SPLINE_TYPES = ("BSplineTransform", "RecursiveBSplineTransform")


@final
class Elastix(TransformFileFormat):
    """Linear transforms, cubic B-splines and displacement fields, and chains of these."""

    name = "elastix"

    def recognises(self, path: Path) -> bool:
        return has_suffix(path, ".txt") and bool(
            re.search(rb"^\s*\(\s*(Transform|NumberOfParameters)\s", beginning(path), re.MULTILINE)
        )

    def read(self, path: Path, images: ReferenceImages) -> Transform:
        parts: list[Transform] = []
        following: Path | None = path
        while following is not None:
            if len(parts) == _MAX_CHAIN:
                raise InputError(f"{path} names more than {_MAX_CHAIN} initial transforms.")
            parameters = Parameters(following)
            parts.insert(0, _part(parameters))
            following = _initial(parameters)
        return chain(*parts)

    def write(self, path: Path, transform: Transform, images: ReferenceImages) -> list[Path]:
        fixed = images.require_fixed("a TransformParameters file")
        transform = without_velocity(transform)
        if isinstance(transform, Linear):
            entries = _affine_entries(transform)
            files = [path]
        else:
            files = self.outputs(path)
            field = as_field(transform, images, "a TransformParameters file")
            write_itk_field(files[1], field)
            entries = [
                ("Transform", ["DeformationFieldTransform"]),
                ("DeformationFieldFileName", [str(files[1].absolute())]),
                ("DeformationFieldInterpolationOrder", [1]),
                ("NumberOfParameters", [0]),
            ]
        lines = [_line(name, values) for name, values in [*entries, *_common_entries(fixed)]]
        with atomic_write(path) as part:
            part.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return files

    def outputs(self, path: Path) -> list[Path]:
        if not has_suffix(path, ".txt"):
            raise InputError(f"cannot write {path} for elastix: use the extension .txt.")
        return [path, path.with_name(f"{path.stem}_field.mha")]


# -- reading --------------------------------------------------------------------------------------


class Parameters:
    """The entries of a parameter file.

    Raises:
        InputError: the file does not exist, or holds no transform.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        text = read_text(path, "transform file", _ADVICE, _MAX_MB)
        lines = "\n".join(line.split("//")[0] for line in text.splitlines())
        self._entries = {match[1]: match[2] for match in _ENTRY.finditer(lines)}
        self.kind = self.text("Transform")
        if not self.kind:
            raise InputError(
                f"{path} cannot be read as a transform: it has no entry (Transform ...); give a "
                "complete TransformParameters file of elastix."
            )

    def text(self, name: str, default: str = "") -> str:
        """The first word of an entry."""
        match = _WORD.match(self._entries.get(name, default).strip())
        return "" if match is None else match[1] if match[1] is not None else match[2]

    def numbers(self, name: str, count: int | None = None, default: Sequence[float] = ()) -> Matrix:
        """The numbers of an entry.

        Raises:
            InputError: there are not as many, or one is not finite.
        """
        if name not in self._entries and default:
            return np.array(default, dtype=np.float64)
        try:
            words = self._entries[name].replace('"', " ").split()
            numbers = np.array(words, dtype=np.float64)
        except (KeyError, ValueError):
            numbers = np.array([np.nan])
        if (count is not None and len(numbers) != count) or not np.isfinite(numbers).all():
            raise InputError(
                f"{self.path} cannot be read as a transform: its entry {name} is missing, or does "
                f"not hold {'finite' if count is None else count} numbers."
            )
        return numbers

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        d = int(self.numbers("FixedImageDimension", 1)[0])
        moving = int(self.numbers("MovingImageDimension", 1, [d])[0])
        if d not in (2, 3) or moving != d:
            raise InputError(f"{self.path} maps {d}D to {moving}D images; stn3d reads 2D and 3D.")
        return d


def _part(parameters: Parameters) -> Transform:
    """The transform of one file."""
    if parameters.kind == "DeformationFieldTransform":
        return _field(parameters)
    if parameters.kind in _SPLINE_TYPES:
        return _spline(parameters)
    return affine_from(_matrix(parameters), parameters.path)


def _initial(parameters: Parameters) -> Path | None:
    """The file of the initial transform."""
    name = next((text for key in _INITIAL if (text := parameters.text(key))), _NONE)
    if name == _NONE:
        return None
    if parameters.text("HowToCombineTransforms", "Compose") != "Compose":
        raise InputError(
            f"{parameters.path} adds its displacements to those of its initial transform; stn3d "
            'reads (HowToCombineTransforms "Compose") only. Convert it to a field with '
            "transformix -def all."
        )
    return _beside(parameters.path, name)


def _beside(path: Path, name: str) -> Path:
    """A file that another one names: in its folder if there, else where the name says.

    Raises:
        InputError: there is none.
    """
    base = re.split(r"[/\\]", name)[-1]
    for candidate in (path.with_name(base) if base else path, path.parent / name):
        if candidate != path and os.path.isfile(candidate):
            return candidate
    raise InputError(
        f"{path} needs the file {shown_path(name)}, which does not exist; put it into the same "
        "folder."
    )


def _field(parameters: Parameters) -> DisplacementField:
    if parameters.numbers("DeformationFieldInterpolationOrder", 1, [1])[0] != 1:
        raise InputError(
            f"{parameters.path} interpolates its field by the nearest vector; stn3d reads "
            "(DeformationFieldInterpolationOrder 1) only."
        )
    return read_itk_field(_beside(parameters.path, parameters.text("DeformationFieldFileName")))


def _spline(parameters: Parameters) -> BSpline:
    """A cubic B-spline; elastix has no displacement beyond the outer control points."""
    d = parameters.ndim
    if parameters.numbers("BSplineTransformSplineOrder", 1, [3])[0] != 3:
        raise InputError(f"{parameters.path} holds a B-spline that is not cubic.")
    if parameters.text("UseCyclicTransform", "false") == "true":
        raise InputError(f"{parameters.path} holds a cyclic B-spline, which stn3d does not read.")
    shape = parameters.numbers("GridSize", d).astype(np.int64)
    index = parameters.numbers("GridIndex", d, [0] * d)
    direction = parameters.numbers("GridDirection", d * d, np.eye(d).ravel().tolist())
    spacing, origin = parameters.numbers("GridSpacing", d), parameters.numbers("GridOrigin", d)
    matrix = matrix_from_itk(origin, spacing, direction.reshape(d, d).T)
    matrix[:, d] = matrix @ [*index, 1]
    if shape.min() < 1 or float(np.prod(shape.astype(float))) > 1e9:
        raise InputError(f"{parameters.path} cannot be read: its entry GridSize is invalid.")
    values = parameters.numbers("TransformParameters", d * int(np.prod(shape)))
    signs = np.diag(lps_flip(d))[:d].reshape(d, *[1] * d)
    coefficients = np.transpose(values.reshape(d, *shape[::-1]), (0, *range(d, 0, -1))) * signs
    try:
        grid = Grid(tuple(shape.tolist()), torch.from_numpy(matrix))
    except InputError as error:
        raise InputError(f"{parameters.path} holds a B-spline on no valid grid ({error})") from None
    return BSpline(torch.from_numpy(np.ascontiguousarray(coefficients))[None], grid)


def _matrix(parameters: Parameters) -> Matrix:
    """RAS matrix of a linear transform."""
    import SimpleITK as sitk

    d, kind = parameters.ndim, parameters.kind
    made: dict[tuple[str, int], Any] = {
        ("TranslationTransform", d): lambda: sitk.TranslationTransform(d),
        ("AffineTransform", d): lambda: sitk.AffineTransform(d),
        ("EulerTransform", 2): sitk.Euler2DTransform,
        ("EulerTransform", 3): sitk.Euler3DTransform,
        ("SimilarityTransform", 2): sitk.Similarity2DTransform,
        ("SimilarityTransform", 3): sitk.Similarity3DTransform,
    }
    if (kind, d) not in made:
        known = sorted({name for name, _ in made} | {*_SPLINE_TYPES, "DeformationFieldTransform"})
        raise InputError(
            f"{parameters.path} holds a {kind}, which stn3d does not read; it reads "
            f"{', '.join(known)}. Convert it to a field with transformix -def all."
        )
    transform = made[kind, d]()
    values = parameters.numbers("TransformParameters", len(transform.GetParameters()))
    if kind != "TranslationTransform":
        transform.SetCenter(parameters.numbers("CenterOfRotationPoint", d).tolist())
    if kind == "EulerTransform" and d == 3:
        transform.SetComputeZYX(parameters.text("ComputeZYX", "false") == "true")
    transform.SetParameters(values.tolist())
    lps = np.eye(d + 1)
    points = np.array(
        [transform.TransformPoint(point) for point in [[0.0] * d, *np.eye(d).tolist()]]
    )
    lps[:d, :d], lps[:d, d] = (points[1:] - points[0]).T, points[0]
    return lps_flip(d) @ lps @ lps_flip(d)


# -- writing --------------------------------------------------------------------------------------

_Entry = tuple[str, list[Any]]


def _affine_entries(transform: Linear) -> list[_Entry]:
    d = transform.ndim
    lps = lps_flip(d) @ linear_matrix(transform) @ lps_flip(d)
    values = [*lps[:d, :d].ravel().tolist(), *lps[:d, d].tolist()]
    return [
        ("Transform", ["AffineTransform"]),
        ("NumberOfParameters", [len(values)]),
        ("TransformParameters", values),
        ("CenterOfRotationPoint", [0.0] * d),
    ]


def _common_entries(fixed: Grid) -> list[_Entry]:
    """The geometry of the fixed image, and how transformix resamples."""
    d = fixed.ndim
    origin, spacing, direction = itk_geometry(fixed.world_from_index.numpy())
    columns = np.reshape(direction, (d, d)).T.ravel().tolist()
    return [
        (_INITIAL[0], [_NONE]),
        ("HowToCombineTransforms", ["Compose"]),
        ("FixedImageDimension", [d]),
        ("MovingImageDimension", [d]),
        ("FixedInternalImagePixelType", ["float"]),
        ("MovingInternalImagePixelType", ["float"]),
        ("Size", list(fixed.shape)),
        ("Index", [0] * d),
        ("Spacing", spacing),
        ("Origin", origin),
        ("Direction", columns),
        ("UseDirectionCosines", ["true"]),
        ("ResampleInterpolator", ["FinalLinearInterpolator"]),
        ("Resampler", ["DefaultResampler"]),
        ("DefaultPixelValue", [0]),
        ("ResultImageFormat", ["nii.gz"]),
        ("ResultImagePixelType", ["float"]),
        ("CompressResultImage", ["true"]),
    ]


def _line(name: str, values: list[Any]) -> str:
    words = [
        f'"{value}"'
        if isinstance(value, str)
        else f"{value:.17g}"
        if isinstance(value, float)
        else str(value)
        for value in values
    ]
    return f"({name} {' '.join(words)})"
