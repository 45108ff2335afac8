"""The hot loops as fused, parallel numba loops on torch's CPU tensors; no autograd here.

Each function does what the one of its name in `stn3d.kernels.reference` does. A 2D image is a
volume of one plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn3d.kernels.cpu.interpolation import compose_planes, warp_planes
from stn3d.kernels.cpu.jit import run
from stn3d.kernels.cpu.sampling import sample_blocks, scatter_blocks, slope_blocks
from stn3d.kernels.cpu.smoothing import smooth_planes
from stn3d.kernels.cpu.windows import box_sum_planes, lncc_planes
from stn3d.kernels.reference import gaussian_weights, window_sizes

Array = NDArray[Any]


def _volumes(image: Tensor) -> Array:
    """``(B C, I, J, K)``, the same memory where it can be."""
    flat = image.detach().contiguous().flatten(0, 1)
    return (flat if flat.ndim == 4 else flat[:, None]).numpy()


def _field(vectors: Tensor) -> Array:
    """``(3, I, J, K)`` of a field ``(d, *shape)``; in 2D the first component is 0."""
    vectors = vectors.detach()
    if vectors.shape[0] == 2:
        vectors = torch.cat([torch.zeros_like(vectors[:1]), vectors])[:, None]
    return vectors.contiguous().numpy()


def _matrix(matrix: Tensor, dtype: torch.dtype) -> Array:
    """``(3, 4)`` of a homogeneous matrix."""
    d = matrix.shape[-1] - 1
    full = torch.eye(4, dtype=torch.float64)
    full[3 - d :, 3 - d :] = matrix.detach().double().cpu()
    return full[:3].to(dtype).numpy()


def _three(values: Sequence[Any], fill: Any) -> list[Any]:
    """One value an axis, with a first axis that a 2D image lacks."""
    return [fill] * (3 - len(values)) + list(values)


class _Points(NamedTuple):
    """Where an image is read, as `stn3d.kernels.cpu.sampling` takes it."""

    array: Array
    rows: int
    length: int

    @property
    def blocks(self) -> int:
        count = self.array.size // (3 if self.rows else self.array.shape[1])
        return -(-count // self.length)


def _at(points_index: Tensor, image: Tensor) -> _Points:
    """The points ``(N, d)``; their precision is kept, and is never below the image's."""
    dtype = torch.promote_types(points_index.dtype, image.dtype)
    return _Points(points_index.detach().to(dtype).contiguous().numpy(), 0, 256)


def _moved(displacement_vox: Tensor) -> _Points:
    """The voxels of a field ``(d, *shape)``, moved by it."""
    field = _field(displacement_vox)
    return _Points(field.reshape(3, -1), field.shape[2], field.shape[3])


def _one(batch: Tensor, b: int) -> Tensor:
    """Item b, a batch of one; a batch of one serves all."""
    return batch[b : b + 1] if len(batch) > 1 else batch


def sample_linear(image: Tensor, points_index: Tensor) -> Tensor:
    """Read an image between its voxels. See `stn3d.kernels`."""
    batch = max(len(image), len(points_index))
    out = image.new_empty(batch, image.shape[1], points_index.shape[1])
    for b in range(batch):
        at = _at(_one(points_index, b)[0], image)
        run(sample_blocks, at.blocks, _volumes(_one(image, b)), *at, out[b].numpy())
    return out


def sample_slopes(image: Tensor, points_index: Tensor, gradient: Tensor) -> Tensor:
    """Derivatives by the points ``(B, N, d)`` from those by the values ``(B, C, N)``."""
    pieces = []
    for b, slope in enumerate(gradient.contiguous()):
        at = _at(_one(points_index, b)[0], image)
        out = np.empty_like(at.array)
        run(slope_blocks, at.blocks, _volumes(_one(image, b)), *at, slope.numpy(), out)
        pieces.append(torch.from_numpy(out))
    return torch.stack(pieces).to(points_index.dtype).sum_to_size(points_index.shape)


