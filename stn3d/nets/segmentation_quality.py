"""Whether the segmentation network knows what an image shows, and whether it shows all of a brain.

docs/experiments/segmentation.md reports the measures of heads and of other images.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from scipy import ndimage
from torch import Tensor

from stn3d.nets.segmenter import Segmentation
from stn3d.structures import STRUCTURES

Status = Literal["good", "check", "failed"]

_SEEN = 0.5  # weight of a voxel of the working grid within the field of view
_UNSURE, _UNKNOWN = 0.2, 0.232  # mean uncertainty
_AT_EDGE, _MOSTLY = 0.02, 0.75  # fraction of the surface of the brain
_SMALL_ML, _LARGE_ML = 700.0, 2400.0
_TINY_ML, _HUGE_ML = 100.0, 2800.0
_TURNED = 0.01  # added to the uncertainty by a frame that is not upright
_IMPLAUSIBLE = 0.6  # relative volume
_USUAL_FRACTIONS = {
    "cerebellar white matter": 0.02,
    "brain stem": 0.0145,
    "hippocampus": 0.0058,
}  # of the brain mask


@dataclass(frozen=True)
class SegmentationMeasures:
    """Measures of a segmentation that need no reference.

    Args:
        brain_mask_ml: Volume of the brain mask within the field of view.
        uncertainty_mean: Mean of `Segmentation.uncertainty` within the mask; None if it is empty.
        brain_at_edge_fraction: Fraction of the surface of the brain mask that lies at the edge of
            the field of view, where the brain may continue.
        least_relative_volume: Volume of cerebellar white matter, brain stem or hippocampus as a
            fraction of the brain mask, divided by what is usual; the smallest of the three.
    """

    brain_mask_ml: float
    uncertainty_mean: float | None
    brain_at_edge_fraction: float
    least_relative_volume: float

    @property
    def has_plausible_anatomy(self) -> bool:
        """Whether no structure is much smaller than in any head."""
        return self.least_relative_volume >= _IMPLAUSIBLE

    @property
    def may_show_a_turned_head(self) -> bool:
        """Whether the head may be upright in another frame: the anatomy is not plausible in this
        one, and the network is not as uncertain as in images without a head."""
        uncertainty = self.uncertainty_mean
        return (
            not self.has_plausible_anatomy
            and uncertainty is not None
            and uncertainty <= _UNKNOWN + _TURNED
        )

    @classmethod
    def of(cls, segmentation: Segmentation) -> SegmentationMeasures:
        """The measures of a segmentation."""
        seen = segmentation.seen.cpu() > _SEEN
        mask = segmentation.mask & seen
        volume_ml = float(mask.sum()) * math.prod(segmentation.grid.spacing_mm) / 1000
        if not volume_ml:
            return cls(0.0, None, 0.0, 0.0)
        brain = mask[0, 0].numpy()
        surface = brain & ~ndimage.binary_erosion(brain, border_value=1)
        beyond = ndimage.binary_dilation(~seen[0, 0].numpy())
        uncertainty = float(segmentation.uncertainty_within(mask).mean())
        return cls(
            round(volume_ml, 1),
            round(uncertainty, 4),
            round(float((surface & beyond).sum() / surface.sum()), 4),
            round(_least_relative_volume(segmentation, mask), 3),
        )


def _least_relative_volume(segmentation: Segmentation, mask: Tensor) -> float:
    """See `SegmentationMeasures`."""
    probabilities = segmentation.probabilities
    classes = probabilities[0][:, mask[0, 0].to(probabilities.device)].argmax(dim=0)
    counts = torch.bincount(classes.cpu(), minlength=len(STRUCTURES))
    fractions = counts.double() / counts.sum()
    return min(
        float(sum(fractions[i] for i, one in enumerate(STRUCTURES) if one.name == name)) / usual
        for name, usual in _USUAL_FRACTIONS.items()
    )


@dataclass(frozen=True)
class SegmentationQuality:
    """The quality status of a segmentation.

    Args:
        status: ``good``, ``check`` (inspect the result) or ``failed``: the network does not know
            what the image shows.
        reason: The measure that decided, in words.
        suggestion: What to do; empty if the status is ``good``.
        measures: The measures that the status is derived from.
    """

    status: Status
    reason: str
    suggestion: str
    measures: SegmentationMeasures

    @property
    def is_known(self) -> bool:
        """Whether the network knows what the image shows."""
        return self.status != "failed"

    def as_dict(self) -> dict[str, Any]:
        """The fields as a dictionary for JSON."""
        return dataclasses.asdict(self)


_HEADS = "The network is for human heads and brains: check that the image shows one."
_SIZE = "Check the voxel sizes in the header, and inspect segmentation.png."
_LOOK = "Inspect segmentation.png."
_MORE = "Give an image that shows more of the head."
_TURN = "Check the orientation in the header, and inspect segmentation.png."
_PART = "Volumes are those of the part that the image shows."


def assess_segmentation(
    segmentation: Segmentation, brain_mask_ml: float | None = None
) -> SegmentationQuality:
    """The status of a segmentation: that of the first measure beyond its limit.

    Args:
        segmentation: The segmentation.
        brain_mask_ml: Volume of the brain mask on the image's own grid. Default: on the working
            grid, within the field of view.
    """
    measures = SegmentationMeasures.of(segmentation)
    if brain_mask_ml is not None:
        measures = dataclasses.replace(measures, brain_mask_ml=brain_mask_ml)
    volume_ml, uncertainty = measures.brain_mask_ml, measures.uncertainty_mean
    if uncertainty is None:
        return SegmentationQuality("failed", "no brain was found", _HEADS, measures)
    edge = measures.brain_at_edge_fraction
    doubt = f"the mean uncertainty within the brain mask is {uncertainty:.2f}"
    size = f"the brain mask measures {volume_ml:.0f} ml"
    cut = f"{edge:.0%} of the brain's surface lies at the edge of the image"
    small = "cerebellum, brain stem or hippocampus measures less than in any adult head"
    for status, beyond, reason, suggestion in (  # the most important first
        ("failed", uncertainty > _UNKNOWN, f"{doubt}, more than in any head", _HEADS),
        ("failed", edge > _MOSTLY, f"{cut}, which shows too little of a brain", _MORE),
        ("failed", volume_ml > _HUGE_ML, f"{size}, more than any brain", _SIZE),
        ("failed", volume_ml < _TINY_ML and edge < _AT_EDGE, f"{size}, less than any brain", _SIZE),
        ("check", uncertainty > _UNSURE, f"{doubt}, more than in most heads", _LOOK),
        ("check", volume_ml > _LARGE_ML, f"{size}, more than most brains", _SIZE),
        ("check", edge > _AT_EDGE, f"{cut}, so it may be cut", _PART),
        ("check", not measures.has_plausible_anatomy, small, _TURN),
        ("check", volume_ml < _SMALL_ML, f"{size}, less than most adult brains", _LOOK),
    ):
        if beyond:
            return SegmentationQuality(cast(Status, status), reason, suggestion, measures)
    return SegmentationQuality("good", f"{doubt}, as in heads, and {size}", "", measures)
