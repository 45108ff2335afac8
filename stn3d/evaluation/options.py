"""What is measured, and by which definitions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stn3d.choices import EvaluationProtocol, check_choice
from stn3d.errors import InputError

MIN_VOXELS = 100


@dataclass(frozen=True)
class EvaluationOptions:
    """What is measured, and by which definitions; docs/metrics.md describes both protocols.

    Args:
        protocol: ``strict``, or ``l2r`` as in the Learn2Reg challenge.
        labels: labels to measure. Default: all except 0.
        min_voxels: labels with fewer voxels in either map are omitted. Default: 100; 1 for ``l2r``
            and for labels that are given.
        tolerance_mm: distance up to which surfaces agree, for the normalised surface Dice (NSD).
            Default: NSD is not measured.
        names: names of labels, which are written beside their numbers.

    Raises:
        InputError: an option is not valid.
    """

    protocol: EvaluationProtocol = "strict"
    labels: Sequence[int] | None = None
    min_voxels: int | None = None
    tolerance_mm: float | None = None
    names: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("protocol", self.protocol, EvaluationProtocol)
        if self.min_voxels is not None and self.min_voxels < 1:
            raise InputError(f"the minimum number of voxels is {self.min_voxels}; give 1 or more.")
        if self.tolerance_mm is not None and not 0 <= self.tolerance_mm < math.inf:
            raise InputError(f"the tolerance is {self.tolerance_mm:g} mm; give 0 mm or more.")
        if self.labels is not None and not self.labels:
            raise InputError("no labels are chosen; give at least one, or none to measure all.")

    @property
    def smallest(self) -> int:
        """The minimum number of voxels of a label."""
        if self.min_voxels is not None:
            return self.min_voxels
        return 1 if self.protocol == "l2r" or self.labels is not None else MIN_VOXELS
