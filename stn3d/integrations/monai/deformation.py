"""Random smooth deformations of world space, the same for any voxel grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stn3d.errors import InputError, shown
from stn3d.grid import Grid, homogeneous
from stn3d.synth.generator import SeededGenerator
from stn3d.transforms import VelocityField

_WAVES = 128
_NODES_PER_SIGMA = 4
_MOST_NODES = 1 << 26
_PERCENTILE = {2: 3.03, 3: 3.37}  # 99th, of the length of d standard normal numbers
_MOST_SIGMAS = 0.8


@dataclass(frozen=True, eq=False)
class Box:
    """A box along the world axes around the items of a dictionary.

    Args:
        low_mm: ``(d,)`` corner in world RAS+ mm, float64.
        high_mm: ``(d,)`` opposite corner.
        centre_mm: ``(d,)`` centre of the images in it.
    """

    low_mm: Tensor
    high_mm: Tensor
    centre_mm: Tensor


@dataclass(frozen=True)
class SmoothDeformation:
    """Ranges of a random smooth diffeomorphism: the exponential of a smooth random velocity.

    The velocity is a sum of plane waves of random direction, wavelength and phase in world
    coordinates (Rahimi and Recht 2007, "Random features for large-scale kernel machines"), which
    has the covariance of white noise smoothed by a Gaussian. It depends neither on a voxel grid nor
    on the field of view; only where it is sampled, at nodes of a lattice along the world axes with
    a quarter of sigma between them, does.

    Args:
        amplitude_mm: minimum and maximum of the amplitude, the length of the velocity that about 1
            in 100 points exceeds; uniform between both, and limited to 0.8 sigma.
        sigma_mm: minimum and maximum of the smoothing sigma; log-uniform between both.

    Raises:
        InputError: a range is empty, negative or not finite.
    """

    amplitude_mm: tuple[float, float] = (0.0, 8.0)
    sigma_mm: tuple[float, float] = (12.0, 24.0)

    def __post_init__(self) -> None:
        for name, least in (("amplitude_mm", 0.0), ("sigma_mm", 1e-3)):
            value = getattr(self, name)
            pair = isinstance(value, Sequence) and len(value) == 2
            if not (pair and math.isfinite(value[1]) and least <= value[0] <= value[1]):
                raise InputError(
                    f"{name} is {shown(value)}; give a minimum and a maximum in mm, at least "
                    f"{least:g}."
                )

    def sample(self, rng: SeededGenerator, box: Box) -> VelocityField:
        """A deformation of a box.

        Args:
            rng: random numbers; how many are drawn does not depend on the box.
            box: where the deformation is needed.

        Returns:
            The deformation; it falls to the identity outside of the box and a margin.

        Raises:
            InputError: sigma is so small that the lattice would not fit into memory.
        """
        d = len(box.low_mm)
        sigma = rng.log_uniform(*self.sigma_mm)
        amplitude = min(rng.uniform(*self.amplitude_mm), _MOST_SIGMAS * sigma)
        waves = rng.normal_tensor(_WAVES, d).double() / (math.sqrt(2) * sigma)
        phases = 2 * math.pi * rng.uniform_tensor(_WAVES).double()
        weights = rng.normal_tensor(_WAVES, d) * (amplitude / _PERCENTILE[d])
        grid = _lattice(box, sigma / _NODES_PER_SIGMA, 2 * amplitude)
        return VelocityField(_sum_of_waves(grid, waves, phases, weights)[None], grid)


def _lattice(box: Box, spacing_mm: float, margin_mm: float) -> Grid:
    """Nodes at multiples of the spacing that cover a box and a margin."""
    first = ((box.low_mm - margin_mm) / spacing_mm).floor() - 1
    last = ((box.high_mm + margin_mm) / spacing_mm).ceil() + 1
    shape = [int(n) for n in (last - first + 1).tolist()]
    if math.prod(shape) > _MOST_NODES:
        raise InputError(
            f"a deformation with sigma_mm {_NODES_PER_SIGMA * spacing_mm:.3g} needs a lattice of "
            f"{shape} nodes for these images; give a larger sigma_mm."
        )
    return Grid(
        tuple(shape), homogeneous(spacing_mm * torch.eye(len(shape)).double(), first * spacing_mm)
    )


def _sum_of_waves(grid: Grid, waves: Tensor, phases: Tensor, weights: Tensor) -> Tensor:
    """``(d, *shape)`` sum of ``sqrt(2 / K) w_k cos(x . k + p_k)`` at the nodes of a lattice.

    The exponentials are products over the axes, so few of them are computed.
    """
    spacing, origin = grid.spacing_mm[0], grid.world_from_index[:-1, -1]
    axes = []
    for axis, n in enumerate(grid.shape):
        angle = waves[:, axis, None] * (origin[axis] + spacing * torch.arange(n).double())
        angle = angle + phases[:, None] if axis == 0 else angle
        axes.append(torch.polar(torch.ones_like(angle), angle).to(torch.complex64))
    *others, last = axes
    product = others[0]
    for other in others[1:]:
        product = product[:, :, None] * other[:, None, :]
    flat = product.reshape(len(waves), -1)
    scale = math.sqrt(2 / len(waves))
    parts = [((scale * weight)[:, None] * flat).T @ last for weight in weights.T]
    return torch.stack([part.real.reshape(grid.shape) for part in parts])
