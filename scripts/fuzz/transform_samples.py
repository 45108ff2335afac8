"""Small valid transform files of each format that stn3d reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from scripts.fuzz.sample import Sample, single
from stn3d.choices import TransformFormat
from stn3d.grid import Grid, homogeneous
from stn3d.io import write_transform
from stn3d.transforms import Affine, DisplacementField, Linear, chain

SHAPE = (6, 5, 4)
SEPARATOR = " "  # between format and extension in the name of a sample's format
_LINEAR: tuple[tuple[TransformFormat, str], ...] = (
    ("fsl", "mat"),
    ("greedy", "mat"),
    ("freesurfer", "lta"),
    ("afni", "1D"),
    ("elastix", "txt"),
    ("dicom", "dcm"),
    ("x5", "x5"),
)
_DENSE: tuple[tuple[TransformFormat, str], ...] = (
    ("itk", "nii"),
    ("itk", "nrrd"),
    ("itk", "mha"),
    ("fsl", "nii"),
    ("afni", "nii"),
    ("dicom", "dcm"),
    ("x5", "x5"),
    ("monai", "npy"),
    ("monai", "npz"),
    ("monai", "nii"),
)


def grids() -> tuple[Grid, Grid]:
    """Grids of the fixed and of the moving image."""
    return Grid.of_spacing(SHAPE, 2.0), Grid.of_spacing((7, 6, 5), 1.5)


def transform_samples(folder: Path) -> Iterator[Sample]:
    """Samples; the names of formats other than ITK's transform files have two words."""
    fixed, moving = grids()
    for d in (2, 3):
        affine, grid = _affine(d), Grid.of_spacing((12, 10, 8)[:d], 2.0)
        for suffix in ("tfm", "txt", "mat", "h5"):
            write_transform(folder / f"affine{d}.{suffix}", affine)
            yield single(suffix, folder / f"affine{d}.{suffix}")
        write_transform(folder / f"field{d}.h5", chain(_field(grid), affine))
        yield single("h5", folder / f"field{d}.h5")
    for format, suffix in _LINEAR:
        path = folder / f"{format}.{suffix}"
        write_transform(path, _affine(3), fixed=fixed, moving=moving, format=format)
        yield single(f"{format}{SEPARATOR}{suffix}", path)
    for format, suffix in _DENSE:
        path = folder / f"{format}_field.{suffix}"
        write_transform(path, _field(fixed), fixed=fixed, moving=moving, format=format)
        yield single(f"{format}{SEPARATOR}{suffix}", path)
    yield _ants(folder)
    yield _spline()


def _affine(d: int) -> Linear:
    turn = torch.eye(d).double()
    turn[0, 1], turn[1, 0] = 0.1, -0.1
    return Affine.from_matrix(homogeneous(turn, torch.ones(d).double()))


def _field(grid: Grid) -> DisplacementField:
    generator = torch.Generator().manual_seed(0)
    return DisplacementField(torch.rand(1, grid.ndim, *grid.shape, generator=generator), grid)


def _ants(folder: Path) -> Sample:
    transform = chain(_field(grids()[0]), _affine(3))
    written = write_transform(folder / "ants_", transform, format="ants")
    files = {path.name: path.read_bytes() for path in written}
    return Sample(f"ants{SEPARATOR}files", files, "ants_", tuple(files))


def _spline() -> Sample:
    """A B-spline of elastix with an initial transform."""
    numbers = " ".join(f"{n / 10:g}" for n in range(3 * 4**3))
    spline = (
        '(Transform "BSplineTransform")\n(NumberOfParameters 192)\n'
        f"(TransformParameters {numbers})\n"
        '(InitialTransformParameterFileName "t0.txt")\n(HowToCombineTransforms "Compose")\n'
        "(FixedImageDimension 3)\n(MovingImageDimension 3)\n(GridSize 4 4 4)\n(GridIndex 0 0 0)\n"
        "(GridSpacing 5 5 5)\n(GridOrigin -2 -3 -4)\n(GridDirection 1 0 0 0 1 0 0 0 1)\n"
        '(BSplineTransformSplineOrder 3)\n(UseCyclicTransform "false")\n'
    )
    euler = (
        '(Transform "EulerTransform")\n(NumberOfParameters 6)\n'
        "(TransformParameters 0.1 0.2 -0.1 3 4 5)\n(CenterOfRotationPoint 1 2 3)\n"
        '(InitialTransformParameterFileName "NoInitialTransform")\n(ComputeZYX "false")\n'
        "(FixedImageDimension 3)\n(MovingImageDimension 3)\n"
    )
    files = {"t1.txt": spline.encode(), "t0.txt": euler.encode()}
    return Sample(f"elastix{SEPARATOR}txt", files, "t1.txt", ("t1.txt", "t0.txt"))
