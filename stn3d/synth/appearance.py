"""Intensities of labels: random, or typical of common MR and CT images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from torch import Tensor

from stn3d.synth.generator import SeededGenerator

# Left and right labels in FreeSurfer's numbering, as in SynthSeg's training maps.
LEFT_RIGHT = (
    *((left, left + 39) for left in (2, 3, 4, 5, 7, 8, 10, 11, 12, 13)),
    *((17, 53), (18, 54), (25, 57), (26, 58), (28, 60), (30, 62), (136, 163), (137, 164)),
)

TISSUES = MappingProxyType(
    {
        "white matter": (2, 41, 7, 46, 85),
        "grey matter": (3, 42, 8, 47, 17, 53, 18, 54, 25, 57, 136, 163, 137, 164),
        "deep grey matter": (10, 49, 11, 50, 12, 51, 26, 58),
        "pallidum, brain stem": (13, 52, 16, 28, 60),
        "fluid": (4, 43, 5, 44, 14, 15, 24, 72, 30, 62, 506, 512),
        "soft tissue": (507, 508, 530),
        "skin": (511,),
        "compact bone": (515, 500),
        "marrow": (516,),
        "mucosa": (509,),
        "blood, dura": (502, 514),
    }
)

Modality = Literal["T1", "T1 with contrast", "T2", "FLAIR", "PD", "CT"]

_SYMMETRIC_PROBABILITY = 0.8  # of equal intensities in the left and right hemisphere

# Typical intensity of each tissue, in the order of `TISSUES`.
MODALITIES: Mapping[Modality, tuple[float, ...]] = MappingProxyType(
    {
        "T1": (0.85, 0.58, 0.66, 0.77, 0.18, 0.70, 0.65, 0.08, 0.70, 0.50, 0.40),
        "T1 with contrast": (0.75, 0.52, 0.59, 0.68, 0.17, 0.70, 0.65, 0.08, 0.70, 0.95, 1.00),
        "T2": (0.30, 0.48, 0.40, 0.33, 1.00, 0.50, 0.45, 0.05, 0.45, 0.85, 0.15),
        "FLAIR": (0.45, 0.65, 0.60, 0.50, 0.10, 0.55, 0.50, 0.06, 0.40, 0.75, 0.30),
        "PD": (0.55, 0.75, 0.68, 0.58, 0.85, 0.70, 0.60, 0.08, 0.50, 0.80, 0.40),
        "CT": (0.40, 0.44, 0.43, 0.41, 0.36, 0.34, 0.38, 1.00, 0.75, 0.36, 0.46),
    }
)


@dataclass(frozen=True, eq=False)
class Appearance:
    """Intensity distribution of each label id.

    Args:
        modality: One of `MODALITIES`; None for random intensities.
        means: ``(n,)`` mean intensity of each id from 0 on.
        stds: ``(n,)`` standard deviation of the texture of each id.
    """

    modality: Modality | None
    means: Tensor
    stds: Tensor


def sample_appearance(
    rng: SeededGenerator,
    num_ids: int,
    modality_probability: float,
    max_std: float,
    modalities: Sequence[Modality] = tuple(MODALITIES),
) -> Appearance:
    """A random appearance of the label ids below ``num_ids``; id 0 (background) is 0.

    Args:
        rng: Random number generator.
        num_ids: Number of label ids.
        modality_probability: Probability of an imaging modality instead of random intensities.
        max_std: Maximum standard deviation within a label.
        modalities: Modalities to choose from.
    """
    means, stds = rng.uniform_tensor(num_ids), max_std * rng.uniform_tensor(num_ids)
    modality: Modality | None = None
    if modalities and rng.bernoulli(modality_probability):
        modality = modalities[rng.integer(len(modalities))]
        variation = 0.02 if modality == "CT" else rng.uniform(0.02, 0.10)
        stds *= 0.5
        for ids, typical in zip(TISSUES.values(), MODALITIES[modality], strict=True):
            known = [i for i in ids if i < num_ids]
            shift = variation * rng.uniform(-1, 1)
            means[known] = typical + shift + 0.5 * variation * (2 * means[known] - 1)
    if rng.bernoulli(_SYMMETRIC_PROBABILITY):
        for left, right in LEFT_RIGHT:
            if right < num_ids:
                means[right], stds[right] = means[left], stds[left]
    means[0] = stds[0] = 0
    return Appearance(modality, means.clamp(min=0), stds)


def jitter_appearance(
    rng: SeededGenerator, appearance: Appearance, amount: float = 0.04
) -> Appearance:
    """A similar appearance, as in another image of the same modality.

    Args:
        rng: Random number generator.
        appearance: The appearance to change.
        amount: Maximum change of a mean intensity.
    """
    means = appearance.means + amount * (2 * rng.uniform_tensor(len(appearance.means)) - 1)
    means[0] = 0
    return Appearance(appearance.modality, means.clamp(min=0), appearance.stds)
