"""Rigid, similarity and affine residuals by quasi-Newton steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from stn3d.losses.similarity import Similarity
from stn3d.optimise.stage import Progress
from stn3d.pair import Pair, Scan, dissimilarity
from stn3d.transforms import LINEAR_KINDS, Linear, LinearKind, Transform


@dataclass(frozen=True)
class LinearStage:
    """Finds a rigid, similarity or affine residual by quasi-Newton steps, coarse to fine.

    L-BFGS (Nocedal 1980, by SciPy) on parameters scaled so that a unit moves the image by about a
    millimetre; a level ends when the loss changes by less than the tolerance, relatively.

    Args:
        kind: ``rigid``, ``similarity`` or ``affine``.
        similarity: the images' loss.
        factors: levels, in multiples of the finest spacing, coarse to fine.
        iterations: at most this many on each level.
        radius_vox: half the window of the local correlation, in voxels of the level.
        tolerance: see above.
    """

    kind: LinearKind
    similarity: Similarity = "lncc"
    factors: tuple[float, ...] = (8, 4, 2)
    iterations: int = 50
    radius_vox: float = 2.0
    tolerance: float = 1e-6

    @property
    def name(self) -> str:
        return self.kind

    def __call__(self, pair: Pair, so_far: Transform, progress: Progress) -> Transform:
        make = LINEAR_KINDS[self.kind]
        grid = pair.fixed.grid
        d, centre = grid.ndim, grid.centre_mm
        start = make.identity_parameters(d)
        radius_mm = 0.25 * sum(grid.size_mm) / d
        scale = torch.cat([torch.full((len(start) - d,), 1 / radius_mm), torch.ones(d)]).double()
        steps = torch.zeros_like(start)
        for spacing in pair.level_spacings_mm(self.factors):
            fixed, moving = pair.fixed.at(spacing), pair.moving.at(spacing)
            if not isinstance(so_far, Linear):
                # What it makes of the moving scan stands in for that: then a matrix is all.
                moving = moving.through(so_far, fixed.grid.padded(0.25 * max(grid.size_mm)))

            def loss_of(steps: Tensor, fixed: Scan = fixed, moving: Scan = moving) -> Tensor:
                residual = make(start + scale * steps, centre)
                total = residual.then(so_far) if isinstance(so_far, Linear) else residual
                assert isinstance(total, Linear)
                to_world, from_world = fixed.grid.world_from_index, moving.grid.index_from_world
                matrix = from_world @ total.matrix @ to_world
                return dissimilarity(fixed, moving, matrix, self.similarity, self.radius_vox)

            def note(iteration: int, loss: float, spacing: float = spacing) -> None:
                progress(self.name, spacing, iteration, loss)

            steps = self._minimise(loss_of, steps, 0.5 * spacing, note)
        return make(start + scale * steps, centre).then(so_far)

    def _minimise(
        self,
        loss_of: Callable[[Tensor], Tensor],
        start: Tensor,
        first_step_mm: float,
        note: Callable[[int, float], None],
    ) -> Tensor:
        """The steps of least loss; the first trial moves about ``first_step_mm``."""
        count, unit = 0, 0.0

        def evaluated(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            nonlocal count, unit
            steps = (start + first_step_mm * torch.from_numpy(x)).requires_grad_()
            loss = loss_of(steps)
            (gradient,) = torch.autograd.grad(loss, steps)
            # Scaled so that the first gradient is the first trial step.
            unit = unit or 1 / max(first_step_mm * float(gradient.norm()), 1e-12)
            value = float(loss.detach())
            note(count, value)
            count += 1
            return unit * value, unit * first_step_mm * gradient.numpy()

        options = {"maxiter": self.iterations, "ftol": self.tolerance, "gtol": 0.0, "maxls": 10}
        x0 = np.zeros(len(start))
        result = minimize(evaluated, x0, jac=True, method="L-BFGS-B", options=options)
        return start + first_step_mm * torch.from_numpy(result.x)
