"""Jacobian determinants of displacement fields."""

from __future__ import annotations

from torch import Tensor

from stn3d.kernels.common.dispatch import implementation, needs_gradient


def jacobian_determinant(displacement_vox: Tensor) -> Tensor:
    """Determinants ``(B, *shape)`` of ``I + du/dx`` for fields ``(B, d, *shape)``.

    Central differences, one-sided at the faces; the derivative along an axis of one voxel is 0.
    Differentiable.
    """
    plain = not needs_gradient(displacement_vox)
    return implementation(__name__, displacement_vox, when=plain).jacobian_determinant(
        displacement_vox
    )
