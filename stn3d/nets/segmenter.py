"""Segmentation of a prepared image: probabilities of the structures of the head in world space."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from stn3d import kernels
from stn3d.grid import Grid, centred_grid, homogeneous
from stn3d.nets.coordinates import CoordinateRegressor
from stn3d.nets.pose import estimate_pose
from stn3d.nets.precision import has_native_bfloat16
from stn3d.nets.weights import TrainedNetwork
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.structures import brain_classes, classes_of_groups
from stn3d.transforms import Affine
from stn3d.transforms.fit import fit_linear

_BOX_MM = (192.0, 224.0, 192.0)  # extent of the working grid: a brain and its surroundings
_MAX_PASSES = 2
_CENTRED_MM = 8.0  # distance of the brain from the centre of the box that needs no other pass
_COARSE_MM, _FOREGROUND = 4.0, 0.2  # of the centre of an image without a pose
_FLUID_MM = 8.0  # distance from the brain up to which its mask contains fluid
_MASKED = 0.3  # probability from which on a voxel belongs to the mask
_MIN_BRAIN_ML = 100.0  # a smaller brain does not place the next pass


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

    @cached_property
    def mask(self) -> Tensor:
        """``(1, 1, *grid.shape)`` bool, the brain with the fluid around it.

        The largest connected part of the brain, and fluid up to `_FLUID_MM` from it, without holes.
        Brain masks of templates, such as that of MNI152, contain this fluid too.
        """
        brain = self.brain[0, 0].cpu().numpy() > _MASKED
        parts, count = ndimage.label(brain)
        if count > 1:
            brain = parts == np.bincount(parts.ravel())[1:].argmax() + 1
        wet = (
            self.brain + self.probabilities[:, classes_of_groups("outer fluid")].sum(1, True)
        ) > _MASKED
        steps = round(_FLUID_MM / min(self.grid.spacing_mm))
        near = ndimage.binary_dilation(brain, iterations=max(1, steps)) & wet[0, 0].cpu().numpy()
        return torch.from_numpy(ndimage.binary_fill_holes(near | brain))[None, None]

    @property
    def uncertainty(self) -> Tensor:
        """``(1, 1, *grid.shape)`` entropy as a fraction of the largest possible, from 0 to 1."""
        return _entropy(self.probabilities)

    def uncertainty_within(self, mask: Tensor) -> Tensor:
        """``(N,)`` uncertainty of the voxels of a mask ``(1, 1, *grid.shape)``."""
        voxels = self.probabilities[0][:, mask[0, 0].to(self.probabilities.device)]
        return _entropy(voxels[None])[0, 0]

    def classes_on(self, grid: Grid) -> Tensor:
        """The most probable class at the voxels of another grid, 0 outside the working grid.

        Args:
            grid: Grid of the result.

        Returns:
            ``(1, 1, *grid.shape)`` uint8.
        """
        matrix = self.grid.index_from_world @ grid.world_from_index
        return kernels.resample_classes(self.probabilities, matrix, grid.shape).cpu()

    def mask_on(self, grid: Grid) -> Tensor:
        """The mask at the voxels of another grid, False outside the working grid.

        Args:
            grid: Grid of the result.

        Returns:
            ``(1, 1, *grid.shape)`` bool.
        """
        matrix = self.grid.index_from_world @ grid.world_from_index
        mask = self.mask.float()
        return kernels.resample_classes(torch.cat([1 - mask, mask], 1), matrix, grid.shape).bool()


def _entropy(probabilities: Tensor) -> Tensor:
    """``(1, 1, ...)`` entropy of ``(1, classes, ...)`` as a fraction of the largest possible."""
    entropy = torch.special.entr(probabilities).sum(dim=1, keepdim=True)
    return entropy / math.log(probabilities.shape[1])


def upright_frame(coordinates: TrainedNetwork, image: PreparedImage) -> Affine:
    """The rigid transform from an image's world to an upright frame (RAS) around the brain.

    Its origin is the centre of the brain. Where the network finds no head, the axes are those of
    the image's world, and the origin is the centre of the foreground.

    Args:
        coordinates: A `CoordinateRegressor`, the bundled network ``affine``, and its spacing.
        image: Any orientation, spacing and field of view.
    """
    network = coordinates.network
    assert isinstance(network, CoordinateRegressor)
    pose = estimate_pose(network, image, coordinates.preprocessing["spacing_mm"])
    if pose is None:
        centre = foreground_centre(image)
        return Affine.from_matrix(homogeneous(torch.eye(len(centre)).double(), -centre))
    points = pose.points_mm
    return fit_linear("rigid", points, pose.common_from_world(points), pose.weight)


def foreground_centre(image: PreparedImage) -> Tensor:
    """``(d,)`` centre of mass of the brighter half of an image's range, in mm."""
    coarse = image.at(_COARSE_MM)
    weight = (coarse.image[0, 0] > _FOREGROUND) * 1.0
    points = coarse.grid.points_mm()
    return (points * weight[..., None]).flatten(0, -2).sum(0) / weight.sum().clamp(min=1)


def segment(
    trained: TrainedNetwork, image: PreparedImage, upright_from_world: Affine
) -> Segmentation:
    """Segment the head in an image, within a box around its brain.

    Args:
        trained: A `SegmentationNetwork` and its spacing.
        image: Any orientation, spacing and field of view.
        upright_from_world: As from `upright_frame`; the head may be off by about 20 degrees and
            25 mm.
    """
    spacing_mm = trained.preprocessing["spacing_mm"]
    box = centred_grid([round(mm / spacing_mm) for mm in _BOX_MM], spacing_mm)
    coarse = image.at(spacing_mm)
    for _ in range(_MAX_PASSES):
        seen = coarse.warped(upright_from_world.inverse(), box)
        probabilities = _probabilities(trained, seen)
        off = _brain_centre(probabilities, box)
        if off is None or float(torch.linalg.vector_norm(off)) < _CENTRED_MM:
            break
        step = Affine.from_matrix(homogeneous(torch.eye(3).double(), -off))
        moved = upright_from_world.then(step)
        assert isinstance(moved, Affine)
        upright_from_world = moved
    assert seen.mask is not None
    world_from_index = torch.linalg.inv(upright_from_world.matrix) @ box.world_from_index
    return Segmentation(probabilities, Grid(box.shape, world_from_index), seen.mask)


@torch.no_grad()
def _probabilities(trained: TrainedNetwork, image: PreparedImage) -> Tensor:
    device = image.image.device
    with torch.autocast(device.type, torch.bfloat16, enabled=has_native_bfloat16(device)):
        logits = trained.network(image.image[:, :1])
    return torch.softmax(logits.movedim(1, -1).float(), dim=-1).movedim(-1, 1).contiguous()


def _brain_centre(probabilities: Tensor, grid: Grid) -> Tensor | None:
    """``(3,)`` centre of the brain in mm; None without a plausible brain."""
    brain = probabilities[0, brain_classes()].sum(dim=0) > 0.5
    if float(brain.sum()) * math.prod(grid.spacing_mm) / 1000 < _MIN_BRAIN_ML:
        return None
    return grid.points_mm()[brain].mean(dim=0)
