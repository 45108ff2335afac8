"""How bright each label is: random, or as in common MR and CT images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from torch import Tensor

from stn3d.synth.generator import SeededGenerator

# Left and right of a pair in FreeSurfer's numbering, as in SynthSeg's training maps.
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

# The tissues' usual brightness, in the order of `TISSUES`.
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
    """What each label id looks like.

    Args:
        kind: one of `MODALITIES`; None for any brightness.
        means: ``(n,)`` mean intensity of each id from 0 on.
        spreads: ``(n,)`` standard deviation of its texture.
    """

    kind: Modality | None
    means: Tensor
    spreads: Tensor


def sample_appearance(
    rng: SeededGenerator,
    num_ids: int,
    modality_probability: float,
    max_spread: float,
    kinds: Sequence[Modality] = tuple(MODALITIES),
) -> Appearance:
    """A random appearance of the label ids below ``num_ids``; id 0 is dark and even.

    Args:
        modality_probability: how often it is a real kind of image, rather than any brightness for any label.
        max_spread: the largest standard deviation within a label.
        kinds: the real kinds to draw from.
    """
    means, spreads = rng.uniforms(num_ids), max_spread * rng.uniforms(num_ids)
    kind: Modality | None = None
    if kinds and rng.chance(modality_probability):
        kind = kinds[rng.below(len(kinds))]
        loose = 0.02 if kind == "CT" else rng.uniform(0.02, 0.10)
        spreads *= 0.5
        for ids, usual in zip(TISSUES.values(), MODALITIES[kind], strict=True):
            known = [i for i in ids if i < num_ids]
            shift = loose * rng.uniform(-1, 1)
            means[known] = usual + shift + 0.5 * loose * (2 * means[known] - 1)
    if rng.chance(0.8):
        for left, right in LEFT_RIGHT:
            if right < num_ids:
                means[right], spreads[right] = means[left], spreads[left]
    means[0] = spreads[0] = 0
    return Appearance(kind, means.clamp(min=0), spreads)


def jitter_appearance(rng: SeededGenerator, appearance: Appearance, amount: float = 0.04) -> Appearance:
    """Nearly the same appearance: another scan of the same kind."""
    means = appearance.means + amount * (2 * rng.uniforms(len(appearance.means)) - 1)
    means[0] = 0
    return Appearance(appearance.kind, means.clamp(min=0), appearance.spreads)
