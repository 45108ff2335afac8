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
from stn3d.kernels.dispatch import fused
from stn3d.kernels.histogram import joint_histogram, mutual_information
from stn3d.kernels.reference import Buffers, Moves, Warped, buffers, coverage, inside
from stn3d.kernels.region import Region
from stn3d.kernels.sampling import resample, sample_linear

__all__ = [
    "Buffers",
    "Moves",
    "Region",
    "Warped",
    "box_sum",
    "buffers",
    "compose",
    "coverage",
    "diffuse_divergence",
    "exponential",
    "force",
    "gaussian_smooth",
    "inside",
    "invert",
    "jacobian_determinant",
    "joint_histogram",
    "lncc",
    "mutual_information",
    "resample",
    "sample_linear",
    "take_step",
    "taper",
    "warp",
    "warp_slope",
]


def warp(
    image: Tensor,
    matrix: Tensor,
    displacement_vox: Tensor,
    region: Region | None = None,
    out: Buffers | None = None,
) -> Warped:
    """Read an image through ``x -> matrix (x + displacement(x))``.

    Args:
        image: ``(1, C, *shape)``.
        matrix: ``(d + 1, d + 1)`` homogeneous, image indices from the field's indices.
        displacement_vox: ``(1, d, *out)`` on the grid where values are wanted.
        region: where they are wanted; elsewhere ``out`` may be left as it is.
        out: where the results go, as `buffers` makes them.

    Returns:
        Values, and how far inside the image they were read. Carries no gradient, see `warp_slope`.
    """
    if fused(image):
        from stn3d.kernels import cpu

        return cpu.warp(image, matrix, displacement_vox, region, out)
    return reference.warp(image, matrix, displacement_vox)


def warp_slope(
    image: Tensor,
    matrix: Tensor,
    displacement_vox: Tensor,
    by_moved: Tensor,
    by_coverage: Tensor | None,
    region: Region | None = None,
) -> Tensor:
    """``(d, d + 1)`` float64 derivatives of a loss by the matrix of `warp`.

    Args:
        image, matrix, displacement_vox: see `warp`.
        by_moved: ``(1, C, *out)``, the loss's derivatives by the values that `warp` read.
        by_coverage: ``(1, 1, *out)``, those by how far inside it read them; None where they are 0.
        region: where any derivative is not 0.
    """
    if fused(image):
        from stn3d.kernels import cpu

        return cpu.warp_slope(image, matrix, displacement_vox, by_moved, by_coverage, region)
    return reference.warp_slope(image, matrix, displacement_vox, by_moved, by_coverage)


def force(moved: Tensor, by_moved: Tensor, region: Region, out: Tensor) -> Tensor:
    """``-by_moved grad moved``: where a loss falls most steeply, by steps s in ``moved(x + s(x))``.

    For a moved image that is ``moving(T(x))`` that is ``moving(T(x + s(x)))``: the step comes
    before what was found so far. Differences are central. Carries no gradient.

    Args:
        moved: ``(1, C, *shape)``.
        by_moved: the same shape, the loss's derivatives by it.
        region: where the result is wanted, without the grid's outermost voxels; ``moved`` must be
            known one voxel around it.
        out: ``(1, d, *shape)``, where it goes; elsewhere it is left as it is.
    """
    if fused(moved, by_moved):
        from stn3d.kernels import cpu

        return cpu.force(moved, by_moved, region, out)
    return _placed(reference.force(moved, by_moved), region, out)


def compose(first_vox: Tensor, second_vox: Tensor) -> Tensor:
    """Displacements of ``x -> second(first(x))`` for fields ``(B, d, *shape)`` on one grid.

    Beyond its faces a field is 0. A batch of one on either side serves all of the other.
    Differentiable once in both.
    """
    first_vox, second_vox = torch.broadcast_tensors(first_vox, second_vox)
    if fused(first_vox, second_vox) and first_vox.dtype == second_vox.dtype:
        result: Tensor = _Compose.apply(first_vox, second_vox)
        return result
    return reference.compose(first_vox, second_vox)


