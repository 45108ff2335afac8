"""LNCC by numba kernels; the exact gradient is computed together with the value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from stn3d.kernels.box_sum.cpu import radii_within
from stn3d.kernels.box_sum.reference import window_sizes
from stn3d.kernels.common.jit import run
from stn3d.kernels.common.region import Region
from stn3d.kernels.common.tensors import Array, runs_of, volumes
from stn3d.kernels.lncc.cpu_kernels import lncc_planes


def lncc(
    fixed: Tensor,
    moved: Tensor,
    weight: Tensor | None,
    radii: Sequence[int],
    noise_fixed: float,
    noise_moved: float,
    windows: Region | None = None,
) -> Tensor:
    """Over the windows of a region alone; differentiable once."""
    return _Lncc.apply(fixed, moved, weight, tuple(radii), noise_fixed, noise_moved, windows)


class _Lncc(torch.autograd.Function):
    """LNCC with the gradients that are needed."""

    @staticmethod
    def forward(
        ctx: Any, fixed: Tensor, moved: Tensor, weight: Tensor | None, *options: Any
    ) -> Tensor:
        by_fixed, by_moved, by_weight = ctx.needs_input_grad[:3]
        value, to_moved, to_fixed, to_weight = _value_and_gradients(
            fixed, moved, weight, options, by_moved, by_fixed or by_weight
        )
        ctx.save_for_backward(
            to_fixed if by_fixed else None,
            to_moved if by_moved else None,
            to_weight if by_weight else None,
        )
        return fixed.new_tensor(value)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.saved_tensors
        if float(upstream[0]) != 1:  # avoids a pass over the volume
            gradients = [None if g is None else upstream[0] * g for g in gradients]
        return *gradients, None, None, None, None


def _value_and_gradients(
    fixed: Tensor,
    moved: Tensor,
    weight: Tensor | None,
    options: tuple[Any, ...],
    by_moved: bool,
    by_others: bool,
) -> tuple[float, Tensor | None, Tensor | None, Tensor | None]:
    """The loss and its gradients by moved (also if ``by_others``), fixed and weight."""
    if by_others and weight is None:
        weight = torch.ones_like(fixed[:, :1])
    work = _Inputs.of(fixed, moved, weight, *options)
    p, q, derivatives = work.run(0.0, by_moved and not by_others, False)
    ratio = p / max(q, 1e-12)
    if by_others:  # the gradient by the weights depends on the value
        derivatives = work.run(ratio, True, True)[2]
    found = [
        None if s is None else torch.from_numpy(s).reshape(fixed.shape).mul_(-1 / max(q, 1e-12))
        for s in derivatives
    ]
    if weight is not None and found[2] is not None:
        found[2] = found[2].sum_to_size(weight.shape)
    return 1 - ratio, found[0], found[1], found[2]


class _Inputs(NamedTuple):
    """The inputs of `lncc_planes` for all channels of a batch."""

    fixed: Array
    moved: Array
    weight: Array | None
    radii: tuple[int, ...]
    noise: tuple[Any, Any]
    sizes: tuple[Array, ...]
    windows: Region

    @classmethod
    def of(
        cls,
        fixed: Tensor,
        moved: Tensor,
        weight: Tensor | None,
        radii: Sequence[int],
        noise_fixed: float,
        noise_moved: float,
        windows: Region | None,
    ) -> _Inputs:
        image = volumes(fixed)
        shape, real = image.shape[1:], image.dtype.type
        radii = radii_within(radii, shape)
        return cls(
            image,
            volumes(moved),
            None if weight is None else volumes(weight.to(fixed).expand_as(fixed)),
            radii,
            (real(noise_fixed), real(noise_moved)),
            tuple(window_sizes(n, r, fixed).numpy() for n, r in zip(shape, radii, strict=True)),
            runs_of(windows, image),
        )

    def run(
        self, ratio: float, by_moved: bool, by_others: bool
    ) -> tuple[float, float, list[Array | None]]:
        """P, Q and the derivatives of P - ratio Q by moved, fixed and weight."""
        planes = self.fixed.shape[1]
        derivatives = [
            np.zeros_like(self.fixed) if needed else None
            for needed in (by_moved, by_others, by_others)
        ]
        reached = self.windows.grown(self.radii)
        total = np.zeros(2)
        for c in range(len(self.fixed)):
            totals = np.zeros((planes, 2))
            run(
                lncc_planes,
                planes,
                self.fixed[c],
                self.moved[c],
                None if self.weight is None else self.weight[c],
                self.radii,
                self.noise,
                self.fixed.dtype.type(ratio),
                self.sizes,
                self.windows.runs,
                reached.runs,
                totals,
                *[None if s is None else s[c] for s in derivatives],
                work=reached.lengths.sum(axis=1),
            )
            total += totals.sum(axis=0)
        return float(total[0]), float(total[1]), derivatives
