"""The hot loops behind one small face: fused numba loops on the CPU, plain torch elsewhere.

Images are ``(B, C, *shape)``, d = 2 or 3; coordinates and vectors are in voxels, along the axes of
the grid that they stand on. `stn3d.kernels.reference` defines what is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stn3d.kernels import reference
from stn3d.kernels.reference import inside

__all__ = ["box_sum", "compose", "gaussian_smooth", "inside", "lncc", "sample_linear", "warp"]


def _fused(*tensors: Tensor | None) -> bool:
    """Whether the CPU's loops take these tensors; they count a volume's voxels in 31 bits."""
    return all(
        t is None
        or (
            t.device.type == "cpu"
            and t.dtype in (torch.float32, torch.float64)
            and t.shape[2:].numel() < 1 << 31
        )
        for t in tensors
    )


def sample_linear(image: Tensor, points_index: Tensor) -> Tensor:
    """Read an image between its voxels: linear, constant in the outer half voxel, 0 beyond.

    Args:
        image: ``(B, C, *shape)``.
        points_index: ``(B, N, d)``; a batch of one on either side serves all of the other.

    Returns:
        ``(B, C, N)``; differentiable once in both.
    """
    if _fused(image, points_index):
        result: Tensor = _SampleLinear.apply(image, points_index)
        return result
    return reference.sample_linear(image, points_index)


class _SampleLinear(torch.autograd.Function):
    """Reading by the CPU's loops."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, points_index: Tensor) -> Tensor:
        from stn3d.kernels import cpu

        ctx.save_for_backward(image, points_index)
        return cpu.sample_linear(image, points_index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        from stn3d.kernels import cpu

        by_image, by_points = ctx.needs_input_grad
        return (
            cpu.sample_adjoint(*ctx.saved_tensors, gradient) if by_image else None,
            cpu.sample_slopes(*ctx.saved_tensors, gradient) if by_points else None,
        )


def warp(image: Tensor, matrix: Tensor, displacement_vox: Tensor) -> tuple[Tensor, Tensor, float]:
    """Read an image through ``x -> matrix (x + displacement(x))``, with its gradient.

    Args:
        image: ``(1, C, *shape)``.
        matrix: ``(d + 1, d + 1)`` homogeneous, image indices from the field's indices.
        displacement_vox: ``(1, d, *out)`` on the grid where values are wanted.

    Returns:
        Values ``(1, C, *out)``; their derivatives by the displacement ``(1, C, d, *out)``; and the
        least distance in voxels from the points to the image's faces, negative outside, at most 1.
        Carries no gradient.
    """
    if _fused(image):
        from stn3d.kernels import cpu

        return cpu.warp(image, matrix, displacement_vox)
    return reference.warp(image, matrix, displacement_vox)


def compose(first_vox: Tensor, second_vox: Tensor) -> Tensor:
    """Displacements of ``x -> second(first(x))`` for fields ``(B, d, *shape)`` on one grid.

    Beyond its faces a field is 0. A batch of one on either side serves all of the other.
    Differentiable once in both.
    """
    first_vox, second_vox = torch.broadcast_tensors(first_vox, second_vox)
    if _fused(first_vox, second_vox) and first_vox.dtype == second_vox.dtype:
        result: Tensor = _Compose.apply(first_vox, second_vox)
        return result
    return reference.compose(first_vox, second_vox)


class _Compose(torch.autograd.Function):
    """Composition by the CPU's loops."""

    @staticmethod
    def forward(ctx: Any, first_vox: Tensor, second_vox: Tensor) -> Tensor:
        from stn3d.kernels import cpu

        ctx.save_for_backward(first_vox, second_vox)
        return cpu.compose(first_vox, second_vox)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        from stn3d.kernels import cpu

        return cpu.compose_adjoint(*ctx.saved_tensors, gradient, *ctx.needs_input_grad)


def box_sum(image: Tensor, radii: Sequence[int]) -> Tensor:
    """Sums over windows of ``2 r + 1`` voxels along each axis; nothing lies beyond the faces."""
    result: Tensor = (
        _BoxSum.apply(image, tuple(radii)) if _fused(image) else reference.box_sum(image, radii)
    )
    return result


class _BoxSum(torch.autograd.Function):
    """Box sums by the CPU's loops; its own adjoint."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, radii: tuple[int, ...]) -> Tensor:
        from stn3d.kernels import cpu

        ctx.radii = radii
        return cpu.box_sum(image, radii)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return box_sum(gradients[0], ctx.radii), None


def lncc(
    fixed: Tensor,
    moved: Tensor,
    weight: Tensor | None,
    radii: Sequence[int],
    noise_fixed: float,
    noise_moved: float,
) -> Tensor:
    """One minus the mean squared correlation in a window around each voxel, from 0 to 1.

    Windows count by their texture, ``A / (A + 10 noise_fixed)`` for the fixed image's variance A.

    Args:
        fixed: ``(B, C, *shape)``.
        moved: the same shape.
        weight: of voxels, ``(B or 1, 1, *shape)``; None counts all.
        radii: half the window's edge along each axis, in voxels.
        noise_fixed: variance of the fixed image that counts as noise.
        noise_moved: the same of the moved image.

    Returns:
        A scalar; differentiable once in fixed, moved and weight.
    """
    options = (tuple(radii), float(noise_fixed), float(noise_moved))
    if _fused(fixed, moved, weight):
        result: Tensor = _Lncc.apply(fixed, moved, weight, *options)
        return result
    return reference.lncc(fixed, moved, weight, *options)


class _Lncc(torch.autograd.Function):
    """The local correlation by the CPU's loops; its gradient is found along with it."""

    @staticmethod
    def forward(
        ctx: Any,
        fixed: Tensor,
        moved: Tensor,
        weight: Tensor | None,
        radii: tuple[int, ...],
        noise_fixed: float,
        noise_moved: float,
    ) -> Tensor:
        from stn3d.kernels import cpu

        by_fixed, by_moved, by_weight = ctx.needs_input_grad[:3]
        value, to_moved, to_fixed, to_weight = cpu.lncc(
            fixed, moved, weight, radii, noise_fixed, noise_moved, by_moved, by_fixed or by_weight
        )
        ctx.save_for_backward(
            to_fixed if by_fixed else None,
            to_moved if by_moved else None,
            to_weight if by_weight else None,
        )
        return fixed.new_tensor(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        slopes = [None if s is None else gradients[0] * s for s in ctx.saved_tensors]
        return *slopes, None, None, None


def gaussian_smooth(image: Tensor, sigma_vox: Sequence[float]) -> Tensor:
    """Convolve ``(B, C, *shape)`` with a Gaussian along each axis, cut off at three sigmas.

    Beyond the faces the outer voxels go on. A sigma below 0.1 voxel leaves its axis alone. Carries
    no gradient.
    """
    if _fused(image):
        from stn3d.kernels import cpu

        return cpu.gaussian_smooth(image, sigma_vox)
    return reference.gaussian_smooth(image, sigma_vox)
