"""Random numbers that are a function of a seed and an index."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from stn3d import kernels


class SeededGenerator:
    """Random number generator; the same seeds give the same numbers, bit by bit.

    Args:
        seeds: Non-negative integers, such as the seed of a run and the index of a sample.
        device: Device of the noise; numbers are always drawn on the CPU.
    """

    def __init__(self, *seeds: int, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        state = np.random.SeedSequence(seeds).generate_state(1, np.uint64)
        self._generator = torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))

    def uniform(self, low: float, high: float) -> float:
        """A number with uniform distribution."""
        return low + (high - low) * float(torch.rand((), generator=self._generator))

    def log_uniform(self, low: float, high: float) -> float:
        """A positive number whose logarithm has a uniform distribution."""
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def bernoulli(self, probability: float) -> bool:
        """True with a probability."""
        return self.uniform(0, 1) < probability

    def integer(self, n: int) -> int:
        """An integer from 0 to ``n - 1``."""
        return int(torch.randint(n, (), generator=self._generator))

    def uniform_tensor(self, *shape: int) -> Tensor:
        """Numbers from 0 to 1, float32, on the CPU."""
        return torch.rand(*shape, generator=self._generator)

    def normal_tensor(self, *shape: int) -> Tensor:
        """Standard normal numbers, float32, on the device."""
        return torch.randn(*shape, generator=self._generator).to(self.device)

    def unit_vector(self, ndim: int) -> Tensor:
        """``(d,)`` isotropic unit vector, float64."""
        vector = torch.randn(ndim, generator=self._generator).double()
        return vector / torch.linalg.vector_norm(vector).clamp(min=1e-12)

    def smooth_noise(self, channels: int, shape: Sequence[int], sigma_vox: float) -> Tensor:
        """Gaussian noise smoothed by a Gaussian and scaled to a mean square of 1.

        The noise is drawn on a lattice with a spacing of about one sigma and interpolated, so that
        the time does not depend on sigma.

        Args:
            channels: Number of channels.
            shape: Shape of the grid.
            sigma_vox: Standard deviation of the Gaussian in voxels.

        Returns:
            ``(1, channels, *shape)``.
        """
        step = max(1.0, sigma_vox)
        coarse = [math.ceil((n - 1) / step) + 3 for n in shape]
        sigmas = [sigma_vox / step] * len(coarse)
        noise = kernels.gaussian_smooth(self.normal_tensor(1, channels, *coarse), sigmas)
        if step == 1:
            for axis, n in enumerate(shape, start=2):
                noise = noise.narrow(axis, 1, n)
            noise = noise.contiguous()
        else:
            gaps = [(m - 1) / 2 - (n - 1) / 2 / step for m, n in zip(coarse, shape, strict=True)]
            matrix = torch.diag(torch.tensor([1 / step] * len(coarse) + [1.0]).double())
            matrix[:-1, -1] = torch.tensor(gaps)
            noise = kernels.resample(noise, matrix, shape)
        return noise / noise.square().mean().sqrt().clamp(min=1e-6)
