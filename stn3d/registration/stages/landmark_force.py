"""Landmarks that draw a displacement field towards where they belong, beside the images' force."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stn3d.grid import Grid, apply_matrix
from stn3d.losses.points import LandmarkTerm
from stn3d.sampler import inside, sample
from stn3d.transforms import Linear

_SIGMA_VOX = 2.0  # of what one landmark moves along with it; coarse levels carry it far
_LONGEST_VOX = 1.0  # of one iteration


@dataclass(frozen=True, eq=False)
class LandmarkForce:
    """Landmarks on one level of a dense stage, in voxels of its grid.

    Each iteration takes a share ``w / (1 + w)`` of what is left to each landmark, at most a voxel,
    and what lies around goes along by a Gaussian; where several reach, they share by their weights.

    Args:
        term: the landmarks within the grid, and their weight w.
        grid: of the level.
        at: ``(N, d)`` where they lie.
        goal: ``(N, d)`` where the field must lead them.
        where: ``(M,)`` numbers of the voxels around them, once for each landmark near.
        owner: ``(M,)`` which landmark that is.
        share: ``(M,)`` of its move.
    """

    term: LandmarkTerm
    grid: Grid
    at: Tensor
    goal: Tensor
    where: Tensor
    owner: Tensor
    share: Tensor

    @classmethod
    def of(
        cls, term: LandmarkTerm, grid: Grid, linear: Linear, taper: Sequence[Tensor]
    ) -> LandmarkForce | None:
        """Of landmarks on a grid; None where none lies within it.

        Args:
            term: the landmarks.
            grid: of the level.
            linear: what comes after the field.
            taper: weights of moves along each axis.
        """
        at = apply_matrix(grid.index_from_world, term.fixed_mm)
        goal = apply_matrix(grid.index_from_world, linear.inverse()(term.moving_mm))
        held = inside(at, grid.shape)
        if not bool(held.any()):
            return None
        at, goal = at[held], goal[held]
        kept = LandmarkTerm(term.fixed_mm[held], term.moving_mm[held], term.weight)
        reach = math.ceil(3 * _SIGMA_VOX)
        near = torch.cartesian_prod(*[torch.arange(-reach, reach + 1)] * grid.ndim)
        voxels = at.round().long()[:, None] + near.reshape(1, -1, grid.ndim)
        sizes = torch.tensor(grid.shape)
        there = ((voxels >= 0) & (voxels < sizes)).all(dim=-1)
        owner = there.nonzero()[:, 0]
        voxels = voxels[there]
        square = (voxels - at[owner]).square().sum(dim=-1)
        weight = torch.exp(-square / (2 * _SIGMA_VOX**2))
        strides = [math.prod(grid.shape[axis + 1 :]) for axis in range(grid.ndim)]
        where = (voxels * torch.tensor(strides)).sum(dim=-1)
        total = weight.new_zeros(grid.num_voxels).index_add_(0, where, weight)
        fading = math.prod(w[voxels[:, axis]].double() for axis, w in enumerate(taper))
        rate = term.weight / (1 + term.weight)
        share = rate * fading * weight / total[where].clamp(min=1)
        return cls(kept, grid, at, goal, where, owner, share)

    def _left(self, u: Tensor) -> Tensor:
        """``(N, d)`` voxels from where a field leads the landmarks to where they belong."""
        led = sample(u, self.at[None].to(u))[0].mT
        return self.goal.to(u.device) - self.at.to(u.device) - led

    def loss(self, u: Tensor) -> float:
        """What a field ``(1, d, *grid.shape)`` in voxels leaves of the landmarks' distances."""
        spacing = torch.tensor(self.grid.spacing_mm, dtype=torch.float64)
        return float(self.term.of_distances(self._left(u).cpu() * spacing))

    def add_to(self, step: Tensor, u: Tensor, scale: float) -> None:
        """Add the landmarks' moves in voxels, times a scale, to a step ``(1, d, *grid.shape)``."""
        left = self._left(u)
        length = torch.linalg.vector_norm(left, dim=-1, keepdim=True)
        left = left * (_LONGEST_VOX / length.clamp(min=_LONGEST_VOX))
        moves = scale * self.share.to(u.device)[:, None] * left[self.owner.to(u.device)]
        step[0].flatten(1).index_add_(1, self.where.to(u.device), moves.mT.to(step))
