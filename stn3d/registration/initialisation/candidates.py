"""Initial transforms: their score on a coarse grid, their refinement and their order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from stn3d.choices import AUTOMATIC, MetricName
from stn3d.length_unit import log2
from stn3d.losses.image_loss import ImageLoss
from stn3d.losses.similarity import METRICS
from stn3d.preprocessing.pair import Pair
from stn3d.registration.initialisation.geometry import padded, rotation_rad_of, volume
from stn3d.registration.stages import (
    LinearStage,
    content_overlap_fraction,
    stretch_penalty,
)
from stn3d.transforms import Linear, LinearKind, Transform
from stn3d.warp import fov_overlap_fraction

_COARSE_VOXELS = 24  # the longest axis of the coarse grid has at least this many, below twice it
_MANY_VOXELS = 32  # from here on half the resolution of the coarse grid still shows the images
_SMALL_MOVING = 0.6  # below this fraction of the fixed field of view the images swap roles
_MIN_OVERLAP = 0.25  # of the largest possible overlap; candidates below it come last
_MIN_CONTENT = 0.5  # of the content of both; where it overlaps more, the field of view may less
_AGREES = 0.15  # loss over the shared part alone, below which it shows the same
_EQUAL_LOSS = 1.01  # ratio up to which losses count as equal
_EQUAL_GAIN = 0.99  # of the gain of the best candidate over the worst, from which they do as well
_SAME_ROTATION = 0.2  # radians up to which rotations count as equally far
_REFINEMENT_STEPS = 15


@dataclass(frozen=True, eq=False)
class InitialTransform:
    """A candidate for the initial transform.

    Args:
        name: Strategy that proposed it: ``given``, ``header``, ``centres``, ``centre_of_mass``,
            ``moments``, ``landmarks``, ``network``, ``shared_part``, ``search`` or ``content``.
        transform: Fixed points to moving points, world RAS+ mm.
        loss: Image loss on the coarse grid, lower is better; NaN if it was not computed.
        fov_overlap_fraction: Fraction of the fixed image's field of view, 0 to 1, that lies within
            the moving image's.
        unrefined: The transform before its refinement; None if it was not refined.
    """

    name: str
    transform: Transform
    loss: float
    fov_overlap_fraction: float
    unrefined: Transform | None = None

    @property
    def proposed(self) -> Transform:
        """The transform as the strategy proposed it."""
        return self.transform if self.unrefined is None else self.unrefined

    @property
    def linear(self) -> Linear:
        """The transform; only a given one may be other than linear."""
        assert isinstance(self.transform, Linear)
        return self.transform

    def as_dict(self) -> dict[str, Any]:
        """Name, loss and overlap, for JSON."""
        loss = None if math.isnan(self.loss) else self.loss
        overlap = self.fov_overlap_fraction
        return {"name": self.name, "loss": loss, "fov_overlap_fraction": overlap}


def coarse_mm(pair: Pair) -> float:
    """Spacing of the coarse grid: a level of the stages with 24 to 48 voxels along the longest
    axis of the fixed image, or the finest spacing of a smaller image."""
    doublings = log2(max(pair.fixed.grid.size_mm) / _COARSE_VOXELS / pair.finest_mm)
    return pair.finest_mm * 2 ** max(0, math.floor(doublings))


@dataclass(frozen=True, eq=False)
class CoarsePair:
    """A pair on a coarse grid, where candidates are scored and refined by one metric.

    If the moving field of view is much smaller than the fixed one, the images swap roles
    internally, so that the smaller one is searched for in the larger one. All arguments and results
    map fixed to moving points of the original pair, except where a name begins with ``inner``.
    """

    pair: Pair
    """The coarse images in their inner roles."""
    swapped: bool
    metric: MetricName
    kind: LinearKind
    _scores: dict[bytes, tuple[float, float]] = field(default_factory=dict, init=False, repr=False)
    _refined: dict[bytes, Linear] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, pair: Pair, metric: MetricName, kind: LinearKind) -> CoarsePair:
        """Coarsen a pair of any resolution.

        Args:
            pair: The prepared images.
            metric: Metric that scores the candidates.
            kind: Kind of the linear transform sought; candidates keep their scale if it is rigid.
        """
        coarse = pair.at(coarse_mm(pair))
        swapped = volume(coarse.moving.grid) < _SMALL_MOVING * volume(coarse.fixed.grid)
        return cls(coarse.swapped if swapped else coarse, swapped, metric, kind)

    @cached_property
    def half(self) -> CoarsePair:
        """At half the resolution, where that still shows the images; else the pair itself."""
        if max(self.pair.fixed.grid.shape) < _MANY_VOXELS:
            return self
        pair = self.pair.at(2 * min(self.pair.fixed.grid.spacing_mm))
        return CoarsePair(pair, self.swapped, self.metric, self.kind)

    @cached_property
    def _image_loss(self) -> ImageLoss:
        """The loss over the same voxels for every candidate. Beyond the moving image is 0, which
        contributes: otherwise rotating empty corners out of the field of view would pay."""
        fixed, moving = self.pair.fixed, self.pair.moving
        wide = padded(moving, math.hypot(*fixed.grid.size_mm))
        return ImageLoss(fixed, wide, METRICS[self.metric])

    def outer(self, inner: Linear) -> Linear:
        """A transform between the inner roles as one from fixed to moving points, or back."""
        if not self.swapped:
            return inner
        inverse = inner.inverse()
        assert isinstance(inverse, Linear)
        return inverse

    def loss(self, transform: Linear) -> float:
        """Loss of a transform: images, implausible scale, landmarks if there are any."""
        inner = self.outer(transform)
        fixed, moving = self.pair.fixed.grid, self._image_loss.moving.grid
        matrix = inner.matrix
        loss = self._image_loss(moving.index_from_world @ matrix @ fixed.world_from_index)
        loss = loss + stretch_penalty(matrix)
        if self.pair.landmarks is not None:
            loss = loss + self.pair.landmarks(inner)
        return float(loss)

    def overlap(self, transform: Transform) -> float:
        """Fraction of the fixed field of view that lies within the moving one."""
        fixed, moving = self.pair.fixed.grid, self.pair.moving.grid
        if self.swapped:
            fixed, moving = moving, fixed
        return fov_overlap_fraction(moving, transform, fixed)

    def scored(self, name: str, transform: Linear) -> InitialTransform:
        """A transform with its loss and overlap."""
        key = _key(transform)
        if key not in self._scores:
            self._scores[key] = self.loss(transform), self.overlap(transform)
        return InitialTransform(name, transform, *self._scores[key])

    def refined(self, candidate: InitialTransform) -> InitialTransform:
        """A candidate after a few iterations of a linear stage on the coarse grid, once."""
        if candidate.unrefined is not None:
            return candidate
        proposed = candidate.linear
        key = _key(proposed)
        if key not in self._refined:
            kind: LinearKind = "rigid" if self.kind == "rigid" else "similarity"
            stage = LinearStage(kind, self.metric, factors=(1,), iterations=_REFINEMENT_STEPS)
            found = stage(self.pair, self.outer(proposed), lambda *_: None)
            assert isinstance(found, Linear)
            self._refined[key] = self.outer(found)
        return replace(self.scored(candidate.name, self._refined[key]), unrefined=proposed)

    def where_shared(self, name: str, transform: Linear) -> InitialTransform | None:
        """A transform refined, with the loss of `AUTOMATIC.same` over the part alone that both
        images show; None if that does not show the same surely.

        Where the fields of view share little, the loss over the whole fixed image prefers what
        covers more of it.
        """
        found = self.refined(self.scored(name, transform))
        fixed, moving = self.pair.fixed, self.pair.moving
        loss_of = ImageLoss(fixed, moving, METRICS[AUTOMATIC.same])
        matrix = self.outer(found.linear).matrix
        loss = float(loss_of(moving.grid.index_from_world @ matrix @ fixed.grid.world_from_index))
        if loss >= _AGREES or self._overlaps_little(found.fov_overlap_fraction, found.linear):
            return None
        return replace(found, loss=loss)

    def is_convincing(self, candidate: InitialTransform) -> bool:
        """Whether the loss alone shows that the images are aligned."""
        return candidate.loss < METRICS[self.metric].convincing_loss

    def is_convincing_at_half(self, candidate: InitialTransform) -> bool:
        """Whether the loss at half the resolution shows it, where noise and small structures, which
        raise the loss on grids of more than 32 voxels, are averaged out."""
        limit = METRICS[self.metric].convincing_loss
        return self.half is not self and limit > 0 and self.half.loss(candidate.linear) < limit

    def selected(
        self, candidates: Sequence[InitialTransform], num_refined: int
    ) -> list[InitialTransform]:
        """The candidates, best first, after the best ones were refined.

        The candidate with the lowest loss need not be the one that leads to the best refined
        transform, so several are refined, until one is convincing. If others rotate the image less
        than the best one does, the most promising of them are refined too: a symmetric object fits
        in several orientations. Of candidates with equal loss those that rotate the image least
        come first, in the order in which they were given.

        Args:
            candidates: Candidates in the order of preference.
            num_refined: Maximum number of candidates that are refined at first.
        """
        names = [candidate.name for candidate in candidates]
        ranked = self.ranked(candidates)
        for i, candidate in enumerate(ranked[:num_refined]):
            ranked[i] = self.refined(candidate)
            if self._rank(ranked[i]) < (False, METRICS[self.metric].convincing_loss):
                break
        ranked = self.ranked(ranked)
        if num_refined and len(ranked) > 1:
            calmer = self._most_promising_calmer(ranked)
            ranked = self.ranked([self.refined(c) if c in calmer else c for c in ranked])
        if len(ranked) == 1:  # a given one need not be linear
            return ranked
        equal = self._equal(ranked)

        def order(candidate: InitialTransform) -> int:
            return names.index(candidate.name) if candidate in equal else len(names)

        return sorted(ranked, key=order)

    def _most_promising_calmer(self, ranked: Sequence[InitialTransform]) -> list[InitialTransform]:
        """Of the unrefined candidates that rotate the image less than the first one does, the one
        of lowest loss and the one that rotates it least."""
        turn = rotation_rad_of(ranked[0].linear)
        calmer = [
            candidate
            for candidate in ranked[1:]
            if candidate.unrefined is None
            and rotation_rad_of(candidate.linear) < turn - _SAME_ROTATION
        ]
        return [*calmer[:1], *sorted(calmer, key=lambda c: rotation_rad_of(c.linear))[:1]]

    def _equal(self, ranked: Sequence[InitialTransform]) -> list[InitialTransform]:
        """The candidates of equal, lowest loss; of those in other orientations the ones that rotate
        the image least."""
        little, loss = self._rank(ranked[0])
        worst = max(candidate.loss for candidate in ranked)
        limit = max(_EQUAL_LOSS * loss, worst - _EQUAL_GAIN * (worst - loss))
        fitting = [c for c in ranked if self._rank(c) <= (little, limit)]
        least = min(rotation_rad_of(candidate.linear) for candidate in fitting)
        calm = [c for c in fitting if rotation_rad_of(c.linear) <= least + _SAME_ROTATION]
        return [c for c in calm if c.loss <= _EQUAL_LOSS * calm[0].loss]

    def ranked(self, candidates: Sequence[InitialTransform]) -> list[InitialTransform]:
        """The candidates by loss, those with little overlap last."""
        return sorted(candidates, key=self._rank)

    def best_apart(
        self,
        name: str,
        transforms: Sequence[Linear],
        count: int,
        apart: Callable[[int, int], bool],
    ) -> list[InitialTransform]:
        """The best of many transforms that all differ from each other.

        They are compared at half the resolution of the coarse grid where that suffices, and by a
        metric that need not prepare the moving image again for each of them.

        Args:
            name: Name of the candidates.
            transforms: Transforms to compare.
            count: Maximum number of candidates.
            apart: Whether the transforms with these two indices differ enough.
        """
        fast = self.half
        if METRICS[self.metric].depends_on_axes:
            fast = replace(fast, metric=AUTOMATIC.different)
        losses = [fast.loss(transform) for transform in transforms]
        best: list[int] = []
        little: list[int] = []
        order = sorted(range(len(transforms)), key=losses.__getitem__)
        for overlapping in (True, False):
            for i in order if overlapping else little:
                if len(best) == count:
                    break
                if not all(apart(i, j) for j in best):
                    continue
                if overlapping and self._overlaps_little(
                    self.overlap(transforms[i]), transforms[i]
                ):
                    little.append(i)
                else:
                    best.append(i)
        return self.ranked([self.scored(name, transforms[i]) for i in best])

    def _rank(self, candidate: InitialTransform) -> tuple[bool, float]:
        little = self._overlaps_little(candidate.fov_overlap_fraction, candidate.transform)
        return little, candidate.loss

    def _overlaps_little(self, overlap_fraction: float, transform: Transform) -> bool:
        """Whether a transform leaves little in common, of the field of view and of the content."""
        volumes = [volume(image.grid) for image in (self.pair.fixed, self.pair.moving)]
        fixed, moving = reversed(volumes) if self.swapped else volumes
        least = _MIN_OVERLAP * min(1.0, moving / fixed)
        if overlap_fraction >= least or not isinstance(transform, Linear):
            return overlap_fraction < least
        a, b, inner = self.pair.fixed, self.pair.moving, self.outer(transform)
        shown = content_overlap_fraction(b.grid, inner, a)
        return min(shown, content_overlap_fraction(a.grid, inner.inverse(), b)) < _MIN_CONTENT


def _key(transform: Linear) -> bytes:
    matrix: Tensor = transform.matrix.detach().to(torch.float64).cpu().contiguous()
    return matrix.numpy().tobytes()