def take_step(
    step_vox: Tensor,
    field_vox: Tensor,
    scale: float,
    limit: float,
    region: Region,
    out: Tensor,
    velocity_vox: Tensor | None = None,
    keep: float = 0.0,
) -> Tensor:
    """Displacements of ``x -> field(x + s(x))`` for a scaled step s, of limited length.

    With a velocity v the step is ``scale step + keep v``, and that is the velocity from then on
    (Polyak 1964, doi:10.1016/0041-5553(64)90137-5). Carries no gradient.

    Args:
        step_vox: ``(1, d, *shape)``.
        field_vox: the same, on the same grid; 0 beyond its faces.
        scale: factor of the step.
        limit: vectors that are longer are cut to this length.
        region: where the step is not 0.
        out: where the result goes, maybe the step itself; elsewhere it is left as it is.
        velocity_vox: like the step; changed in the region.
        keep: share of the velocity that goes on.
    """
    if fused(step_vox, field_vox):
        from stn3d.kernels import cpu

        options = scale, limit, region, out, velocity_vox, keep
        return cpu.take_step(step_vox, field_vox, *options)
    step = scale * step_vox
    if velocity_vox is not None:
        step = _placed(step + keep * velocity_vox, region, velocity_vox)
    return _placed(reference.take_step(step, field_vox, limit), region, out)


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

        first_vox, second_vox = ctx.saved_tensors
        by_first, by_second = ctx.needs_input_grad
        return cpu.compose_adjoint(first_vox, second_vox, gradient, by_first, by_second)


def exponential(velocity_vox: Tensor, squarings: int) -> Tensor:
    """Displacements of ``exp(v)`` for a stationary velocity field ``(B, d, *shape)``.

    Scaling and squaring (Arsigny et al. 2006, doi:10.1007/11866565_113): the field over
    ``2**squarings`` is composed with itself that often. Differentiable once.
    """
    displacement = velocity_vox / 2**squarings
    for _ in range(squarings):
        displacement = compose(displacement, displacement)
    return displacement


def jacobian_determinant(displacement_vox: Tensor) -> Tensor:
    """Determinants ``(B, *shape)`` of ``I + du/dx`` for fields ``(B, d, *shape)``.

    Central differences, one-sided at the faces; along an axis of one voxel nothing changes.
    Differentiable.
    """
    wanted = torch.is_grad_enabled() and displacement_vox.requires_grad
    if fused(displacement_vox) and not wanted:
        from stn3d.kernels import cpu

        return cpu.jacobian_determinant(displacement_vox)
    return reference.jacobian_determinant(displacement_vox)


def invert(
    displacement_vox: Tensor,
    matrix: Tensor,
    shape: Sequence[int],
    mm_from_vox: Tensor,
    tolerance_mm: float,
    max_iterations: int,
) -> tuple[Tensor, float]:
    """``w`` with ``w + u(y + w) = 0`` at the voxels y of a grid, which may be another than u's.

    Fixed-point iteration ``w <- -u(y + w)`` (Chen et al. 2008, doi:10.1118/1.2816107), and Newton
    steps for the points at which that does not contract. Carries no gradient.

    Args:
        displacement_vox: u, ``(B, d, *shape_u)`` in the voxels of its own grid.
        matrix: ``(d + 1, d + 1)``, indices of u's grid from indices of the wanted grid.
        shape: of the wanted grid.
        mm_from_vox: ``(d, d)``, millimetres from vectors in u's voxels.
        tolerance_mm: a point is done when ``|w + u(y + w)|`` is below this.
        max_iterations: at most this many evaluations for a point, in each of two trials.

    Returns:
        ``(B, d, *shape)`` in the voxels of u's grid, and the largest residual in millimetres,
        infinite if it is nowhere a number at some voxel.
    """
    options = (matrix, tuple(shape), mm_from_vox, tolerance_mm, max_iterations)
    with torch.no_grad():
        if fused(displacement_vox):
            from stn3d.kernels import cpu

            return cpu.invert(displacement_vox, *options)
        return reference.invert(displacement_vox, *options)


