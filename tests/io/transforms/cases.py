"""Grids, transforms and files for the tests of transform formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from stn3d.choices import TransformFormat
from stn3d.grid import Grid, homogeneous
from stn3d.transforms import Affine, DisplacementField, Transform
from tests.helpers.geometry_cases import make_grid, rotation, smooth_field

GRIDS = {
    "RAS": make_grid((9, 8, 7), (1.0, 1.5, 2.0), (0, 0, 0), (-5, -4, -3)),
    "LAS": make_grid((9, 8, 7), (1.0, 1.2, 2.0), (0, 0, 0), (5, -4, -3), left_handed=True),
    "LPS": make_grid((9, 8, 7), (1.0, 1.2, 2.0), (0, 0, 180), (5, 4, -3)),
    "oblique": make_grid((9, 8, 7), (0.8, 1.7, 2.5), (20, -35, 50), (-31, 12, 57), True),
}
MOVING = make_grid((11, 13, 9), (1.5, 1.1, 1.9), (10, 20, -30), (3, 5, -8))

# Name of the file that selects the format for an output, or needs its name.
LINEAR_FILES: tuple[tuple[TransformFormat, str], ...] = (
    ("greedy", "t.mat"),
    ("fsl", "t.mat"),
    ("freesurfer", "t.lta"),
    ("afni", "t.aff12.1D"),
    ("elastix", "t.txt"),
    ("dicom", "t.dcm"),
)
FIELD_FILES: tuple[tuple[TransformFormat, str], ...] = (
    ("itk", "t.nii.gz"),
    ("itk", "t.nrrd"),
    ("itk", "t.mha"),
    ("greedy", "t.nii.gz"),
    ("fsl", "t.nii.gz"),
    ("afni", "t.nii.gz"),
    ("elastix", "t.txt"),
    ("dicom", "t.dcm"),
    ("monai", "t.npy"),
    ("monai", "t.npz"),
    ("monai", "t.nii.gz"),
)
SLOW_FILES: tuple[tuple[TransformFormat, str], ...] = (  # read in a process of their own
    ("itk", "t.h5"),
    ("ants", "prefix_"),
    ("x5", "t.x5"),
)


@st.composite
def volumes(draw: st.DrawFn) -> Grid:
    """A 3D grid in RAS, LAS or LPS, or an oblique one; anisotropic."""
    shape = draw(st.tuples(*[st.integers(4, 7)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.5, 4)] * 3))
    angles = draw(st.sampled_from([(0, 0, 0), (0, 0, 180), (20, -35, 50), (4, 3, -2)]))
    origin = draw(st.tuples(*[st.floats(-150, 150)] * 3))
    return make_grid(shape, spacing, angles, origin, draw(st.booleans()))


@st.composite
def affines(draw: st.DrawFn) -> Affine:
    """An affine transform with rotations, scales, a shear and a translation."""
    turned = rotation(3, draw(st.tuples(*[st.floats(-40, 40)] * 3)))
    linear = turned @ torch.diag(
        torch.tensor(draw(st.tuples(*[st.floats(0.8, 1.25)] * 3))).double()
    )
    linear[0, 1] += draw(st.floats(-0.2, 0.2))
    shift = torch.tensor(draw(st.tuples(*[st.floats(-60, 60)] * 3)), dtype=torch.float64)
    return Affine.from_matrix(homogeneous(linear, shift))


def affine() -> Affine:
    """One affine transform."""
    turned = rotation(3, (12, -7, 20)) @ torch.diag(torch.tensor([1.05, 0.95, 1.1]).double())
    return Affine.from_matrix(homogeneous(turned, torch.tensor([3.0, -2.0, 5.0]).double()))


def field(grid: Grid, amplitude_mm: float = 1.5, seed: int = 0) -> DisplacementField:
    """A smooth field that vanishes at the border."""
    return DisplacementField(smooth_field(grid, amplitude_mm, seed).float(), grid)


def points_in(grid: Grid, count: int = 200) -> torch.Tensor:
    """Points between the voxel centres of a grid, RAS+ mm."""
    unit = torch.rand(count, grid.ndim, generator=torch.Generator().manual_seed(0)).double()
    index = unit * (torch.tensor(grid.shape) - 1)
    return index @ grid.world_from_index[:-1, :-1].T + grid.world_from_index[:-1, -1]


def largest_gap_mm(one: Transform, other: Transform, grid: Grid) -> float:
    """The largest distance between two transforms within a grid."""
    points = points_in(grid)
    return float((one(points) - other(points)).norm(dim=-1).max())


def write_volume(path: Path, grid: Grid, values: NDArray[np.float32] | None = None) -> Path:
    """A NIfTI image on a grid, by nibabel."""
    import nibabel as nib

    array = np.zeros(grid.shape, np.float32) if values is None else values
    nib.save(nib.Nifti1Image(array, grid.world_from_index.numpy()), path)
    return path
