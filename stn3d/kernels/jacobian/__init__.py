"""How a field stretches the space around each voxel."""

from __future__ import annotations

import torch
from torch import Tensor

from stn3d.kernels import dispatch, reference


def jacobian_determinant(displacement_vox: Tensor) -> Tensor:
    """Determinants ``(B, *shape)`` of ``I + du/dx`` for fields ``(B, d, *shape)``.

    Central differences, one-sided at the faces; along an axis of one voxel nothing changes.
    Differentiable.
    """
    wanted = torch.is_grad_enabled() and displacement_vox.requires_grad
    if dispatch.fused(displacement_vox) and not wanted:
        from stn3d.kernels import cpu

        return cpu.jacobian_determinant(displacement_vox)
    return reference.jacobian_determinant(displacement_vox)
