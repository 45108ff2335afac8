"""The hot loops as fused, parallel numba loops on torch's CPU tensors; no autograd here.

Each function does what the one of its name in `stn3d.kernels.reference` does. A 2D image is a
volume of one plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from stn3d.kernels.cpu.fields import force_planes, invert, jacobian_determinant
from stn3d.kernels.cpu.histogram import histogram_slopes, joint_histogram
from stn3d.kernels.cpu.interpolation import (
    compose_planes,
    resample_planes,
    warp_planes,
    warp_slope_planes,
)
from stn3d.kernels.cpu.jit import run
from stn3d.kernels.cpu.sampling import (
    compose_adjoint,
    sample_adjoint,
    sample_linear,
    sample_slopes,
)
from stn3d.kernels.cpu.smoothing import diffuse_divergence_planes, smooth_planes, taper_planes
from stn3d.kernels.cpu.tensors import Array, as_field, as_matrix, three, volumes
from stn3d.kernels.cpu.windows import box_sum_planes, lncc_planes
from stn3d.kernels.reference import (
    Buffers,
    Moves,
    Warped,
    buffers,
    gaussian_weights,
    length_quantile,
    length_stride,
    whole_shift,
    window_sizes,
)
from stn3d.kernels.region import Region

__all__ = [
    "box_sum",
    "compose",
    "compose_adjoint",
    "diffuse_divergence",
    "force",
    "gaussian_smooth",
    "histogram_slopes",
    "invert",
    "jacobian_determinant",
    "joint_histogram",
    "lncc",
    "resample",
    "sample_adjoint",
    "sample_linear",
    "sample_slopes",
    "take_step",
    "taper",
    "warp",
    "warp_slope",
]


def _runs(region: Region | None, volume: Array) -> Region:
    return Region.full(volume.shape[-3:]) if region is None else region


def warp(
    image: Tensor,
    matrix: Tensor,
    displacement_vox: Tensor,
    region: Region | None = None,
    out: Buffers | None = None,
) -> Warped:
    """The moved image and how far inside it was read. See `stn3d.kernels`."""
    moved, coverage = out or buffers(image, displacement_vox)
    field, m = as_field(displacement_vox[0].to(image.dtype)), as_matrix(matrix, image.dtype)
    runs, least = _runs(region, field), np.ones(field.shape[1], field.dtype)
    work, inside = runs.lengths.sum(axis=1), volumes(coverage)[0]
    for source, target in zip(volumes(image), volumes(moved), strict=True):
        results = target, inside, least
        run(warp_planes, len(target), source, m, field, runs.runs, *results, work=work)
    return Warped(moved, coverage if float(least.min()) < 1 else None)


def warp_slope(
    image: Tensor,
    matrix: Tensor,
    displacement_vox: Tensor,
    by_moved: Tensor,
    by_coverage: Tensor | None,
    region: Region | None = None,
) -> Tensor:
    """A loss's derivative by the matrix of `warp`. See `stn3d.kernels`."""
    d = displacement_vox.shape[1]
    field, m = as_field(displacement_vox[0].to(image.dtype)), as_matrix(matrix, image.dtype)
    runs, sums = _runs(region, field), np.zeros((field.shape[1], 3, 4))
    work = runs.lengths.sum(axis=1)
    by_coverages = [None] * len(image[0])
    if by_coverage is not None:
        by_coverages[0] = volumes(by_coverage)[0]
    for source, slope, fading in zip(volumes(image), volumes(by_moved), by_coverages, strict=True):
        options = field, runs.runs, slope, fading, sums
        run(warp_slope_planes, len(slope), source, m, *options, work=work)
    return torch.from_numpy(sums.sum(axis=0)[3 - d :, 3 - d :])


def force(moved: Tensor, by_moved: Tensor, region: Region, out: Tensor) -> Tensor:
    """Where a loss falls most steeply. See `stn3d.kernels`."""
    result, work = as_field(out[0]), region.lengths.sum(axis=1)
    run(force_planes, len(work), volumes(moved), volumes(by_moved), region.runs, result, work=work)
    if out.shape[1] == 2:
        out[0].copy_(torch.from_numpy(result[1:, 0]))
    return out


