"""Random rng that are a function of a seed and an index, whatever was drawn before."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from stn3d import kernels


class SeededGenerator:
    """A stream of random rng; the same seeds give the same stream, bit by bit.

    Args:
        seeds: whole numbers from 0 on, such as a run's seed and a sample's index.
        device: where noise is put; it is always drawn on the CPU.
    """

    def __init__(self, *seeds: int, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        state = np.random.SeedSequence(seeds).generate_state(1, np.uint64)
        self._generator = torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))

    def uniform(self, low: float, high: float) -> float:
        """A number between two others."""
        return low + (high - low) * float(torch.rand((), generator=self._generator))

    def log_uniform(self, low: float, high: float) -> float:
        """A number between two others above 0, each ratio as likely as any other."""
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def chance(self, share: float) -> bool:
        """True in this share of the rng."""
        return self.uniform(0, 1) < share

    def below(self, n: int) -> int:
        """A whole number from 0 up to ``n - 1``."""
        return int(torch.randint(n, (), generator=self._generator))

    def uniforms(self, *shape: int) -> Tensor:
        """Numbers from 0 to 1, float32."""
        return torch.rand(*shape, generator=self._generator)

    def normals(self, *shape: int) -> Tensor:
        """Standard normal numbers, float32, on the device."""
        return torch.randn(*shape, generator=self._generator).to(self.device)

    def direction(self, ndim: int) -> Tensor:
        """``(d,)`` unit vector, float64; every direction is as likely as any other."""
        vector = torch.randn(ndim, generator=self._generator).double()
        return vector / torch.linalg.vector_norm(vector).clamp(min=1e-12)

    def smooth_noise(self, channels: int, shape: Sequence[int], sigma_vox: float) -> Tensor:
        """``(1, channels, *shape)`` Gaussian noise smoothed by a Gaussian; its mean square is 1.

        It is drawn on a lattice of about one sigma, so that long waves cost no more than short
        ones.
        """
        step = max(1.0, sigma_vox)
        coarse = [math.ceil((n - 1) / step) + 3 for n in shape]
        sigmas = [sigma_vox / step] * len(coarse)
        noise = kernels.gaussian_smooth(self.normals(1, channels, *coarse), sigmas)
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
