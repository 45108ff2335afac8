"""Strategies that propose initial transforms."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from stn3d.choices import AUTOMATIC, InitialMethod, MetricName
from stn3d.errors import InputError
from stn3d.preprocessing.pair import Pair
from stn3d.registration.initialisation.candidates import (
    CoarsePair,
    InitialTransform,
)
from stn3d.registration.initialisation.geometry import (
    alignment,
    angle_between,
    moments,
    principal_axes_alignments,
    slack_mm,
)
from stn3d.registration.initialisation.search import rotations, translations_mm
from stn3d.registration.initialisation.shifts import best_shifts
from stn3d.transforms import Affine, Linear, LinearKind, Transform
from stn3d.warp import fov_overlap_fraction

if TYPE_CHECKING:  # networks take time to import, and most registrations use none
    from stn3d.nets.weights import TrainedNetwork

_logger = logging.getLogger("stn3d")
_ROTATIONS = {2: 36, 3: 480}  # about 10 degrees apart in 2D, 25 in 3D
_MAX_TRANSLATIONS = 400
_MIN_ANGLE = math.radians(30)  # between two rotations that the search keeps
NUM_REFINED = 3  # candidates that are refined, unless the search proposed some
_SHIFTS = 3  # translations of the shared part that are refined
_KEPT = 6  # rotations, and as many translations, that the search keeps


class Strategy(Protocol):
    """A way to propose initial transforms."""

    def __call__(self, coarse: CoarsePair) -> list[InitialTransform]:
        """Propose scored candidates.

        Args:
            coarse: The pair on the coarse grid, with the metric that scores.
        """
        ...


@dataclass(frozen=True)
class Given:
    """A transform that the user gives; it is used as it is.

    Args:
        pair: The prepared images.
        transform: Fixed points to moving points.
    """

    pair: Pair
    transform: Transform

    def __call__(self, coarse: CoarsePair) -> list[InitialTransform]:
        fixed, moving = self.pair.fixed.grid, self.pair.moving.grid
        fraction = fov_overlap_fraction(moving, self.transform, fixed)
        return [InitialTransform("given", self.transform, math.nan, fraction)]


@dataclass(frozen=True)
class Proposed:
    """Transforms that were found elsewhere, under another metric for example.

    Args:
        transforms: Names and transforms.
    """

    transforms: Sequence[tuple[str, Linear]]

    def __call__(self, coarse: CoarsePair) -> list[InitialTransform]:
        return [coarse.scored(name, transform) for name, transform in self.transforms]


def header(coarse: CoarsePair) -> list[InitialTransform]:
    """The identity: the images are aligned as their headers say."""
    grid = coarse.pair.fixed.grid
    identity = Affine.identity(grid.ndim, grid.centre_mm)
    return [coarse.scored("header", coarse.outer(identity))]


def centres(coarse: CoarsePair) -> list[InitialTransform]:
    """The translation between the centres of the fields of view."""
    fixed, moving = coarse.pair.fixed.grid, coarse.pair.moving.grid
    shift = alignment(None, fixed.centre_mm, moving.centre_mm)
    return [coarse.scored("centres", coarse.outer(shift))]


def centre_of_mass(coarse: CoarsePair) -> list[InitialTransform]:
    """The translation between the centres of mass."""
    fixed, moving = coarse.pair.fixed, coarse.pair.moving
    shift = alignment(None, moments(fixed)[0], moments(moving)[0])
    return [coarse.scored("centre_of_mass", coarse.outer(shift))]


def landmarks(coarse: CoarsePair) -> list[InitialTransform]:
    """The least-squares fit of the landmarks, if there are enough of them."""
    if coarse.pair.landmarks is None:
        return []
    fitted = coarse.pair.landmarks.fitted(coarse.kind)
    return [] if fitted is None else [coarse.scored("landmarks", coarse.outer(fitted))]


def principal_axes(coarse: CoarsePair) -> list[InitialTransform]:
    """Alignments of the principal axes, and of the size too unless the transform is rigid."""
    fixed, moving = coarse.pair.fixed, coarse.pair.moving
    return [
        coarse.scored("moments", coarse.outer(transform))
        for scaled in ((False,) if coarse.kind == "rigid" else (False, True))
        for transform in principal_axes_alignments(fixed, moving, scaled)
    ]


def exhaustive_search(coarse: CoarsePair, keep: int = _KEPT) -> list[InitialTransform]:
    """The best rotations about the centres of mass, and the best translations by which one field of
    view moves within the other.

    Args:
        coarse: The pair on the coarse grid.
        keep: Number of rotations and of translations; rotations are at least 30 degrees apart,
            translations two steps.
    """
    fixed, moving = coarse.pair.fixed, coarse.pair.moving
    fixed_mm, moving_mm = moments(fixed)[0], moments(moving)[0]
    turns = list(rotations(fixed.grid.ndim, _ROTATIONS[fixed.grid.ndim]))
    rotated = [coarse.outer(alignment(turn, fixed_mm, moving_mm)) for turn in turns]
    found = coarse.best_apart(
        "search", rotated, keep, lambda i, j: angle_between(turns[i], turns[j]) > _MIN_ANGLE
    )
    step_mm = 2 * max(fixed.grid.spacing_mm)
    shifts = translations_mm(slack_mm(fixed.grid, moving.grid), step_mm, _MAX_TRANSLATIONS)
    if len(shifts) == 1:  # common centres alone, which `centres` proposes
        return found
    offset = moving.grid.centre_mm - fixed.grid.centre_mm
    shifted = [coarse.outer(alignment(None, -shift, offset)) for shift in shifts]
    return found + coarse.best_apart(
        "search", shifted, keep, lambda i, j: float((shifts[i] - shifts[j]).norm()) > 2 * step_mm
    )


def shared_part(coarse: CoarsePair) -> list[InitialTransform]:
    """Translations, and the headers, if the images surely agree there where both show something."""
    grid = coarse.pair.fixed.grid
    shifts = [Affine.identity(grid.ndim, grid.centre_mm), *best_shifts(coarse.half.pair, _SHIFTS)]
    found = [coarse.where_shared("shared_part", coarse.outer(shift)) for shift in shifts]
    return [one for one in found if one is not None]


@dataclass(frozen=True, eq=False)
class NetworkEstimate:
    """The transform between two heads as the affine network estimates it.

    Args:
        pair: The prepared images.
        kind: Kind of the transform.
        weights: File of the network's weights; None for the bundled ones.
        enabled: Whether the network may be used.
    """

    pair: Pair
    kind: LinearKind
    weights: str | None = None
    enabled: bool = True

    def __call__(self, coarse: CoarsePair) -> list[InitialTransform]:
        if self.transform is not None:
            return [coarse.scored("network", self.transform)]
        unsuited = self._trained.size_mismatch(self.pair.first) if self.enabled else None
        if unsuited is not None and unsuited == self._mismatch:
            _logger.warning("the affine network is not used: it %s.", self._mismatch)
        return []

    @cached_property
    def transform(self) -> Affine | None:
        """Fixed points to moving points; None if the network is not enabled, does not fit the
        images or detects no head."""
        if not self.enabled or self._mismatch is not None:
            return None
        from stn3d.nets.stages import NetworkInitialiser

        estimate = NetworkInitialiser(self._trained.to(self.pair.fixed.image.device))
        return estimate(self.pair.first, self.kind)

    def require(self) -> None:
        """Check that there is an estimate.

        Raises:
            InputError: The network does not fit the images or detects no head.
        """
        if self.transform is None:
            reason = self._mismatch or "detects no head in one of the images"
            raise InputError(
                f"the affine network {reason}; use --estimator auto, or another --init."
            )

    @cached_property
    def _mismatch(self) -> str | None:
        """Why the network cannot be used; None if it can."""
        return self._trained.mismatch(self.pair.first)

    @cached_property
    def _trained(self) -> TrainedNetwork:
        from stn3d.nets.weights import bundled_network, load_weights

        if self.weights is None:
            return bundled_network("affine")
        return load_weights(self.weights, "affine")


SIMPLE: dict[InitialMethod, tuple[Strategy, ...]] = {
    "header": (header,),
    "centres": (centres,),
    "mass": (centre_of_mass,),
    "moments": (principal_axes,),
    "auto": (header, centres, centre_of_mass, landmarks, principal_axes),
}
"""The strategies behind each initial method, in the order of preference."""


def simple_candidates(
    pair: Pair,
    method: InitialMethod = "auto",
    metric: MetricName = AUTOMATIC.same,
    kind: LinearKind = "rigid",
) -> list[InitialTransform]:
    """The candidates of one method as they are, or those of all methods with the best refined.

    Args:
        pair: The prepared images.
        method: Initial method; ``auto`` for all.
        metric: Metric that scores the candidates.
        kind: Kind of the linear transform sought.

    Returns:
        Candidates, best first.
    """
    coarse = CoarsePair.of(pair, metric, kind)
    found = [candidate for strategy in SIMPLE[method] for candidate in strategy(coarse)]
    return coarse.selected(found, NUM_REFINED if method == "auto" else 0)


def refined_candidates(
    pair: Pair, transforms: Sequence[tuple[str, Linear]], metric: MetricName, kind: LinearKind
) -> list[InitialTransform]:
    """Transforms that are known already, the best ones refined.

    Args:
        pair: The prepared images.
        transforms: Names and transforms, fixed points to moving points.
        metric: Metric that scores the candidates.
        kind: Kind of the linear transform sought.

    Returns:
        Candidates, best first.
    """
    coarse = CoarsePair.of(pair, metric, kind)
    return coarse.selected(Proposed(transforms)(coarse), NUM_REFINED)
