"""Images, points and a transform on grids of several orientations, and the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation
from torch import Tensor

from stn3d.grid import Grid, apply_matrix, homogeneous
from stn3d.transforms import Affine, DisplacementField, Linear, Transform
from stn3d.warp import warp_image

SHAPE, MOVING_SHAPE = (30, 28, 26), (32, 27, 29)
ORIENTATIONS: dict[str, tuple[Sequence[float], Sequence[float], Sequence[float]]] = {
    "RAS": ((1, 1, 1), (1.5, 1.8, 2.2), (0, 0, 0)),
    "LAS": ((-1, 1, 1), (1.5, 1.8, 2.2), (0, 0, 0)),
    "LPS": ((-1, -1, 1), (1.5, 1.8, 2.2), (0, 0, 0)),
    "oblique": ((-1, 1, 1), (1.4, 1.9, 2.6), (14, -21, 33)),
}
FLIP = np.array([-1.0, -1.0, 1.0])  # RAS to LPS


@dataclass(frozen=True)
class Applied:
    """A transform as a tool applies it.

    Args:
        image: moving image on the fixed grid; None if the tool has no such command.
        points: RAS positions of points in the moving image, likewise.
        fixed_points: the points in the fixed image. Default: those of the case.
    """

    image: NDArray[Any] | None = None
    points: NDArray[Any] | None = None
    fixed_points: NDArray[Any] | None = None


@dataclass(frozen=True, eq=False)
class Case:
    """A pair of images of one orientation.

    Args:
        orientation: key of `ORIENTATIONS`.
        folder: where the images are written.
    """

    orientation: str
    folder: Path

    @cached_property
    def fixed(self) -> Grid:
        """Grid of the fixed image."""
        return _grid(self.orientation, SHAPE, 1.0, (0, 0, 0))

    @cached_property
    def moving(self) -> Grid:
        """Grid of the moving image: other voxels, rotated against the fixed one if oblique."""
        turn = (3, 5, -4) if self.orientation == "oblique" else (0, 0, 0)
        return _grid(self.orientation, MOVING_SHAPE, 1.1, turn)

    @cached_property
    def image(self) -> Tensor:
        """``(1, 1, *shape)`` moving image, 0 to 100."""
        noise = np.random.default_rng(1).normal(size=MOVING_SHAPE)
        smooth = gaussian_filter(noise, 2.0)
        smooth = 100 * (smooth - smooth.min()) / np.ptp(smooth)
        return torch.from_numpy(smooth.astype(np.float32))[None, None]

    @cached_property
    def linear(self) -> Affine:
        """An affine transform about the centre of the fixed image."""
        turned = Rotation.from_euler("xyz", (4, -6, 8), degrees=True).as_matrix()
        centre = self.fixed.centre_mm
        matrix = homogeneous(
            torch.from_numpy(turned @ np.diag([1.04, 0.97, 1.02])), torch.zeros(3).double()
        )
        matrix[:3, 3] = centre + torch.tensor([2.0, -3.0, 1.5]) - matrix[:3, :3] @ centre
        return Affine.from_matrix(matrix, centre)

    @cached_property
    def field(self) -> DisplacementField:
        """A smooth displacement field that vanishes at the border of the fixed image."""
        rng = np.random.default_rng(2)
        field = np.stack([gaussian_filter(rng.normal(size=SHAPE), 4.0) for _ in range(3)])
        axes = np.meshgrid(*[np.sin(np.linspace(0, np.pi, n)) for n in SHAPE], indexing="ij")
        field *= axes[0] * axes[1] * axes[2]
        field *= 5 / np.abs(field).max()
        field[:, [0, -1]] = field[:, :, [0, -1]] = field[:, :, :, [0, -1]] = 0
        return DisplacementField(torch.from_numpy(field.astype(np.float32))[None], self.fixed)

    def transform(self, kind: str) -> Transform:
        """``linear``, ``field``, or ``both``: the field, then the linear transform."""
        kinds: dict[str, Transform] = {
            "linear": self.linear,
            "field": self.field,
            "both": self.field.then(self.linear),
        }
        return kinds[kind]

    @cached_property
    def points(self) -> NDArray[np.float64]:
        """``(n, 3)`` points in the fixed image, RAS."""
        unit = np.random.default_rng(3).uniform(0.1, 0.9, size=(50, 3))
        index = torch.from_numpy(unit * (np.array(SHAPE) - 1))
        return apply_matrix(self.fixed.world_from_index, index).numpy()

    @cached_property
    def voxels(self) -> NDArray[np.float64]:
        """``(n, 3)`` voxel centres in the fixed image, RAS."""
        index = np.random.default_rng(4).integers(3, np.array(SHAPE) - 3, size=(50, 3))
        return apply_matrix(self.fixed.world_from_index, torch.from_numpy(index * 1.0)).numpy()

    @cached_property
    def paths(self) -> tuple[Path, Path]:
        """Files of the fixed and of the moving image. The fixed image is the moving one warped."""
        self.folder.mkdir(parents=True, exist_ok=True)
        fixed = warp_image(self.image, self.moving, self.transform("both"), self.fixed)
        found = []
        for name, grid, values in (("f", self.fixed, fixed), ("m", self.moving, self.image)):
            found.append(self.folder / f"{name}.nii.gz")
            nib.save(_nifti(values[0, 0].numpy(), grid), found[-1])
        return found[0], found[1]

    def errors(self, transform: Transform, theirs: Applied) -> dict[str, float | None]:
        """Largest differences between stn3d's application of a transform and a tool's.

        The image is compared where all voxels that are interpolated lie in the moving image.
        """
        points_mm = image_pct = None
        if theirs.points is not None:
            fixed = self.points if theirs.fixed_points is None else theirs.fixed_points
            ours = transform(torch.from_numpy(fixed)).numpy()
            points_mm = float(np.linalg.norm(ours - theirs.points, axis=1).max())
        if theirs.image is not None:
            moved = warp_image(self.image, self.moving, transform, self.fixed)[0, 0].numpy()
            index = apply_matrix(self.moving.index_from_world, transform(self.fixed.points_mm()))
            top = torch.tensor(MOVING_SHAPE) - 1.02
            inside = ((index > 0.02) & (index < top)).all(dim=-1).numpy()
            assert inside.sum() > 1000
            image_pct = float(np.abs(moved - theirs.image)[inside].max() / 100 * 100)
        return {"points_mm": points_mm, "image_pct": image_pct}


def matrix_of(transform: Transform) -> NDArray[np.float64]:
    """``(4, 4)`` RAS matrix of a linear transform."""
    assert isinstance(transform, Linear)
    return transform.matrix.numpy()


def _grid(orientation: str, shape: tuple[int, ...], scale: float, turn: Sequence[float]) -> Grid:
    """A grid whose centre lies some centimetres from the world's origin."""
    signs, spacing, angles = ORIENTATIONS[orientation]
    total = np.add(angles, turn)
    turned = Rotation.from_euler("xyz", total, degrees=True).as_matrix()
    linear = turned * (np.array(spacing) * np.array(signs) * scale)
    centre = np.array([12.0, -25.0, 31.0])
    origin = centre - linear @ ((np.array(shape) - 1) / 2)
    return Grid(shape, homogeneous(torch.from_numpy(linear), torch.from_numpy(origin)))


def _nifti(values: NDArray[Any], grid: Grid) -> nib.Nifti1Image:
    image = nib.Nifti1Image(values, grid.world_from_index.numpy())
    image.header.set_xyzt_units("mm")
    image.set_qform(image.affine, 1)
    image.set_sform(image.affine, 1)
    return image
