"""Structures of the head that the segmentation network knows, and the label ids that they contain.

The ids are FreeSurfer's, and from 500 on those of SynthSeg's training maps (Billot et al. 2023,
doi:10.1016/j.media.2023.102789), which also label the head outside the brain. There FreeSurfer has
165 (Skull) and 258 (Head-ExtraCerebral).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor

Side = Literal["left", "right", ""]
Group = Literal[
    "background",
    "head",
    "outer fluid",
    "ventricle",
    "white matter",
    "cortex",
    "deep grey",
    "other brain",
]

_OUTSIDE = ("background", "head", "outer fluid")


@dataclass(frozen=True)
class Structure:
    """A structure; its class number is its index in `STRUCTURES`.

    Args:
        name: Name without the side.
        side: ``left``, ``right``, or empty for structures of the midline and outside the brain.
        group: Kind of tissue.
        ids: Label ids that the structure contains; the first is the one that is written.
    """

    name: str
    side: Side
    group: Group
    ids: tuple[int, ...]

    @property
    def full_name(self) -> str:
        """Name with the side, such as ``left hippocampus``."""
        return f"{self.side} {self.name}".strip()

    @property
    def label(self) -> int:
        """The label id that segmentations hold, one of FreeSurferColorLUT.txt."""
        return self.ids[0]

    @property
    def is_brain(self) -> bool:
        """Whether the structure belongs to the brain: its tissue and ventricles."""
        return self.group not in _OUTSIDE


def _both(
    name: str, group: Group, left: tuple[int, ...], right: tuple[int, ...]
) -> tuple[Structure, Structure]:
    return Structure(name, "left", group, left), Structure(name, "right", group, right)


STRUCTURES: tuple[Structure, ...] = (
    Structure("background", "", "background", (0,)),
    # Arteries, eyes, muscle and fat, optic nerves, mucosa, skin, dura and sinuses.
    Structure("soft tissue", "", "head", (258, 502, 506, 507, 508, 509, 511, 514, 530)),
    Structure("skull", "", "head", (165, 500, 515, 516)),
    # Fluid around brain and spinal cord, cavum septi pellucidi, optic chiasm.
    Structure("cerebrospinal fluid", "", "outer fluid", (24, 72, 85, 512)),
    # With the rim of lesions around the ventricles (25, 57) and perivascular spaces (30, 62).
    *_both("cerebral white matter", "white matter", (2, 25, 30, 77), (41, 57, 62)),
    *_both("cerebral cortex", "cortex", (3,), (42,)),
    # With the inferior horn (5, 44) and the choroid plexus (136, 137, 163, 164).
    *_both("lateral ventricle", "ventricle", (4, 5, 136, 137), (43, 44, 163, 164)),
    *_both("cerebellar white matter", "white matter", (7,), (46,)),
    *_both("cerebellar cortex", "cortex", (8,), (47,)),
    *_both("thalamus", "deep grey", (10,), (49,)),
    *_both("caudate", "deep grey", (11,), (50,)),
    *_both("putamen", "deep grey", (12,), (51,)),
    # Crossed by so many fibres that it is as bright as white matter in most contrasts.
    *_both("pallidum", "other brain", (13,), (52,)),
    *_both("hippocampus", "deep grey", (17,), (53,)),
    *_both("amygdala", "deep grey", (18,), (54,)),
    *_both("accumbens", "deep grey", (26,), (58,)),
    *_both("ventral diencephalon", "other brain", (28,), (60,)),
    Structure("third ventricle", "", "ventricle", (14,)),
    Structure("fourth ventricle", "", "ventricle", (15,)),
    Structure("brain stem", "", "other brain", (16,)),
)
"""Structures by class number. 0 is everything that an image does not show."""


@cache
def classes_of_groups(*groups: Group) -> tuple[int, ...]:
    """Class numbers of the structures of some groups."""
    return tuple(i for i, one in enumerate(STRUCTURES) if one.group in groups)


@cache
def brain_classes() -> tuple[int, ...]:
    """Class numbers of the brain: its tissue and ventricles."""
    return tuple(i for i, one in enumerate(STRUCTURES) if one.is_brain)


def mirrored_classes() -> Tensor:
    """``(n,)`` class number of each structure's counterpart in the mirrored head, int64."""
    index = {(one.name, one.side): i for i, one in enumerate(STRUCTURES)}
    opposite: Mapping[Side, Side] = {"left": "right", "right": "left", "": ""}
    return torch.tensor([index[one.name, opposite[one.side]] for one in STRUCTURES])


def classes_of_ids(num_ids: int, mirrored: bool = False) -> Tensor:
    """``(num_ids,)`` class number of each label id from 0 on, uint8; unknown ids are background.

    Args:
        num_ids: Number of label ids.
        mirrored: Class numbers in the mirrored head.
    """
    table = torch.zeros(num_ids, dtype=torch.uint8)
    targets = mirrored_classes() if mirrored else range(len(STRUCTURES))
    for one, target in zip(STRUCTURES, targets, strict=True):
        table[[i for i in one.ids if i < num_ids]] = int(target)
    return table


def unknown_ids(ids: Sequence[int]) -> list[int]:
    """Label ids that belong to no structure."""
    known = {i for one in STRUCTURES for i in one.ids}
    return sorted({int(i) for i in ids} - known)