def box_sum(image: Tensor, radii: Sequence[int]) -> Tensor:
    """Sums over windows of ``2 r + 1`` voxels along each axis; nothing lies beyond the faces."""
    result: Tensor = (
        _BoxSum.apply(image, tuple(radii)) if fused(image) else reference.box_sum(image, radii)
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
    windows: Region | None = None,
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
        windows: where the centres of windows with any texture are, if that is known.

    Returns:
        A scalar; differentiable once in fixed, moved and weight.
    """
    options = (tuple(radii), float(noise_fixed), float(noise_moved))
    if fused(fixed, moved, weight):
        result: Tensor = _Lncc.apply(fixed, moved, weight, *options, windows)
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
        windows: Region | None,
    ) -> Tensor:
        from stn3d.kernels import cpu

        by_fixed, by_moved, by_weight = ctx.needs_input_grad[:3]
        options = radii, noise_fixed, noise_moved, windows
        value, to_moved, to_fixed, to_weight = cpu.lncc(
            fixed, moved, weight, *options, by_moved, by_fixed or by_weight
        )
        ctx.save_for_backward(
            to_fixed if by_fixed else None,
            to_moved if by_moved else None,
            to_weight if by_weight else None,
        )
        return fixed.new_tensor(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        slopes = ctx.saved_tensors
        if float(gradients[0]) != 1:  # spares a pass over the volume
            slopes = [None if s is None else gradients[0] * s for s in slopes]
        return *slopes, None, None, None, None


def gaussian_smooth(
    image: Tensor,
    sigma_vox: Sequence[float],
    region: Region | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Convolve ``(B, C, *shape)`` with a Gaussian along each axis, cut off at three sigmas.

    Beyond the faces the outer voxels go on. A sigma below 0.1 voxel leaves its axis alone. Carries
    no gradient.

    Args:
        image: ``(B, C, *shape)``.
        sigma_vox: one for each axis.
        region: where the result is wanted; elsewhere ``out`` is left as it is.
        out: where it goes; not the image itself.
    """
    if fused(image):
        from stn3d.kernels import cpu

        return cpu.gaussian_smooth(image, sigma_vox, region, out)
    smooth = reference.gaussian_smooth(image, sigma_vox)
    return smooth if out is None else _placed(smooth, region, out)


def diffuse_divergence(
    field_vox: Tensor, weights: Sequence[float], region: Region, out: Tensor
) -> Tensor:
    """``u + w grad div u``: level out how a field grows and shrinks, not how it turns and shears.

    Differences are of neighbouring voxels. Stable for weights up to about 1/6 together with what
    `gaussian_smooth` does. Carries no gradient.

    Args:
        field_vox: ``(1, d, *shape)``.
        weights: one for each axis: on a grid of unequal spacings as the inverse squares of these.
        region: where the result is wanted, without the grid's outermost voxels.
        out: where it goes; elsewhere it is left as it is.
    """
    if fused(field_vox) and field_vox.shape[-1] > 1:
        from stn3d.kernels import cpu

        return cpu.diffuse_divergence(field_vox, weights, region, out)
    return _placed(reference.diffuse_divergence(field_vox, weights), region, out)


def taper(
    vectors: Tensor, weights: Sequence[Tensor], region: Region | None = None, quantile: float = 1.0
) -> float:
    """Weigh the vectors of a field in place, and measure them.

    Args:
        vectors: ``(1, d, *shape)``.
        weights: ``(n,)`` for each axis; their product counts.
        region: where there are any vectors but 0.
        quantile: which one of their lengths is wanted; of vectors that are not 0, in some of the
            rows of a large field, in all of a small one.

    Returns:
        A length; 0 where all vectors are.
    """
    if fused(vectors) and vectors.is_contiguous():
        from stn3d.kernels import cpu

        return cpu.taper(vectors, weights, region, quantile)
    part = vectors if region is None else _placed(vectors, region, torch.zeros_like(vectors))
    length = reference.taper(part, weights, quantile)
    _placed(part, region, vectors)
    return length


def _placed(found: Tensor, region: Region | None, out: Tensor) -> Tensor:
    """What was found everywhere, put where it is wanted."""
    if region is None:
        return out.copy_(found)
    where = region.mask(out.shape[2:]).to(out.device)
    return out.copy_(torch.where(where, found, out))
