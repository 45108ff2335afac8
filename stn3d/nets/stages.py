"""Networks as stages of a registration: from scans of any grid to transforms of the world."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stn3d import kernels
from stn3d.nets.chart import ChartNetwork
from stn3d.nets.frame import on_grid, working_image
from stn3d.nets.pose import Pose, find_pose, transform_between
from stn3d.nets.precision import bfloat16_is_fast
from stn3d.nets.weights import Trained
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.stages.base import Level, Progress, ProgressEvent
from stn3d.transforms import Affine, DisplacementField, LinearKind, Transform
from stn3d.transforms.dense import in_mm

_VISITS = 25  # one pass of a network takes as long as so many iterations of an optimiser
_FADE_VOX = 3  # the field fades to 0 over so many voxels at its grid's faces


@dataclass(frozen=True, eq=False)
class NetworkStart:
    """Finds where to start from the heads' poses: no start is needed, at any angle trained.

    Args:
        trained: a `ChartNetwork` and the spacing that it was trained at.
        credible_mm: a fit whose mean distance from the charts is more is not believed.
    """

    trained: Trained
    credible_mm: float = 15.0

    def __call__(self, pair: Pair, kind: LinearKind) -> Affine | None:
        """Fixed to moving points; None where either image holds no head that the network knows."""
        fixed, moving = self._pose(pair.fixed), self._pose(pair.moving)
        if fixed is None or moving is None:
            return None
        return transform_between(kind, fixed, moving)

    def _pose(self, scan: PreparedImage) -> Pose | None:
        network = self.trained.network
        assert isinstance(network, ChartNetwork)
        pose = find_pose(network, scan, self.trained.preparation["spacing_mm"])
        return pose if pose is not None and pose.residual_mm <= self.credible_mm else None


@dataclass(frozen=True, eq=False)
class NetworkStage:
    """Finds a dense residual by one pass of a network.

    Args:
        trained: a network from pairs to displacements, and the spacing that it was trained at.
        margin_mm: how far the field reaches around what the fixed image shows.
    """

    trained: Trained
    margin_mm: float = 8.0

    @property
    def name(self) -> str:
        return "network"

    def levels(self, pair: Pair) -> list[Level]:
        """One level: the grid that the network works on."""
        spacing_mm = self.trained.preparation["spacing_mm"]
        return [Level(spacing_mm, pair.fixed.grid.coarsened(spacing_mm).num_voxels, _VISITS)]

    @torch.no_grad()
    def __call__(self, pair: Pair, current: Transform, progress: Progress) -> Transform:
        progress(ProgressEvent(self.name, 0.0))
        spacing_mm = self.trained.preparation["spacing_mm"]
        fixed = working_image(pair.fixed, spacing_mm, self.margin_mm)
        moving, _ = on_grid(pair.moving, current, fixed.grid)
        images = torch.cat([fixed.image, moving], dim=1)
        fast = bfloat16_is_fast(images.device)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=fast):
            found = self.trained.network(images)
        u = found.float().contiguous()
        kernels.apply_boundary_window(u, [_fading(n) for n in fixed.grid.shape])
        return DisplacementField(in_mm(u, fixed.grid), fixed.grid).then(current)


def _fading(n: int) -> Tensor:
    """``(n,)`` weights that rise from 0 at the ends to 1."""
    i = torch.arange(n)
    return (torch.minimum(i, n - 1 - i) / _FADE_VOX).clamp(max=1)
