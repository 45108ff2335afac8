"""Where a working grid's voxels lie in a head: random poses and random smooth deformations.

All is told on a lattice of nodes at every second voxel, and linear in between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stn3d import kernels
from stn3d.grid import Grid, apply_matrix, homogeneous
from stn3d.synth.draws import Draws
from stn3d.transforms.linear import rotation_matrix


@dataclass(frozen=True)
class Pose:
    """How far a random affine goes from the identity; each part is drawn evenly.

    Args:
        rotation_deg: the largest angle, about any axis.
        far_rotation_deg: the largest angle in a few of the draws (`far_share`).
        far_share: the share of draws with the larger angle.
        shift_mm: the largest length of the shift, in any direction.
        scale: the largest scale; its inverse is the smallest.
        stretch: the largest logarithm of an axis's own scale, on top.
        shear: the largest shear, as a ratio.
    """

    rotation_deg: float = 0.0
    shift_mm: float = 0.0
    scale: float = 1.0
    stretch: float = 0.0
    shear: float = 0.0
    far_rotation_deg: float = 0.0
    far_share: float = 0.0

    def draw(self, draws: Draws, ndim: int) -> Tensor:
        """``(d + 1, d + 1)`` homogeneous, about the origin, float64."""
        far = draws.chance(self.far_share)
        angle = math.radians(draws.uniform(0, self.far_rotation_deg if far else self.rotation_deg))
        turn = rotation_matrix(draws.direction(1 if ndim == 2 else 3) * angle)
        log_scale = math.log(self.scale) * draws.uniform(-1, 1)
        own = self.stretch * (2 * draws.uniforms(ndim).double() - 1)
        shear = self.shear * (2 * draws.uniforms(ndim, ndim).double() - 1).triu(1)
        eye = torch.eye(ndim, dtype=torch.float64)
        linear = turn @ torch.diag((log_scale + own).exp()) @ (eye + shear)
        shift = draws.direction(ndim) * draws.uniform(0, self.shift_mm)
        return homogeneous(linear, shift)


@dataclass(frozen=True)
class Deformation:
    """A random diffeomorphism ``exp(v)``, v a sum of smooth noises of a few widths.

    Args:
        amplitude_mm: the most that about 1 in 100 points moves; drawn evenly from 0.
        min_sigma_mm: the narrowest width of the noise.
        max_sigma_mm: the widest; each is drawn between these.
        scales: how many noises are summed.
        share: the share of draws that are deformed at all.
    """

    amplitude_mm: float = 8.0
    min_sigma_mm: float = 8.0
    max_sigma_mm: float = 40.0
    scales: int = 3
    share: float = 1.0

    def draw(self, draws: Draws, shape: Sequence[int], spacing_mm: float) -> Tensor:
        """``(1, d, *shape)`` displacements of a lattice in its own voxels; 0 at its faces.

        A noise of width s gets at most ``0.8 s`` of the amplitude, so that nothing folds.
        """
        d = len(shape)
        velocity = torch.zeros(1, d, *shape, device=draws.device)
        if not draws.chance(self.share) or self.amplitude_mm <= 0:
            return velocity
        total_mm = draws.uniform(0, self.amplitude_mm)
        parts = [draws.uniform(0.1, 1) for _ in range(self.scales)]
        for part in parts:
            sigma_mm = draws.log_uniform(self.min_sigma_mm, self.max_sigma_mm)
            own_mm = min(total_mm * part / math.hypot(*parts), 0.8 * sigma_mm)
            noise = draws.smooth_noise(d, shape, sigma_mm / spacing_mm)
            # The length of d standard normal numbers is below this in 99 of 100 draws.
            velocity += noise * (own_mm / spacing_mm / (3.03 if d == 2 else 3.37))
        fade = [_fading(n).to(draws.device) for n in shape]
        kernels.apply_boundary_window(velocity, fade)
        return kernels.exponential(velocity, squarings=5)


def _fading(n: int, width: int = 3) -> Tensor:
    """``(n,)`` weights that rise from 0 at the ends to 1 within a few nodes."""
    index = torch.arange(n, dtype=torch.float32)
    end = torch.minimum(index, n - 1 - index) / width
    return torch.sin(end.clamp(0, 1) * (math.pi / 2)) ** 2


@dataclass(frozen=True, eq=False)
class Lattice:
    """Nodes at every ``step``-th voxel of a working grid, with a margin around it.

    Args:
        grid: the working grid.
        step: voxels between nodes.
        margin: nodes before the first voxel, and beyond the last.
    """

    grid: Grid
    step: int
    margin: int

    @property
    def inner_shape(self) -> tuple[int, ...]:
        """Nodes along each axis, without the margins."""
        return tuple(math.ceil((n - 1) / self.step) + 1 for n in self.grid.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Nodes along each axis."""
        return tuple(n + 2 * self.margin for n in self.inner_shape)

    @property
    def spacing_mm(self) -> float:
        """Millimetres between nodes."""
        return self.step * self.grid.spacing_mm[0]

    @property
    def node_from_voxel(self) -> Tensor:
        """``(d + 1, d + 1)`` node indices from the working grid's indices."""
        d = self.grid.ndim
        return homogeneous(
            torch.eye(d).double() / self.step, torch.full((d,), float(self.margin)).double()
        )

    def at(self, other: Lattice, vectors: Tensor) -> Tensor:
        """A field ``(1, d, *shape)`` of this lattice, in mm, at the nodes of a finer one."""
        matrix = self.node_from_voxel @ torch.linalg.inv(other.node_from_voxel)
        return kernels.resample(vectors, matrix, other.shape)

    def read(self, vectors: Tensor, points_mm: Tensor) -> Tensor:
        """A field ``(1, d, *shape)`` of this lattice at world points ``(..., d)``; beyond its outer
        nodes their vectors go on."""
        index = apply_matrix(self.node_from_voxel @ self.grid.index_from_world, points_mm)
        top = torch.tensor(self.shape).to(index) - 1
        index = torch.minimum(index.clamp(min=0), top).reshape(1, -1, len(top))
        return kernels.sample_linear(vectors, index).reshape(1, len(top), *points_mm.shape[:-1])

    def points_mm(self) -> Tensor:
        """``(*shape, d)`` world positions of the nodes, float64."""
        world = self.grid.world_from_index @ torch.linalg.inv(self.node_from_voxel)
        return Grid(self.shape, world).points_mm()


def working_grid(shape: Sequence[int], spacing_mm: float) -> Grid:
    """An isotropic grid along the world's axes whose centre is the world's origin."""
    d = len(shape)
    centre = torch.tensor([-(n - 1) / 2 * spacing_mm for n in shape], dtype=torch.float64)
    return Grid(tuple(shape), homogeneous(spacing_mm * torch.eye(d).double(), centre))