def resample(
    image: Tensor,
    matrix: Tensor,
    shape: Sequence[int],
    moves: Moves | None,
    outside_value: float,
) -> Tensor:
    """An image at the voxels of a grid. See `stn3d.kernels`."""
    source, out = volumes(image), image.new_empty(1, image.shape[1], *shape)
    at = _straightened(matrix, shape)
    vectors, to_vectors, shift, linear = source[:0], at, None, np.zeros((3, 0))
    if moves is not None:
        vectors, to_vectors = volumes(moves.vectors), _straightened(moves.matrix, shape)
        shift = whole_shift(moves.matrix, shape)
        linear = np.zeros((3, len(vectors)))
        linear[3 - len(vectors) :] = moves.linear.detach().double().cpu().numpy()
    whole = np.array([] if shift is None else three(shift, 0), np.int64)
    options = vectors, to_vectors, whole, linear, source.dtype.type(outside_value)
    target = volumes(out)
    run(resample_planes, target.shape[1], source, at, *options, target)
    return out


def _straightened(matrix: Tensor, shape: Sequence[int]) -> Array:
    """``(3, 4)``; rows that lean by no more than rounding errors do not lean."""
    at = as_matrix(matrix, torch.float64)
    across = at[:2, 2]
    across[np.abs(across) * shape[-1] < 1e-9] = 0
    return at


def compose(first_vox: Tensor, second_vox: Tensor) -> Tensor:
    """Displacements of ``x -> second(first(x))``. See `stn3d.kernels`."""
    out = torch.empty_like(first_vox, memory_format=torch.contiguous_format)
    for first, second, one in zip(first_vox, second_vox.expand_as(first_vox), out, strict=True):
        take_step(first[None], second[None], 1.0, np.inf, None, one[None], None, 0.0)
    return out


def take_step(
    step_vox: Tensor,
    field_vox: Tensor,
    scale: float,
    limit: float,
    region: Region | None,
    out: Tensor,
    velocity_vox: Tensor | None,
    keep: float,
) -> Tensor:
    """Displacements of ``x -> field(x + s(x))``, s the scaled and limited step. See
    `stn3d.kernels`."""
    step, field, result = as_field(step_vox[0]), as_field(field_vox[0]), as_field(out[0])
    velocity = None if velocity_vox is None else as_field(velocity_vox[0])
    runs, real = _runs(region, field), field.dtype.type
    options = real(scale), real(limit), velocity, real(keep), field, runs.runs, result
    work = runs.lengths.sum(axis=1)
    run(compose_planes, len(work), step, *options, work=work)
    if out.shape[1] == 2:
        out[0].copy_(torch.from_numpy(result[1:, 0]))
        if velocity_vox is not None and velocity is not None:
            velocity_vox[0].copy_(torch.from_numpy(velocity[1:, 0]))
    return out


def box_sum(image: Tensor, radii: Sequence[int]) -> Tensor:
    """Sums over windows. See `stn3d.kernels`."""
    source, result = volumes(image), torch.empty_like(image, memory_format=torch.contiguous_format)
    runs = Region.full(source.shape[1:]).runs
    shape = source.shape[1:]
    run(box_sum_planes, shape[0], source, _radii(radii, shape), runs, volumes(result))
    return result


