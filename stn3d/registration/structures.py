"""The structures of both heads of a pair: how they align, and what they say about the pair.

The segmentation network finds the same structures in images of any contrast, with or without the
skull. So they align heads whose intensities do not depend on each other in the same way everywhere,
where mutual information has its minimum at a wrong pose, and `registration.subjects` asks them
whether both heads are one subject's.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stn3d.choices import AUTOMATIC, ImageRole, LinearKind
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.automatic import Selection
from stn3d.registration.stages import LinearStage
from stn3d.registration.subjects import Heads, select_subjects, shows_folds
from stn3d.transforms import Linear, Transform
from stn3d.transforms.fit import fit_linear

if TYPE_CHECKING:
    from stn3d.nets.head_structures import HeadStructures

_logger = logging.getLogger("stn3d")

_WORSE = 0.1  # mean Dice by which an alignment is surely worse than another
_CORRESPOND = 0.3  # mean Dice after an affine alignment; 0.03 where the network errs
_FACTORS = (4.0, 2.0, 1.0)  # levels of the working grid
_BRAIN_MM = 3.0  # beyond a brain mask, for the edge of the brain
_ROLES = "fixed", "moving"


@dataclass(frozen=True, eq=False)
class PairStructures:
    """What the segmentation network finds in both images, see `structures_of`.

    Args:
        fixed: Structures of the fixed image.
        moving: Structures of the moving image.
        images: The images.
        is_ct: Whether an image is CT, whose tissues do not distinguish one subject from two.
        intensities_mislead: Whether the structures replaced the best alignment by intensities.
    """

    fixed: HeadStructures
    moving: HeadStructures
    images: Pair
    is_ct: bool = False
    intensities_mislead: bool = False
    _aligned: dict[LinearKind, Linear] = field(default_factory=dict, repr=False)

    def dice(self, transform: Transform) -> float | None:
        """Mean Dice of the structures under a transform; None if the images share too little.

        Args:
            transform: Fixed points to moving points.
        """
        from stn3d.nets.head_structures import structure_dice

        return structure_dice(self.fixed, self.moving, transform)

    def is_worse(self, transform: Transform, reference: Transform) -> bool:
        """Whether the structures overlap surely less under a transform than under another one."""
        found, expected = self.dice(transform), self.dice(reference)
        if found is None or expected is None:
            return found is None
        return found < expected - _WORSE

    def without_deformation(self, deformable: Transform, linear: Transform) -> Selection | None:
        """The selection of ``affine``, if the deformable stage destroys what the linear ones align;
        None if not. It does where one image shows no scalp, and its brain is pulled to the other's.

        Args:
            deformable: Result of the deformable stage, fixed points to moving points.
            linear: Result of the linear stages.
        """
        if not self.is_worse(deformable, linear):
            return None
        found, before = (self.dice(one) or 0.0 for one in (deformable, linear))
        reason = (
            "the structures that the segmentation network finds in both heads overlap less after "
            f"the deformable stage than before (mean Dice {found:.2f} instead of {before:.2f})"
        )
        return Selection(
            "affine", reason, {"structure_dice": found, "affine_structure_dice": before}
        )

    @cached_property
    def correspond(self) -> bool:
        """Whether the structures can be aligned, as those of two heads can: where the network takes
        something else for a head, such as a fetal brain, they cannot."""
        return (self.dice(self.aligned("affine")) or 0.0) >= _CORRESPOND

    @cached_property
    def tissues(self) -> tuple[Tensor, Tensor]:
        """``(1, 3, *shape)`` probabilities of white matter, grey matter and fluid on the grids of
        the fixed and the moving image."""
        from stn3d.nets.tissues import tissue_probabilities

        a, b = self.fixed, self.moving
        return (
            tissue_probabilities(self.images.fixed, a.tissues, a.grid),
            tissue_probabilities(self.images.moving, b.tissues, b.grid),
        )

    @cached_property
    def coarse_tissues(self) -> Pair:
        """White and grey matter of both images on the working grids, as bright in both."""
        fixed, moving = (_tissue_image(one) for one in (self.fixed, self.moving))
        return Pair(fixed, moving, self.images.landmarks)

    def aligned(self, kind: LinearKind) -> Linear:
        """The linear transform that aligns the structures: first their centres, then the tissues.

        Args:
            kind: ``rigid``, ``similarity`` or ``affine``.
        """
        if kind not in self._aligned:
            start = fit_linear(kind, *self._centres)
            found = self.stage(kind).estimate(self.coarse_tissues, start, lambda _: None)
            assert isinstance(found, Linear)
            self._aligned[kind] = found
        return self._aligned[kind]

    def stage(self, kind: LinearKind) -> LinearStage:
        """The linear stage for `coarse_tissues`.

        Args:
            kind: ``rigid``, ``similarity`` or ``affine``.
        """
        return LinearStage(kind, AUTOMATIC.same, _FACTORS)

    @cached_property
    def mirrored(self) -> PairStructures:
        """The structures of the mirrored fixed image and of the moving one."""
        images = Pair(self.images.fixed.mirrored(), self.images.moving)
        return PairStructures(self.fixed.mirrored(), self.moving, images, self.is_ct)

    @cached_property
    def subjects(self) -> Selection | None:
        """Whether the heads are of ``one`` or of ``two`` subjects; None for CT and where voxels are
        too large to show folds."""
        if self.is_ct or not shows_folds(self.images):
            return None
        return select_subjects(self.heads)

    @property
    def heads(self) -> Heads:
        """The heads with their tissues, aligned."""
        aligned = self.aligned("affine")
        return Heads(self.images, self.tissues, aligned, lambda: self.mirrored.aligned("affine"))

    def masked(self, pair: Pair) -> Pair:
        """The pair with a brain mask on the image that shows a skull, if only one does.

        Args:
            pair: The prepared images.
        """
        with_skull = self.with_skull
        if with_skull is None:
            return pair
        image: PreparedImage = getattr(pair, with_skull)
        mask = getattr(self, with_skull).brain_on(image.grid, _BRAIN_MM).to(image.image)
        both = mask if image.mask is None else mask * image.mask
        masked = dataclasses.replace(image, mask=both)
        if with_skull == "fixed":
            return dataclasses.replace(pair, fixed=masked)
        return dataclasses.replace(pair, moving=masked)

    @property
    def with_skull(self) -> ImageRole | None:
        """The image that shows a skull where the other one does not; None if both or none do."""
        if self.fixed.has_skull == self.moving.has_skull:
            return None
        return "fixed" if self.fixed.has_skull else "moving"

    @property
    def region(self) -> Selection | None:
        """The brain as the selected region, and why; None if no skull is masked."""
        role = self.with_skull
        if role is None:
            return None
        other = "moving" if role == "fixed" else "fixed"
        reason = (
            f"the {role} image shows a skull and the {other} image does not; the segmentation "
            f"network found the brain. For a more exact region give a brain mask by --{role}-mask"
        )
        return Selection(f"brain of the {role} image", reason, {})

    @cached_property
    def _centres(self) -> tuple[Tensor, Tensor, Tensor]:
        """``(N, 3)`` fixed and moving centres of the structures, and their weights."""
        (a, in_fixed), (b, in_moving) = (one.centres_mm() for one in (self.fixed, self.moving))
        weight = torch.minimum(in_fixed, in_moving).sqrt()
        return a[weight > 0], b[weight > 0], weight[weight > 0]


def structures_of(pair: Pair) -> PairStructures | str:
    """The structures of both images, computed once, or why there are none.

    Args:
        pair: The prepared images; only their first channels are read.
    """
    images = pair.first
    return images.fixed.cached(("structures", images.moving), lambda: _found(images))


def structures_to_check(pair: Pair, are_heads: bool) -> PairStructures | None:
    """The structures of two heads for the quality check alone; a warning if there are none.

    Args:
        pair: The prepared images.
        are_heads: Whether the affine network detects a head in both.
    """
    found: PairStructures | str = "the affine network detects no head in one of the images"
    if are_heads:
        found = structures_of(pair)
    if isinstance(found, PairStructures):
        return found
    _logger.warning("the structures of the heads are not compared: %s.", found)
    return None


def _found(pair: Pair) -> PairStructures | str:
    from stn3d.nets.head_structures import head_structures, segmentation_shortage

    shortage = segmentation_shortage()
    if shortage is not None:
        return f"the segmentation network needs {shortage}"
    found = [head_structures(image) for image in (pair.fixed, pair.moving)]
    for role, one in zip(_ROLES, found, strict=True):
        if not one.quality.is_known:
            reason = f"the segmentation network does not know what the {role} image shows"
            return f"{reason}: {one.quality.reason}"
    return PairStructures(found[0], found[1], pair)


def _tissue_image(structures: HeadStructures) -> PreparedImage:
    from stn3d.nets.tissues import contrast_of

    return PreparedImage(contrast_of(structures.tissues), structures.grid, structures.seen)
