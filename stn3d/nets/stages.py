"""Networks as parts of a registration: prepared images in, transforms in world coordinates out."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch

from stn3d.nets.coordinates import CoordinateRegressor
from stn3d.nets.pose import Pose, estimate_pose, transform_between
from stn3d.nets.precision import has_native_bfloat16
from stn3d.nets.weights import TrainedNetwork
from stn3d.nets.working_grid import MARGIN_VOX, fade_at_border, resample_through, working_image
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.stages.base import Level, Progress, ProgressEvent, Stage
from stn3d.transforms import Affine, DisplacementField, LinearKind, Transform
from stn3d.transforms.dense import in_mm

logger = logging.getLogger("stn3d.nets")

_ITERATIONS = 25  # of an optimiser that take as long as one pass of a network


@dataclass(frozen=True, eq=False)
class NetworkInitialiser:
    """Initial linear transform from the poses of both heads, at any rotation in the training range.

    Args:
        trained: A `CoordinateRegressor` and its spacing.
        max_residual_vox: Poses with a larger mean residual are rejected, in voxels of the network.
    """

    trained: TrainedNetwork
    max_residual_vox: float = 3.75

    def __call__(self, pair: Pair, kind: LinearKind) -> Affine | None:
        """Fixed points to moving points; None if an image has no pose that is accepted."""
        fixed = self._pose(pair.fixed)
        moving = None if fixed is None else self._pose(pair.moving)
        return None if fixed is None or moving is None else transform_between(kind, fixed, moving)

    def _pose(self, image: PreparedImage) -> Pose | None:
        network = self.trained.network
        assert isinstance(network, CoordinateRegressor)
        spacing_mm = self.trained.preprocessing["spacing_mm"]
        pose = estimate_pose(network, image, spacing_mm)
        accepted = pose is not None and pose.residual_mm <= self.max_residual_vox * spacing_mm
        return pose if accepted else None


@dataclass(frozen=True, eq=False)
class NetworkStage(Stage):
    """Residual dense displacement field from one forward pass of a network.

    Args:
        trained: A network from pairs to displacements and its spacing.
        objective: The stage that the network replaces or precedes; by its loss the field is kept.
        margin_vox: Extent of the field beyond the foreground of the fixed image, in voxels of the
            network.
    """

    trained: TrainedNetwork
    objective: Stage
    margin_vox: int = MARGIN_VOX

    @property
    def name(self) -> str:
        return "network"

    def levels(self, pair: Pair) -> list[Level]:
        """One level: the grid that the network works on."""
        spacing_mm = self.trained.preprocessing["spacing_mm"]
        return [Level(spacing_mm, pair.fixed.grid.coarsened(spacing_mm).num_voxels, _ITERATIONS)]

    def loss(self, pair: Pair, transform: Transform) -> float:
        """The loss of the stage that the network replaces or precedes."""
        return self.objective.loss(pair, transform)

    def rejected(self, before: float, after: float) -> None:
        """Say that the network's field is not used."""
        logger.warning(
            f"the deformable network is not used: its displacements raise the loss from "
            f"{before:.4g} to {after:.4g}."
        )

    @torch.no_grad()
    def estimate(self, pair: Pair, current: Transform, progress: Progress) -> Transform:
        """The residual field composed with the current transform, fixed to moving points."""
        progress(ProgressEvent(self.name, 0.0))
        spacing_mm = self.trained.preprocessing["spacing_mm"]
        fixed = working_image(pair.fixed, spacing_mm, self.margin_vox)
        moving, _ = resample_through(pair.moving, current, fixed.grid)
        images = torch.cat([fixed.image, moving], dim=1)
        native = has_native_bfloat16(images.device)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=native):
            output = self.trained.network(images)
        u = fade_at_border(output.float().contiguous())
        return DisplacementField(in_mm(u, fixed.grid), fixed.grid).then(current)
