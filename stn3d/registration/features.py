"""Features of the deformable stage: tissues, which look the same in images of any contrast.

Where two images differ in contrast, their intensities say little about which voxels correspond. The
segmentation network knows the tissue of a voxel in any contrast (`stn3d.nets.tissues`), so the
deformable stage can compare tissues as it compares two T1-weighted images. The field is still
estimated from this pair alone.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch

from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.reductions import voxel_mean
from stn3d.registration.automatic import Selection
from stn3d.registration.settings import Settings
from stn3d.registration.structures import PairStructures

TISSUES, NONE = "tissues", "none"
_CERTAIN = 0.9  # probability of a voxel whose intensity stands for its tissue


@dataclass(frozen=True, eq=False)
class FeatureChoice:
    """How features are used.

    Args:
        settings: Settings of the registration with features: the metric of the deformable stage is
            one for the same contrast.
        only_if_reversed: Whether the contrast may be the same: tissues are compared only where
            white matter is the brighter one in one image and grey matter in the other.
    """

    settings: Settings
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


def features_of(
    pair: Pair,
    view: Pair,
    structures: PairStructures | str,
    choice: FeatureChoice,
) -> Features:
    """Features of two heads of different contrast.

    There are none where the network does not know what an image shows, and for one subject's head:
    edges of its images correspond everywhere, and are more exact than tissues.

    Args:
        pair: The prepared images.
        view: The same images with the masks of the deformable stage.
        structures: The structures of both images, or why there are none.
        choice: How features are used.
    """
    if isinstance(structures, str):
        return Features(Selection(NONE, structures, {}))
    if not structures.correspond:
        return Features(Selection(NONE, "the structures of both images do not correspond", {}))
    if structures.is_ct:
        return Features(Selection(NONE, "the network does not find the tissues of CT exactly", {}))
    subjects = structures.subjects
    evidence = {} if subjects is None else subjects.evidence
    if subjects is not None and subjects.choice == "one":
        reason = f"{subjects.reason}, and the edges of the images are more exact"
        return Features(Selection(NONE, reason, evidence))
    tissues = dict(zip(("fixed", "moving"), structures.tissues, strict=True))
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
