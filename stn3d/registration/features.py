"""Features of the deformable stage: tissues, which look the same in images of any contrast.

Where two images differ in contrast, their intensities say little about which voxels correspond. The
segmentation network knows the tissue of a voxel in any contrast (`stn3d.nets.tissues`), so the
deformable stage can compare tissues as it compares two T1-weighted images. The field is still
estimated from this pair alone.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from stn3d.memory.limit import memory_shortage
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import ChannelGroup, PreparedImage
from stn3d.registration.automatic import Selection
from stn3d.registration.settings import Settings

if TYPE_CHECKING:
    from stn3d.nets.segmenter import Segmentation

TISSUES, NONE = "tissues", "none"
_WEIGHT_BESIDE_EDGES = 0.4  # of the tissues, relative to the images, in one subject's head
_FLOATS_PER_VOXEL = 250  # float32 values of a pass of the segmentation network, measured
_WORKING_VOXELS = 96 * 112 * 96


@dataclass(frozen=True, eq=False)
class FeatureSettings:
    """Settings of a registration whose deformable stage compares features.

    Args:
        across_subjects: Where the heads are those of two subjects: tissues alone, by the metric for
            the same contrast.
        within_subject: Where both are one subject's: edges of the tissues beside those of the
            images, which are exact there.
    """

    across_subjects: Settings
    within_subject: Settings


@dataclass(frozen=True, eq=False)
class Features:
    """What the deformable stage compares, if features are used.

    Args:
        selection: Whether they are used, and why.
        pair: The pair with features; None where they are not used.
        settings: Settings that fit the features; None where they are not used.
    """

    selection: Selection
    pair: Pair | None = None
    settings: Settings | None = None


def features_of(pair: Pair, view: Pair, one_subject: bool, choices: FeatureSettings) -> Features:
    """Features of two heads; none where the network does not know what an image shows.

    Args:
        pair: The prepared images.
        view: The same images with the masks of the deformable stage.
        one_subject: Whether both images show one subject's head.
        choices: Settings of the registration with features.
    """
    shortage = memory_shortage(_FLOATS_PER_VOXEL * _WORKING_VOXELS)
    if shortage is not None:
        return Features(Selection(NONE, f"the segmentation network needs {shortage}", {}))
    found = {}
    for role in ("fixed", "moving"):
        image: PreparedImage = getattr(pair.first, role)
        segmentation, reason = _known(image)
        if segmentation is None:
            reason = f"the segmentation network does not know what the {role} image shows: {reason}"
            return Features(Selection(NONE, reason, {}))
        found[role] = segmentation
    contrasts = [_contrast(getattr(pair.first, role), one) for role, one in found.items()]
    views = view.fixed, view.moving
    how = _beside if one_subject else _instead
    sides = [how(image, contrast) for image, contrast in zip(views, contrasts, strict=True)]
    featured = dataclasses.replace(view, fixed=sides[0], moving=sides[1])
    reason = "the contrasts differ and the segmentation network knows both images; "
    if one_subject:
        reason += "the deformable stage compares edges of tissues beside those of the images"
        return Features(Selection(TISSUES, reason, {}), featured, choices.within_subject)
    reason += "the deformable stage compares white and grey matter"
    return Features(Selection(TISSUES, reason, {}), featured, choices.across_subjects)


def _known(image: PreparedImage) -> tuple[Segmentation | None, str]:
    """The segmentation of an image, computed once, or why the network does not know it."""
    from stn3d.nets.segmentation_quality import assess_segmentation

    found: Segmentation = image.cached("segmentation", lambda: _segmented(image))
    quality = image.cached("segmentation quality", lambda: assess_segmentation(found))
    return (found, "") if quality.is_known else (None, quality.reason)


def _segmented(image: PreparedImage) -> Segmentation:
    from stn3d.nets.segmenter import segment, upright_frame
    from stn3d.nets.weights import bundled_network

    device = image.image.device
    frame = upright_frame(bundled_network("affine").to(device), image)
    return segment(bundled_network("segmentation").to(device), image, frame)


def _contrast(image: PreparedImage, segmentation: Segmentation) -> torch.Tensor:
    from stn3d.nets.tissues import tissue_contrast

    made: torch.Tensor = image.cached(
        "tissue contrast", lambda: tissue_contrast(image, segmentation)
    )
    return made


def _instead(image: PreparedImage, contrast: torch.Tensor) -> PreparedImage:
    """The image with the tissues in place of its first channel group."""
    if image.channel_groups is None:
        return dataclasses.replace(image, image=contrast)
    first, *rest = image.channel_groups
    channels = torch.cat([contrast, image.image[:, first.channels :]], dim=1)
    groups = (dataclasses.replace(first, channels=1), *rest)
    return dataclasses.replace(image, image=channels, channel_groups=groups)


def _beside(image: PreparedImage, contrast: torch.Tensor) -> PreparedImage:
    """The image with the tissues as a further channel group after its first."""
    groups = image.channel_groups or (ChannelGroup(1.0, image.image.shape[1]),)
    first, *rest = groups
    tissues = ChannelGroup(first.weight * _WEIGHT_BESIDE_EDGES)
    own, others = image.image[:, : first.channels], image.image[:, first.channels :]
    channels = torch.cat([own, contrast, others], dim=1)
    return dataclasses.replace(image, image=channels, channel_groups=(first, tissues, *rest))
