"""Random affine transforms and smooth deformations of a working grid.

Deformations are computed on a lattice with a node at every second voxel and interpolated linearly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stn3d import kernels
from stn3d.grid import Grid, apply_matrix, homogeneous
from stn3d.synth.generator import SeededGenerator
from stn3d.transforms.linear import rotation_matrix


@dataclass(frozen=True)
class RandomAffine:
    """Ranges of a random affine transform; each component has a uniform distribution.

    Args:
        rotation_deg: Maximum rotation angle about a random axis.
        translation_mm: Maximum length of the translation.
        scale: Maximum isotropic scale; the minimum is its inverse.
        stretch: Maximum logarithm of the additional scale of each axis.
        shear: Maximum shear ratio.
        large_rotation_deg: Maximum angle in the fraction `large_rotation_probability` of samples.
        large_rotation_probability: Probability of the larger range of angles.
    """

    rotation_deg: float = 0.0
    translation_mm: float = 0.0
    scale: float = 1.0
    stretch: float = 0.0
    shear: float = 0.0
    large_rotation_deg: float = 0.0
    large_rotation_probability: float = 0.0

    def sample(self, rng: SeededGenerator, ndim: int) -> Tensor:
        """``(d + 1, d + 1)`` homogeneous matrix about the origin, float64."""
        large = rng.bernoulli(self.large_rotation_probability)
        max_deg = self.large_rotation_deg if large else self.rotation_deg
        angle = math.radians(rng.uniform(0, max_deg))
        rotation = rotation_matrix(rng.unit_vector(1 if ndim == 2 else 3) * angle)
        log_scale = math.log(self.scale) * rng.uniform(-1, 1)
        log_stretch = self.stretch * (2 * rng.uniform_tensor(ndim).double() - 1)
        shear = self.shear * (2 * rng.uniform_tensor(ndim, ndim).double() - 1).triu(1)
        eye = torch.eye(ndim, dtype=torch.float64)
        linear = rotation @ torch.diag((log_scale + log_stretch).exp()) @ (eye + shear)
        translation = rng.unit_vector(ndim) * rng.uniform(0, self.translation_mm)
        return homogeneous(linear, translation)


@dataclass(frozen=True)
class RandomDeformation:
    """Random diffeomorphism: the exponential of a sum of smooth noise fields.

    Args:
        amplitude_mm: Maximum of the amplitude, which about 1 in 100 points exceeds; uniform from 0.
        min_sigma_mm: Minimum smoothing sigma of the noise.
        max_sigma_mm: Maximum smoothing sigma; log-uniform between both.
        scales: Number of noise fields.
        probability: Probability of any deformation.
    """

    amplitude_mm: float = 8.0
    min_sigma_mm: float = 8.0
    max_sigma_mm: float = 40.0
    scales: int = 3
    probability: float = 1.0

    def sample(self, rng: SeededGenerator, shape: Sequence[int], spacing_mm: float) -> Tensor:
        """``(1, d, *shape)`` displacement of a lattice in its own voxels, 0 at its border.

        Noise of sigma s has an amplitude of at most ``0.8 s``, which avoids folding.
        """
        d = len(shape)
        velocity = torch.zeros(1, d, *shape, device=rng.device)
        if not rng.bernoulli(self.probability) or self.amplitude_mm <= 0:
            return velocity
        total_mm = rng.uniform(0, self.amplitude_mm)
        parts = [rng.uniform(0.1, 1) for _ in range(self.scales)]
        for part in parts:
            sigma_mm = rng.log_uniform(self.min_sigma_mm, self.max_sigma_mm)
            own_mm = min(total_mm * part / math.hypot(*parts), 0.8 * sigma_mm)
            noise = rng.smooth_noise(d, shape, sigma_mm / spacing_mm)
            # 99th percentile of the length of d standard normal numbers.
            velocity += noise * (own_mm / spacing_mm / (3.03 if d == 2 else 3.37))
        window = [_boundary_window(n).to(rng.device) for n in shape]
        kernels.apply_boundary_window(velocity, window)
        return kernels.exponential(velocity, squarings=5)


def _boundary_window(n: int, width: int = 3) -> Tensor:
    """``(n,)`` weights that rise from 0 at the ends to 1 within a few nodes."""
    index = torch.arange(n, dtype=torch.float32)
    end = torch.minimum(index, n - 1 - index) / width
    return torch.sin(end.clamp(0, 1) * (math.pi / 2)) ** 2


@dataclass(frozen=True, eq=False)
class Lattice:
    """Nodes at every ``step``-th voxel of a working grid, with a margin around it.

    Args:
        grid: The working grid.
        step: Voxels between nodes.
        margin: Nodes before the first voxel and after the last.
    """

    grid: Grid
    step: int
    margin: int

    @property
    def inner_shape(self) -> tuple[int, ...]:
        """Nodes along each axis without the margins."""
        return tuple(math.ceil((n - 1) / self.step) + 1 for n in self.grid.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Nodes along each axis."""
        return tuple(n + 2 * self.margin for n in self.inner_shape)

    @property
    def spacing_mm(self) -> float:
        """Distance between nodes in millimetres."""
        return self.step * self.grid.spacing_mm[0]

    @property
    def node_from_voxel(self) -> Tensor:
        """``(d + 1, d + 1)`` node indices from voxel indices of the working grid."""
        d = self.grid.ndim
        return homogeneous(
            torch.eye(d).double() / self.step, torch.full((d,), float(self.margin)).double()
        )

    def resample_to(self, finer: Lattice, vectors: Tensor) -> Tensor:
        """A field ``(1, d, *shape)`` of this lattice in mm, at the nodes of a finer lattice."""
        matrix = self.node_from_voxel @ torch.linalg.inv(finer.node_from_voxel)
        return kernels.resample(vectors, matrix, finer.shape)

    def interpolate(self, vectors: Tensor, points_mm: Tensor) -> Tensor:
        """A field ``(1, d, *shape)`` of this lattice at world points ``(..., d)``.

        Points outside the lattice get the vector of the nearest point on its border.
        """
        index = apply_matrix(self.node_from_voxel @ self.grid.index_from_world, points_mm)
        top = torch.tensor(self.shape).to(index) - 1
        index = torch.minimum(index.clamp(min=0), top).reshape(1, -1, len(top))
        return kernels.sample_linear(vectors, index).reshape(1, len(top), *points_mm.shape[:-1])

    def points_mm(self) -> Tensor:
        """``(*shape, d)`` world positions of the nodes, float64."""
        world = self.grid.world_from_index @ torch.linalg.inv(self.node_from_voxel)
        return Grid(self.shape, world).points_mm()