def gaussian_smooth(
    image: Tensor,
    sigma_vox: Sequence[float],
    region: Region | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Convolve with a Gaussian along each axis. See `stn3d.kernels`."""
    out = torch.empty_like(image, memory_format=torch.contiguous_format) if out is None else out
    source = volumes(image)
    weights = [
        np.array(gaussian_weights(sigma, n), source.dtype)
        for sigma, n in zip(three(sigma_vox, 0.0), source.shape[1:], strict=True)
    ]
    runs = _runs(region, source)
    work = runs.lengths.sum(axis=1)
    run(smooth_planes, len(work), source, *weights, runs.runs, volumes(out), work=work)
    return out


def diffuse_divergence(
    field_vox: Tensor, weights: Sequence[float], region: Region, out: Tensor
) -> Tensor:
    """Add a weighed gradient of the divergence. See `stn3d.kernels`."""
    source, result = as_field(field_vox[0]), as_field(out[0])
    along = np.array(three(weights, 0.0), source.dtype)
    work = region.lengths.sum(axis=1)
    run(diffuse_divergence_planes, len(work), source, along, region.runs, result, work=work)
    if field_vox.shape[1] == 2:
        out[0].copy_(torch.from_numpy(result[1:, 0]))
    return out


def taper(
    vectors: Tensor, weights: Sequence[Tensor], region: Region | None, quantile: float
) -> float:
    """Weigh a field's vectors in place; a quantile of their lengths. See `stn3d.kernels`."""
    field = as_field(vectors[0])
    along = [w.to(vectors).numpy() for w in three(weights, torch.ones(1))]
    runs = _runs(region, field)
    stride = length_stride(field.shape[1:])
    few = np.zeros([-(-n // stride) for n in field.shape[1:3]] + [field.shape[3]], field.dtype)
    work = runs.lengths.sum(axis=1)
    run(taper_planes, len(work), field, *along, runs.runs, stride, few, work=work)
    if vectors.shape[1] == 2:
        vectors[0].copy_(torch.from_numpy(field[1:, 0]))
    return length_quantile(few[few > 0], quantile)


def _radii(radii: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(min(r, n - 1) for r, n in zip(three(radii, 0), shape, strict=True))


def lncc(
    fixed: Tensor,
    moved: Tensor,
    weight: Tensor | None,
    radii: Sequence[int],
    noise_fixed: float,
    noise_moved: float,
    windows: Region | None = None,
    by_moved: bool = False,
    by_others: bool = False,
) -> tuple[float, Tensor | None, Tensor | None, Tensor | None]:
    """The loss, and its derivatives by moved, fixed and weight where they are wanted.

    Args:
        windows: the centres of the windows that count.
        by_moved: whether the derivative by moved is wanted.
        by_others: whether those by all three are.
    """
    if by_others and weight is None:
        weight = torch.ones_like(fixed[:, :1])
    work = _Lncc.of(fixed, moved, weight, radii, noise_fixed, noise_moved, windows)
    p, q, slopes = work.run(0.0, by_moved and not by_others, False)
    ratio = p / max(q, 1e-12)
    if by_others:  # the derivative by the weights needs the outcome
        slopes = work.run(ratio, True, True)[2]
    found = [
        None if s is None else torch.from_numpy(s).reshape(fixed.shape).mul_(-1 / max(q, 1e-12))
        for s in slopes
    ]
    if weight is not None and found[2] is not None:
        found[2] = found[2].sum_to_size(weight.shape)
    return 1 - ratio, found[0], found[1], found[2]


class _Lncc(NamedTuple):
    """What `lncc_planes` needs, over a batch's channels."""

    fixed: Array
    moved: Array
    weight: Array | None
    radii: tuple[int, ...]
    noise: tuple[Any, Any]
    sizes: list[Array]
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
    ) -> _Lncc:
        image = volumes(fixed)
        shape, real = image.shape[1:], image.dtype.type
        radii = _radii(radii, shape)
        return cls(
            image,
            volumes(moved),
            None if weight is None else volumes(weight.to(fixed).expand_as(fixed)),
            radii,
            (real(noise_fixed), real(noise_moved)),
            [window_sizes(n, r, fixed).numpy() for n, r in zip(shape, radii, strict=True)],
            _runs(windows, image),
        )

    def run(
        self, ratio: float, by_moved: bool, by_others: bool
    ) -> tuple[float, float, list[Array | None]]:
        """P, Q and the derivatives of P - ratio Q; see `lncc_planes`."""
        planes = self.fixed.shape[1]
        slopes = [
            np.zeros_like(self.fixed) if wanted else None
            for wanted in (by_moved, by_others, by_others)
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
                *self.noise,
                self.fixed.dtype.type(ratio),
                *self.sizes,
                self.windows.runs,
                reached.runs,
                totals,
                *[None if s is None else s[c] for s in slopes],
                work=reached.lengths.sum(axis=1),
            )
            total += totals.sum(axis=0)
        return float(total[0]), float(total[1]), slopes
