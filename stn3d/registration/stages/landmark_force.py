"""Force of landmarks on a displacement field, added to the images' force."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stn3d.grid import Grid, apply_matrix
from stn3d.preprocessing.landmark_term import LandmarkTerm
from stn3d.sampler import inside, sample
from stn3d.transforms import Linear

_SIGMA_VOX = 2.0  # of the Gaussian that spreads a landmark's step; coarse levels spread it farther
_MAX_STEP_VOX = 1.0  # in one iteration


@dataclass(frozen=True, eq=False)
class LandmarkForce:
    """The landmarks on one level of a deformable stage, in voxels of its grid.

    For a weight w, each iteration moves every landmark by a fraction ``w / (1 + w)`` of its
    residual, at most one voxel. A Gaussian spreads the step to the voxels around it; several
    landmarks share a voxel by their Gaussian weights.

    Args:
        term: The landmarks within the grid, and their weight w.
        grid: Grid of the level.
        position: ``(N, d)`` indices of the landmarks.
        target: ``(N, d)`` indices that the field must map them to.
        voxel: ``(M,)`` flat indices of the voxels around the landmarks, once for each landmark.
        landmark: ``(M,)`` number of that landmark.
        fraction: ``(M,)`` fraction of the landmark's residual that the voxel moves by.
    """

    term: LandmarkTerm
    grid: Grid
    position: Tensor
    target: Tensor
    voxel: Tensor
    landmark: Tensor
    fraction: Tensor

    @classmethod
    def of(
        cls, term: LandmarkTerm, grid: Grid, linear: Linear, boundary: Sequence[Tensor]
    ) -> LandmarkForce | None:
        """The force of landmarks on a grid; None where no landmark lies within it.

        Args:
            term: The landmarks.
            grid: Grid of the level.
            linear: The transform after the field.
            boundary: Weights of steps along each axis.
        """
        position = apply_matrix(grid.index_from_world, term.fixed_mm)
        target = apply_matrix(grid.index_from_world, linear.inverse()(term.moving_mm))
        held = inside(position, grid.shape)
        if not bool(held.any()):
            return None
        position, target = position[held], target[held]
        kept = replace(term, fixed_mm=term.fixed_mm[held], moving_mm=term.moving_mm[held])
        voxels, landmark = _neighbourhoods(position, grid)
        square = (voxels - position[landmark]).square().sum(dim=-1)
        gaussian = torch.exp(-square / (2 * _SIGMA_VOX**2))
        strides = [math.prod(grid.shape[axis + 1 :]) for axis in range(grid.ndim)]
        voxel = (voxels * torch.tensor(strides)).sum(dim=-1)
        total = gaussian.new_zeros(grid.num_voxels).index_add_(0, voxel, gaussian)
        fading = math.prod(w[voxels[:, axis]].double() for axis, w in enumerate(boundary))
        rate = term.weight / (1 + term.weight)
        fraction = rate * fading * gaussian / total[voxel].clamp(min=1)
        return cls(kept, grid, position, target, voxel, landmark, fraction)

    def _residual(self, u: Tensor) -> Tensor:
        """``(N, d)`` voxels from where a field maps the landmarks to their targets."""
        moved = sample(u, self.position[None].to(u))[0].mT
        return self.target.to(u.device) - self.position.to(u.device) - moved

    def loss(self, u: Tensor) -> float:
        """The landmark term of a field ``(1, d, *grid.shape)`` in voxels."""
        spacing = torch.tensor(self.grid.spacing_mm, dtype=torch.float64)
        return float(self.term.of_distances(self._residual(u).cpu() * spacing))

    def add_to(self, step: Tensor, u: Tensor, scale: float) -> None:
        """Add the landmarks' steps in voxels, times a scale, to a step.

        Args:
            step: ``(1, d, *grid.shape)``, changed in place.
            u: The field, ``(1, d, *grid.shape)`` in voxels.
            scale: Factor of the landmarks' steps.
        """
        left = self._residual(u)
        length = torch.linalg.vector_norm(left, dim=-1, keepdim=True)
        left = left * (_MAX_STEP_VOX / length.clamp(min=_MAX_STEP_VOX))
        moves = scale * self.fraction.to(u.device)[:, None] * left[self.landmark.to(u.device)]
        step[0].flatten(1).index_add_(1, self.voxel.to(u.device), moves.mT.to(step))


def _neighbourhoods(position: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Voxels ``(M, d)`` within three sigmas of each landmark, and the number of the landmark."""
    reach = math.ceil(3 * _SIGMA_VOX)
    near = torch.cartesian_prod(*[torch.arange(-reach, reach + 1)] * grid.ndim)
    voxels = position.round().long()[:, None] + near.reshape(1, -1, grid.ndim)
    within = ((voxels >= 0) & (voxels < torch.tensor(grid.shape))).all(dim=-1)
    return voxels[within], within.nonzero()[:, 0]
