"""Random initial poses: what is drawn, and the error of an affine for a pose."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scripts.bench import paths
from scripts.bench.images import foreground_points_mm, grid_of, write_displaced
from scripts.bench.paths import image_path
from stn3d import Grid, Similarity
from stn3d.transforms import Linear

NUM_PAIRS = 20
MAX_ANGLE_DEG, MAX_SHIFT_MM, MAX_SCALE = 60.0, 40.0, 1.25
CONTRASTS = ("t2", "flair")


@dataclass(frozen=True)
class Pose:
    """A pair of images, and the displacement of the moving one's header.

    Args:
        index: its number.
        kind: ``brains``, T1 of two people, or ``contrasts``, T1 and T2 or FLAIR of one person.
        fixed: path below the data's folder, without extension.
        moving: the same for the moving image.
        rotation_rad: rotation vector.
        shift_mm: translation of the centre.
        scale: isotropic scale of the moving image.
    """

    index: int
    kind: str
    fixed: str
    moving: str
    rotation_rad: tuple[float, float, float]
    shift_mm: tuple[float, float, float]
    scale: float

    @property
    def angle_deg(self) -> float:
        """The rotation's angle."""
        return math.degrees(math.hypot(*self.rotation_rad))

    @property
    def pair(self) -> str:
        """The pair's name."""
        return f"{self.fixed} <- {self.moving}"

    def displacement(self, fixed: Grid, moving: Grid) -> Similarity:
        """The transform from the moving image's original world to the displaced one.

        It moves the centre of the moving field of view to that of the fixed one (origins have no
        meaning across people), then rotates and scales about it and translates.
        """
        shift = fixed.centre_mm - moving.centre_mm + torch.tensor(self.shift_mm).double()
        turn = torch.tensor([*self.rotation_rad, math.log(self.scale)]).double()
        return Similarity(torch.cat([turn, shift]), moving.centre_mm)


def random_pose(seed: int, index: int) -> Pose:
    """The pose of this number; brains and contrasts alternate.

    Rotation axes are uniform on the sphere, angles uniform up to 60 degrees, translations uniform
    up to 40 mm along each axis, scales log-uniform from 0.8 to 1.25.
    """
    rng = np.random.default_rng([seed, index])
    axis, angle = rng.normal(size=3), math.radians(rng.uniform(0, MAX_ANGLE_DEG))
    x, y, z = (angle * axis / np.linalg.norm(axis)).tolist()
    right, front, up = rng.uniform(-MAX_SHIFT_MM, MAX_SHIFT_MM, 3).tolist()
    scale = float(MAX_SCALE ** rng.uniform(-1, 1))
    if index % 2 == 0:
        pairs = brain_pairs(seed)
        kind, (fixed, moving) = "brains", pairs[index // 2 % len(pairs)]
    else:
        contrast = CONTRASTS[index // 2 % len(CONTRASTS)]
        kind, fixed, moving = "contrasts", "contrasts/p07_t1", f"contrasts/p07_{contrast}"
    return Pose(index, kind, fixed, moving, (x, y, z), (right, front, up), scale)


def brain_pairs(seed: int) -> list[tuple[str, str]]:
    """Twenty pairs in which everybody is fixed and moving at least once."""
    folder = paths.SHARED / "data" / "brains"
    people = sorted(p.name.removesuffix("_t1.nii.gz") for p in folder.glob("*_t1.nii.gz"))
    if len(people) < 3:
        raise SystemExit(f"{folder} holds fewer than three brains; put the shared data there.")
    order = [f"brains/{people[i]}_t1" for i in np.random.default_rng(seed).permutation(len(people))]
    n = len(order)
    return [(order[k % n], order[(k + 1 + k // n % (n - 1)) % n]) for k in range(NUM_PAIRS)]


@dataclass(frozen=True, eq=False)
class Trial:
    """A pose with its images and its reference.

    Args:
        pose: the pose.
        reference: fixed points to moving points, headers as they are.
    """

    pose: Pose
    reference: Linear

    @cached_property
    def points_mm(self) -> Tensor:
        """``(N, 3)`` positions of the fixed brain's voxels, every third along each axis."""
        return foreground_points_mm(image_path(self.pose.fixed))

    @cached_property
    def displacement(self) -> Similarity:
        """See `Pose.displacement`."""
        return self.pose.displacement(
            *(grid_of(image_path(name)) for name in (self.pose.fixed, self.pose.moving))
        )

    @property
    def truth(self) -> Linear:
        """The reference, from fixed points to points of the displaced moving image."""
        truth = self.reference.then(self.displacement)
        assert isinstance(truth, Linear)
        return truth

    def write_moving(self, path: Path) -> None:
        """Write the moving image with the displaced header; no voxel is resampled."""
        write_displaced(image_path(self.pose.moving), self.displacement.matrix.numpy(), path)

    def error_mm(self, found: Linear) -> float:
        """Mean distance to the reference over the fixed brain, in mm of the moving person.

        It is divided by the pose's scale, so that a millimetre is the same in every pose.
        """
        apart = found(self.points_mm) - self.truth(self.points_mm)
        return float(apart.norm(dim=-1).mean()) / self.pose.scale