def sample_adjoint(image: Tensor, points_index: Tensor, gradient: Tensor) -> Tensor:
    """Derivatives by the image ``(B, C, *shape)`` from those by the values ``(B, C, N)``."""
    out = torch.zeros_like(image, memory_format=torch.contiguous_format)
    for b, slope in enumerate(gradient.contiguous()):
        _scatter(slope.numpy(), _at(_one(points_index, b)[0], image), _one(out, b))
    return out


def _scatter(gradient: Array, at: _Points, out: Tensor) -> None:
    """Add to ``out`` ``(1, C, *shape)`` what each voxel gave to the values."""
    volumes = _volumes(out)
    # Shares of the points are summed apart and then in order: threads do not change the sums.
    shares = np.zeros((len(volumes), -(-4 // len(volumes)), *volumes.shape[1:]), volumes.dtype)
    run(scatter_blocks, shares.shape[0] * shares.shape[1], gradient, *at, shares)
    for share in range(shares.shape[1]):
        volumes += shares[:, share]


def warp(image: Tensor, matrix: Tensor, displacement_vox: Tensor) -> tuple[Tensor, Tensor, float]:
    """The moved image, its gradient and the margin. See `stn3d.kernels`."""
    shape = displacement_vox.shape[2:]
    field, m = _field(displacement_vox[0].to(image.dtype)), _matrix(matrix, image.dtype)
    moved = image.new_empty(1, image.shape[1], *shape)
    slopes = image.new_empty(image.shape[1], 3, *field.shape[1:])
    margin = np.ones(field.shape[1], field.dtype)
    for source, target, slope in zip(_volumes(image), _volumes(moved), slopes.numpy(), strict=True):
        run(warp_planes, len(target), source, m, field, target, slope, margin)
    gradient = slopes[:, 3 - len(shape) :].reshape(1, image.shape[1], len(shape), *shape)
    return moved, gradient, float(margin.min())


def compose(first_vox: Tensor, second_vox: Tensor, scale: float = 1.0) -> Tensor:
    """Displacements of ``x -> second(x + scale first)``. See `stn3d.kernels`."""
    d = first_vox.shape[1]
    pieces = []
    for first, second in zip(first_vox, second_vox.expand_as(first_vox), strict=True):
        step, field = _field(first), _field(second)
        out = np.empty_like(field)
        run(compose_planes, field.shape[1], step, field.dtype.type(scale), field, out)
        pieces.append(torch.from_numpy(out[3 - d :]).reshape(first.shape))
    return pieces[0][None] if len(pieces) == 1 else torch.stack(pieces)


def compose_adjoint(
    first_vox: Tensor, second_vox: Tensor, gradient: Tensor, by_first: bool, by_second: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Derivatives by both fields ``(B, d, *shape)`` from those by their composition."""
    d = first_vox.shape[1]
    to_first = gradient.clone(memory_format=torch.contiguous_format) if by_first else None
    to_second = torch.zeros_like(gradient, memory_format=torch.contiguous_format)
    for b, (first, slope) in enumerate(zip(first_vox, gradient.contiguous(), strict=True)):
        at, by_value = _moved(first), slope.flatten(1).numpy()
        if to_first is not None:
            out, second = np.empty_like(at.array), _volumes(_one(second_vox, b))
            run(slope_blocks, at.blocks, second, *at, by_value, out)
            to_first[b] += torch.from_numpy(out[3 - d :]).reshape(first.shape)
        if by_second:
            _scatter(by_value, at, to_second[b : b + 1])
    return to_first, to_second if by_second else None


def box_sum(image: Tensor, radii: Sequence[int]) -> Tensor:
    """Sums over windows. See `stn3d.kernels`."""
    source, result = _volumes(image), torch.empty_like(image, memory_format=torch.contiguous_format)
    planes = source.shape[0] * source.shape[1]
    run(box_sum_planes, planes, source, *_radii(radii, source.shape[1:]), _volumes(result))
    return result


def gaussian_smooth(image: Tensor, sigma_vox: Sequence[float]) -> Tensor:
    """Convolve with a Gaussian along each axis. See `stn3d.kernels`."""
    source, result = _volumes(image), torch.empty_like(image, memory_format=torch.contiguous_format)
    weights = [
        np.array(gaussian_weights(sigma, n), source.dtype)
        for sigma, n in zip(_three(sigma_vox, 0.0), source.shape[1:], strict=True)
    ]
    if max(map(len, weights)) == 1:
        return image
    run(smooth_planes, source.shape[0] * source.shape[1], source, *weights, _volumes(result))
    return result


def _radii(radii: Sequence[int], shape: Sequence[int]) -> list[int]:
    return [min(r, n - 1) for r, n in zip(_three(radii, 0), shape, strict=True)]


def lncc(
    fixed: Tensor,
    moved: Tensor,
    weight: Tensor | None,
    radii: Sequence[int],
    noise_fixed: float,
    noise_moved: float,
    by_moved: bool = False,
    by_others: bool = False,
) -> tuple[float, Tensor | None, Tensor | None, Tensor | None]:
    """The loss, and its derivatives by moved, fixed and weight where they are wanted.

    Args:
        by_moved: whether the derivative by moved is wanted.
        by_others: whether those by all three are.
    """
    if by_others and weight is None:
        weight = torch.ones_like(fixed[:, :1])
    pass_ = _LnccPass(fixed, moved, weight, radii, noise_fixed, noise_moved)
    if not by_others:
        p, q = pass_.run(0.0, by_moved, False)
        ratio = p / max(q, 1e-12)
    else:  # the derivative by the weights needs the outcome
        p, q = pass_.run(0.0, False, False)
        ratio = p / max(q, 1e-12)
        pass_.run(ratio, True, True)
    found = [d if d is None else d.mul_(-1 / max(q, 1e-12)) for d in pass_.derivatives]
    return 1 - ratio, found[0], found[1], found[2]


class _LnccPass:
    """Runs `lncc_planes` over a batch's channels."""

    def __init__(
        self,
        fixed: Tensor,
        moved: Tensor,
        weight: Tensor | None,
        radii: Sequence[int],
        noise_fixed: float,
        noise_moved: float,
    ) -> None:
        self.fixed, self.moved, self.weight = fixed, moved, weight
        shape = _volumes(fixed).shape[1:]
        self.radii = _radii(radii, shape)
        real = _volumes(fixed).dtype.type
        self.noise = real(noise_fixed), real(noise_moved)
        self.sizes = [
            window_sizes(n, r, fixed).numpy() for n, r in zip(shape, self.radii, strict=True)
        ]
        self.derivatives: list[Tensor | None] = [None, None, None]

    def run(self, ratio: float, by_moved: bool, by_others: bool) -> tuple[float, float]:
        fixed, moved = _volumes(self.fixed), _volumes(self.moved)
        weight = None
        if self.weight is not None:
            weight = _volumes(self.weight.to(self.fixed).expand_as(self.fixed))
        wanted = [by_moved, by_others, by_others]
        slopes = [np.empty_like(fixed) if w else None for w in wanted]
        total = np.zeros(2)
        for c in range(len(fixed)):
            totals = np.zeros((fixed.shape[1], 2))
            run(
                lncc_planes,
                fixed.shape[1],
                fixed[c],
                moved[c],
                None if weight is None else weight[c],
                *self.radii,
                *self.noise,
                self.noise[0].dtype.type(ratio),
                *self.sizes,
                totals,
                *[None if s is None else s[c] for s in slopes],
            )
            total += totals.sum(axis=0)
        self.derivatives = [
            None if s is None else torch.from_numpy(s).reshape(self.fixed.shape) for s in slopes
        ]
        if by_others and self.weight is not None and self.derivatives[2] is not None:
            self.derivatives[2] = self.derivatives[2].sum_to_size(self.weight.shape)
        return float(total[0]), float(total[1])
