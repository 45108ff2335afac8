"""Segmentation of a prepared image: probabilities of the structures of the head in world space."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from stn3d import kernels
from stn3d.grid import Grid
from stn3d.nets.precision import has_native_bfloat16
from stn3d.nets.weights import TrainedNetwork
from stn3d.nets.working_grid import working_image
from stn3d.preprocessing.prepared import PreparedImage, bounding_box
from stn3d.structures import brain_classes
from stn3d.transforms import Affine

_MARGIN_VOX = 4  # background kept around the head in the first pass
_MARGIN_MM = 20.0  # surroundings kept around the brain in the second pass
_CLOSING_MM = 6.0  # width of half a fissure that the brain mask fills
_MIN_BRAIN_ML = 100.0  # a smaller brain is not trusted to place the second pass


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Probabilities of the classes of `stn3d.structures.STRUCTURES` on a working grid.

    Args:
        probabilities: ``(1, classes, *grid.shape)`` float32, sum 1.
        grid: Isotropic working grid; its axes are upright in the head, not necessarily the world's.
        seen: ``(1, 1, *grid.shape)`` from 0 to 1, 0 outside the image's field of view.
    """

    probabilities: Tensor
    grid: Grid
    seen: Tensor

    @property
    def classes(self) -> Tensor:
        """``(1, 1, *grid.shape)`` uint8, the most probable class of each voxel."""
        return self.probabilities.argmax(dim=1, keepdim=True).to(torch.uint8)

    @property
    def brain(self) -> Tensor:
        """``(1, 1, *grid.shape)`` probability of the brain: its tissue and ventricles."""
        return self.probabilities[:, brain_classes()].sum(dim=1, keepdim=True)

    @property
    def mask(self) -> Tensor:
        """``(1, 1, *grid.shape)`` bool, the brain with the fluid in its fissures.

        The largest connected part of the brain, closed by `_CLOSING_MM`, without holes.
        """
        brain = self.brain[0, 0].cpu().numpy() > 0.5
        parts, count = ndimage.label(brain)
        if count > 1:
            brain = parts == np.bincount(parts.ravel())[1:].argmax() + 1
        steps = round(_CLOSING_MM / min(self.grid.spacing_mm))
        closed = ndimage.binary_closing(np.pad(brain, steps), iterations=steps)
        closed = ndimage.binary_fill_holes(closed)[(slice(steps, -steps or None),) * brain.ndim]
        return torch.from_numpy(closed)[None, None]

    @property
    def uncertainty(self) -> Tensor:
        """``(1, 1, *grid.shape)`` entropy as a fraction of the largest possible, from 0 to 1."""
        p = self.probabilities
        entropy = -(p * p.clamp(min=1e-12).log()).sum(dim=1, keepdim=True)
        return entropy / math.log(p.shape[1])

    def classes_on(self, grid: Grid) -> Tensor:
        """The most probable class at the voxels of another grid, 0 outside the working grid.

        Args:
            grid: Grid of the result.

        Returns:
            ``(1, 1, *grid.shape)`` uint8.
        """
        matrix = self.grid.index_from_world @ grid.world_from_index
        best = torch.zeros(1, 1, *grid.shape)
        found = torch.zeros_like(best, dtype=torch.uint8)
        for number in range(1, self.probabilities.shape[1]):
            here = kernels.resample(self.probabilities[:, number : number + 1], matrix, grid.shape)
            better = here > best
            best, found = torch.maximum(best, here), found.masked_fill_(better, number)
        background = kernels.resample(self.probabilities[:, :1], matrix, grid.shape)
        return found.masked_fill_(background > best, 0)


def segment(
    trained: TrainedNetwork, image: PreparedImage, upright_from_world: Affine | None = None
) -> Segmentation:
    """Segment the head in an image.

    The network sees the whole image first, then the surroundings of the brain that it found.

    Args:
        trained: A `SegmentationNetwork` and its spacing.
        image: Any spacing and field of view; the head may be rotated by about 20 degrees.
        upright_from_world: Rigid transform that rotates the head upright (RAS), for example from
            `stn3d.nets.pose.estimate_pose`. Default: the image's axes are right.
    """
    spacing_mm = trained.preprocessing["spacing_mm"]
    upright = Affine.identity(3) if upright_from_world is None else upright_from_world
    grid = Grid(image.grid.shape, upright.matrix @ image.grid.world_from_index)
    turned = working_image(PreparedImage(image.image, grid, image.mask), spacing_mm, _MARGIN_VOX)
    probabilities = _probabilities(trained, turned)
    near = _brain_box(probabilities, turned.grid)
    if near is not None:
        turned = turned.cropped(*near)
        probabilities = _probabilities(trained, turned)
    assert turned.mask is not None
    world = torch.linalg.inv(upright.matrix) @ turned.grid.world_from_index
    return Segmentation(probabilities, Grid(turned.grid.shape, world), turned.mask)


@torch.no_grad()
def _probabilities(trained: TrainedNetwork, image: PreparedImage) -> Tensor:
    device = image.image.device
    with torch.autocast(device.type, torch.bfloat16, enabled=has_native_bfloat16(device)):
        logits = trained.network(image.image[:, :1])
    return torch.softmax(logits.movedim(1, -1).float(), dim=-1).movedim(-1, 1).contiguous()


def _brain_box(probabilities: Tensor, grid: Grid) -> tuple[list[int], list[int]] | None:
    """The surroundings of the brain in voxels; None without a plausible brain."""
    brain = probabilities[0, brain_classes()].sum(dim=0) > 0.5
    spacing_mm = min(grid.spacing_mm)
    if float(brain.sum()) * spacing_mm**3 / 1000 < _MIN_BRAIN_ML:
        return None
    start, stop = bounding_box(brain)
    margin = round(_MARGIN_MM / spacing_mm)
    return [a - margin for a in start], [b + margin for b in stop]
