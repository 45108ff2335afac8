"""Whether an image is a label map, for the automatic choice of the interpolation.

Fractions exclude labels. Then the intent in a NIfTI header decides, then words in the file's name,
then the values: in a label map, a voxel mostly has neighbours of its own value, whatever the value;
in an image of whole numbers only a few values (background, air, saturation) have this property.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePath

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn3d.io import Image, Volumes

_LABEL_INTENTS = {1002: "label", 1003: "neuroname"}
_IMAGE_INTENTS = {**dict.fromkeys(range(2, 25), "statistic"), 1001: "estimate"}
_SEGMENTATIONS = ("dseg", "mask", "labels", "label", "labelmap", "seg", "segmentation")
_LABEL_WORDS = (*_SEGMENTATIONS, "parcellation", "parc", "aseg", "aparc", "wmparc")
_IMAGE_WORDS = ("probseg", "prob", "probs", "probability", "probabilities", "posterior")
_BIDS_IMAGES = (
    "t1w",
    "t2w",
    "pdw",
    "t2starw",
    "flair",
    "bold",
    "sbref",
    "dwi",
    "epi",
    "asl",
    "pet",
)
_SUFFIXES = (".nii", ".gz", ".mgz", ".mgh", ".hdr", ".img", ".nrrd", ".nhdr", ".mha", ".mhd")
_TOLERANCE = 1e-3
"""Largest distance from a whole number, the rounding error of scaled files."""

_SAME = 0.4  # least mean over the values of the fraction of neighbours with the same value
# A smooth image of whole numbers has many values, and most unequal neighbours differ by 1.
_MANY, _STAIRS, _SAME_ON_STAIRS = 32, 0.9, 0.75
# Landmarks and centre lines: the largest fraction of voxels, and neighbours of such a voxel.
_SPARSE, _NEIGHBOURS = 0.01, 2.5
_SAMPLE = 1 << 23  # voxels of an image that are compared with their neighbours
_THICKNESS = 16  # planes of a slab of the sample


@dataclass(frozen=True)
class Decision:
    """Whether an image is a label map.

    Args:
        labels: true for a label map.
        reason: why, as the end of a sentence.
        scattered: whether the labels are in single voxels, such as landmarks, which lose any vote.
    """

    labels: bool
    reason: str
    scattered: bool = False


def decide(volumes: Volumes) -> Decision:
    """Decide whether volumes are label maps; empty ones are ignored.

    Args:
        volumes: the volumes, read one at a time.

    Raises:
        InputError: a volume holds NaN or Inf, or cannot be read.
    """
    stated = _by_header(volumes) or _by_name(volumes.name)
    found: list[Decision] = []
    for image in _exact(volumes):
        if not bool(image.values.any()):
            continue
        if _has_fractions(image.values):
            return Decision(False, f"{volumes.name} holds fractions")
        if stated is not None and not stated.labels:
            return stated
        found.append(by_values(image.values))
        if stated is None and not found[-1].labels:
            break
    if not found:
        return Decision(False, f"{volumes.name} holds only 0")
    scattered = all(one.scattered for one in found)
    if stated is not None:
        return replace(stated, scattered=scattered)
    last = found[-1]
    return Decision(last.labels, f"{volumes.name} {last.reason}", scattered)


def by_values(values: Tensor) -> Decision:
    """Decide by the values alone.

    Args:
        values: ``(1, 1, *shape)``.

    Returns:
        The decision; its reason lacks the name of the image.
    """
    if _has_fractions(values):
        return Decision(False, "holds fractions")
    volume = values[0, 0].round().long() if values.dtype != torch.int32 else values[0, 0]
    low, high = (int(one) for one in volume.aminmax())
    if low == high:
        return Decision(False, "holds a single value")
    decision = _by_neighbours(volume.numpy())
    if bool(((volume == low) | (volume == high)).all()):
        return Decision(True, "holds two values, like a mask", decision.scattered)
    return decision


def _exact(volumes: Volumes) -> Iterator[Image]:
    return (volumes.exact(n) for n in range(len(volumes)))


def _has_fractions(values: Tensor) -> bool:
    """Whether a value is no whole number, up to rounding errors, or all are near 0."""
    if not values.is_floating_point():
        return False
    whole = values.round()
    small = bool(values.any()) and not bool(whole.any())
    return small or bool(((values - whole).abs() > _TOLERANCE).any())


def _by_header(volumes: Volumes) -> Decision | None:
    """By the intent in a NIfTI header."""
    code = int(volumes.stored.header["intent_code"])
    for intents, labels in ((_LABEL_INTENTS, True), (_IMAGE_INTENTS, False)):
        if code in intents:
            return Decision(labels, f"the NIfTI intent of {volumes.name} is {intents[code]}")
    return None


def _by_name(name: str) -> Decision | None:
    """By a word in the name of a file; a modality at its end, as in BIDS, decides nothing."""
    path = PurePath(name.split(" (volume ")[0])
    if path.suffix.lower() not in _SUFFIXES:
        return None
    stem = path.name.lower()
    while (suffix := PurePath(stem).suffix) in _SUFFIXES:
        stem = stem.removesuffix(suffix)
    words = [word for word in re.split("[^a-z0-9]+", stem) if word]
    for known, labels in ((_IMAGE_WORDS, False), (_LABEL_WORDS, True)):
        word = next((word for word in words if word in known), None)
        if word is not None and words[-1] not in _BIDS_IMAGES:
            return Decision(labels, f"the name {path.name} says {word}")
    return None


@dataclass(frozen=True)
class _Neighbours:
    """Neighbours of the voxels that are not background, counted by value.

    Args:
        background: the most frequent value.
        own: voxels of each value.
        same: neighbours of the same value.
        others: neighbours of any value but the background.
        steps: neighbours whose value differs by 1.
        voxels: number of voxels looked at.
    """

    background: int
    own: NDArray[np.int64]
    same: NDArray[np.int64]
    others: NDArray[np.int64]
    steps: int
    voxels: int


def _by_neighbours(volume: NDArray[np.integer]) -> Decision:
    """By the fraction of neighbours of the same value, averaged over the values."""
    seen = _counted(volume)
    count, voxels = int((seen.own > 0).sum()) + 1, int(seen.own.sum())
    sparse = seen.background == 0 and voxels <= _SPARSE * seen.voxels
    if sparse and int(seen.others.sum()) <= _NEIGHBOURS * voxels:
        return Decision(True, f"holds {count} values, all but 0 in few scattered voxels", True)
    met = seen.others > 0
    alike = float((seen.same[met] / seen.others[met]).mean()) if met.any() else 0.0
    share = f"{100 * alike:.0f} % of a voxel's neighbours share its value (mean over the values)"
    others = int(seen.others.sum() - seen.same.sum())
    stairs = count >= _MANY and seen.steps >= _STAIRS * others and alike < _SAME_ON_STAIRS
    return Decision(alike >= _SAME and not stairs, f"holds {count} values and {share}")


def _counted(volume: NDArray[np.integer]) -> _Neighbours:
    """Count neighbours in slabs of planes; in a large image in some of them, evenly spaced."""
    ranks, values = _ranked(volume)
    total = np.bincount(ranks.ravel(), minlength=len(values))
    back, n = int(total.argmax()), len(values)
    (own, same, others), steps = np.zeros((3, n), np.int64), 0
    slabs = [ranks[k : k + _THICKNESS] for k in range(0, len(ranks), _THICKNESS)]
    sparse = ranks.size - int(total[back]) <= _SPARSE * ranks.size
    step = 1 if sparse else -(-ranks.size // _SAMPLE)
    for slab in slabs[::step]:
        own += np.bincount(slab[slab != back], minlength=n)
        for axis in range(slab.ndim):
            line = np.moveaxis(slab, axis, 0)
            a, b = line[:-1], line[1:]
            both = (a != back) & (b != back)
            a, b = a[both], b[both]
            same += 2 * np.bincount(a[a == b], minlength=n)
            others += np.bincount(a, minlength=n) + np.bincount(b, minlength=n)
            steps += 2 * int(np.count_nonzero(np.abs(values[a] - values[b]) == 1))
    looked_at = sum(slab.size for slab in slabs[::step])
    return _Neighbours(int(values[back]), own, same, others, steps, looked_at)


def _ranked(volume: NDArray[np.integer]) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Values as indices into a list of them, which may hold others too."""
    low, high = int(volume.min()), int(volume.max())
    if high - low < 1 << 20:
        return volume - low, np.arange(low, high + 1)
    values, ranks = np.unique(volume, return_inverse=True)
    return ranks.reshape(volume.shape), values
