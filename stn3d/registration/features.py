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
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.reductions import voxel_mean
from stn3d.registration.automatic import Selection, relation
from stn3d.registration.settings import Settings
from stn3d.registration.stages import DeformableStage
from stn3d.transforms import Transform

if TYPE_CHECKING:
    pass

TISSUES, NONE = "tissues", "none"
_FLOATS_PER_VOXEL = 250  # float32 values of a pass of the segmentation network, measured
_WORKING_VOXELS = 96 * 112 * 96
_CERTAIN = 0.9  # probability of a voxel whose intensity stands for its tissue
_COARSE_LEVELS = 2  # of the stage by which one subject is recognised
_FINE_MM = 2.0  # spacing at which it is
_ONE_SUBJECT = 0.45  # local_r2_mean from here on: one subject


@dataclass(frozen=True, eq=False)
class FeatureChoice:
    """How features are used.

    Args:
        settings: Settings of the registration with features: the metric of the deformable stage is
            one for the same contrast.
        edges: A stage that compares the images whatever their contrast.
        only_if_reversed: Whether the contrast may be the same: tissues are compared only where
            white matter is the brighter one in one image and grey matter in the other.
    """

    settings: Settings
    edges: DeformableStage
    only_if_reversed: bool = False


@dataclass(frozen=True, eq=False)
class Features:
    """What the deformable stage compares, if features are used.

    Args:
        selection: Whether they are used, and why.
        pair: The pair with features; None where they are not used.
    """

    selection: Selection
    pair: Pair | None = None


def features_of(pair: Pair, view: Pair, transform: Transform, choice: FeatureChoice) -> Features:
    """Features of two heads of different contrast.

    There are none where the network does not know what an image shows, and for one subject's head:
    edges of its images correspond everywhere, and are more exact than tissues.

    Args:
        pair: The prepared images.
        view: The same images with the masks of the deformable stage.
        transform: The result of the linear stages.
        choice: How features are used.
    """
    shortage = memory_shortage(_FLOATS_PER_VOXEL * _WORKING_VOXELS)
    if shortage is not None:
        return Features(Selection(NONE, f"the segmentation network needs {shortage}", {}))
    agreement = _local_agreement(view, transform, choice.edges)
    evidence = {"local_r2_mean": agreement}
    if agreement is None or agreement >= _ONE_SUBJECT:
        reason = "the images agree in small windows as those of one subject do"
        return Features(Selection(NONE, reason, evidence))
    tissues = {}
    for role in ("fixed", "moving"):
        image: PreparedImage = getattr(pair.first, role)
        known, unknown = _tissues(image)
        if known is None:
            reason = f"the segmentation network does not know what the {role} image shows"
            return Features(Selection(NONE, f"{reason}: {unknown}", evidence))
        tissues[role] = known
    reason = "the contrasts differ and the segmentation network knows both images"
    if choice.only_if_reversed:
        whiter = {role: _whiter(getattr(pair.first, role), one) for role, one in tissues.items()}
        if whiter["fixed"] == whiter["moving"]:
            brighter = "white" if whiter["fixed"] else "grey"
            reason = f"{brighter} matter is the brighter one in both images"
            return Features(Selection(NONE, reason, evidence))
        role = "fixed" if whiter["fixed"] else "moving"
        reason = f"white matter is brighter than grey matter in the {role} image only"
    sides = [_with_tissues(getattr(view, role), one) for role, one in tissues.items()]
    reason += "; the deformable stage compares white and grey matter"
    return Features(Selection(TISSUES, reason, evidence), Pair(sides[0], sides[1], view.landmarks))


def _local_agreement(view: Pair, transform: Transform, edges: DeformableStage) -> float | None:
    """`Relation.local_r2_mean` after a coarse deformable registration by edges."""
    levels = slice(0, _COARSE_LEVELS)
    coarse = dataclasses.replace(
        edges, factors=edges.factors[levels], iterations=edges.iterations[levels]
    )
    aligned = coarse.estimate(view.first, transform, lambda _: None)
    return relation(view, aligned, max(view.finest_mm, _FINE_MM * view.unit_mm)).local_r2_mean


def _tissues(image: PreparedImage) -> tuple[torch.Tensor | None, str]:
    """The tissues of an image, computed once, or why the network does not know the image.

    The segmentation is not kept: its probabilities take as much memory as many images.
    """
    return image.cached("tissues", lambda: _segmented_tissues(image))


def _segmented_tissues(image: PreparedImage) -> tuple[torch.Tensor | None, str]:
    from stn3d.nets.orientation import segment_any_orientation
    from stn3d.nets.segmentation_quality import assess_segmentation
    from stn3d.nets.tissues import tissue_probabilities
    from stn3d.nets.weights import bundled_network

    device = image.image.device
    coordinates, trained = bundled_network("affine"), bundled_network("segmentation")
    found = segment_any_orientation(coordinates.to(device), trained.to(device), image)
    quality = assess_segmentation(found)
    if not quality.is_known:
        return None, quality.reason
    return tissue_probabilities(image, found), ""


def _whiter(image: PreparedImage, tissues: torch.Tensor) -> bool:
    """Whether white matter is brighter than grey matter."""
    values = image.image[:, :1]
    means = [voxel_mean(values[tissues[:, k : k + 1] > _CERTAIN]) for k in (0, 1)]
    return bool(means[0] > means[1])


def _with_tissues(image: PreparedImage, tissues: torch.Tensor) -> PreparedImage:
    """The image with its tissues in place of its first channel group."""
    from stn3d.nets.tissues import contrast_of

    contrast = contrast_of(tissues)
    if image.channel_groups is None:
        return dataclasses.replace(image, image=contrast)
    first, *rest = image.channel_groups
    channels = torch.cat([contrast, image.image[:, first.channels :]], dim=1)
    groups = (dataclasses.replace(first, channels=1), *rest)
    return dataclasses.replace(image, image=channels, channel_groups=groups)
