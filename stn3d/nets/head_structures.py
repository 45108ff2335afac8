"""The structures of a head as a registration uses them: found once, and kept in little memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from scipy import ndimage
from torch import Tensor

from stn3d import kernels
from stn3d.grid import Grid
from stn3d.memory.limit import memory_shortage
from stn3d.nets.orientation import segment_any_orientation
from stn3d.nets.segmentation_quality import SegmentationQuality, assess_segmentation
from stn3d.nets.tissues import expected_tissues
from stn3d.nets.weights import bundled_network
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.structures import STRUCTURES, brain_classes, classes_of_groups, mirrored_classes
from stn3d.transforms import Transform
from stn3d.warp import warp_labels

_FLOATS_PER_VOXEL = 250  # float32 values of a pass of the network, measured
_WORKING_VOXELS = 96 * 112 * 96
_SEEN = 0.5  # weight of a voxel of the working grid within the field of view
_LEAST_VOXELS = 30  # of a structure in both images together, on the working grid
_LEAST_STRUCTURES = 8
_UNSEEN = len(STRUCTURES)
_SHELL_MM = 6.0, 14.0  # around the brain with its fluid: skull and scalp
_SKULL = 0.4  # of the shell; 0.7 to 0.97 in whole heads, 0 in stripped ones
# Median brightness of the shell relative to the brain's: 0.32 (FLAIR, PET, SPECT) to 1.1 (T2) where
# the scalp is shown, 0.15 and 0.16 in two EPI, whose fat is suppressed.
_SHOWN = 0.23


@dataclass(frozen=True, eq=False)
class HeadStructures:
    """What the segmentation network finds in an image, on its working grid.

    Args:
        classes: ``(1, 1, *grid.shape)`` uint8, class numbers of `stn3d.structures.STRUCTURES`.
        tissues: ``(1, 3, *grid.shape)``, as from `expected_tissues`.
        brain: ``(1, 1, *grid.shape)`` bool, as `Segmentation.mask`.
        seen: ``(1, 1, *grid.shape)`` from 0 to 1, as `Segmentation.seen`.
        grid: The working grid.
        quality: Whether the network knows what the image shows.
        intensities: ``(1, 1, *grid.shape)`` float16, the image on the grid.
    """

    classes: Tensor
    tissues: Tensor
    brain: Tensor
    seen: Tensor
    grid: Grid
    quality: SegmentationQuality
    intensities: Tensor

    @cached_property
    def has_skull(self) -> bool:
        """Whether the head goes on around the brain, in most of what is seen of it, and is not much
        darker: in an EPI whose fat is suppressed, the network finds a scalp that has no edge."""
        seen = self.seen > _SEEN
        shell = self._dilated(_SHELL_MM[1]) & ~self._dilated(_SHELL_MM[0]) & seen
        around = self.classes[shell]
        is_head = (around[:, None] == torch.tensor(classes_of_groups("head"))).any(dim=1)
        if not float(is_head.float().mean()) > _SKULL:
            return False
        bright, brain = (self.intensities[where].median() for where in (shell, self.brain & seen))
        return bool(bright >= _SHOWN * brain)

    def brain_on(self, grid: Grid, margin_mm: float) -> Tensor:
        """The brain with a margin, on another grid.

        Args:
            grid: Grid of the result.
            margin_mm: Distance by which the brain is enlarged.

        Returns:
            ``(1, 1, *grid.shape)`` bool.
        """
        matrix = self.grid.index_from_world @ grid.world_from_index
        return kernels.resample(self._dilated(margin_mm).float(), matrix, grid.shape) > 0.5

    def centres_mm(self) -> tuple[Tensor, Tensor]:
        """``(N, 3)`` centres of the structures of the brain, and ``(N,)`` their numbers of voxels.

        A structure that is not seen or hardly found has no voxels.
        """
        points = self.grid.points_mm()[self.seen[0, 0] > _SEEN]
        classes = self.classes[self.seen > _SEEN].long()
        counts = torch.bincount(classes, minlength=len(STRUCTURES)).double()
        sums = torch.zeros(len(STRUCTURES), 3, dtype=torch.float64)
        sums.index_add_(0, classes, points)
        brain = list(brain_classes())
        counts = counts.where(counts >= _LEAST_VOXELS / 2, torch.zeros(()).double())
        return sums[brain] / counts[brain, None].clamp(min=1), counts[brain]

    def mirrored(self) -> HeadStructures:
        """The structures of the head mirrored about the plane ``x = 0``."""
        classes = mirrored_classes()[self.classes.long()].to(self.classes)
        return replace(self, classes=classes, grid=self.grid.mirrored())

    def _dilated(self, margin_mm: float) -> Tensor:
        steps = round(margin_mm / min(self.grid.spacing_mm))
        brain = self.brain[0, 0].numpy()
        return torch.from_numpy(ndimage.binary_dilation(brain, iterations=steps))[None, None]


def segmentation_shortage() -> str | None:
    """How much memory a segmentation needs and how much is left; None if it is enough."""
    return memory_shortage(_FLOATS_PER_VOXEL * _WORKING_VOXELS)


def head_structures(image: PreparedImage) -> HeadStructures:
    """The structures that the bundled network finds in an image, computed once.

    The probabilities are not kept: they take as much memory as many images.

    Args:
        image: Any orientation, spacing and field of view; only its first channel is read.
    """
    return image.cached("head_structures", lambda: _found(image))


def _found(image: PreparedImage) -> HeadStructures:
    device = image.image.device
    coordinates, trained = bundled_network("affine"), bundled_network("segmentation")
    found = segment_any_orientation(coordinates.to(device), trained.to(device), image)
    parts = found.classes, expected_tissues(found), found.mask, found.seen, found.grid
    matrix = image.grid.index_from_world @ found.grid.world_from_index
    intensities = kernels.resample(image.image[:, :1].contiguous(), matrix, found.grid.shape)
    return HeadStructures(*parts, assess_segmentation(found), intensities.half())


def structure_dice(
    fixed: HeadStructures, moving: HeadStructures, transform: Transform
) -> float | None:
    """Mean Dice of the structures of the brain under a transform, those of left and right apart,
    where both images are seen.

    The network's errors count too, so it is below 1 between two images of one head.

    Args:
        fixed: Structures of the fixed image.
        moving: Structures of the moving image.
        transform: Fixed points to moving points.

    Returns:
        From 0 to 1; None if the images share too little of a brain.
    """
    a, b = fixed.classes.int(), moving.classes.int()
    a = a.masked_fill(fixed.seen <= _SEEN, _UNSEEN)
    b = b.masked_fill(moving.seen <= _SEEN, _UNSEEN)
    b = warp_labels(b, moving.grid, transform, fixed.grid, smooth=True, outside_label=_UNSEEN)
    both = (a != _UNSEEN) & (b != _UNSEEN)
    a, b = a[both], b[both]
    in_fixed, in_moving, shared = (
        torch.bincount(x, minlength=_UNSEEN).double() for x in (a, b, a[a == b])
    )
    total = in_fixed + in_moving
    brain = [i for i in brain_classes() if total[i] >= _LEAST_VOXELS]
    if len(brain) < _LEAST_STRUCTURES:
        return None
    return float((2 * shared[brain] / total[brain]).mean())
