"""Where to start: a few plain guesses, each scored on a coarse grid, and the best one taken.

header: the images lie in one world, as their affines say. centres: the middles of the fields of
view. mass: the centres of brightness. moments: mass and the principal axes of brightness, in every
pairing that is a rotation (a mirrored image is never mended), and the size of what is bright where
the transform may scale. landmarks: those that steer, where they are enough. More guesses, a
network's say, may be given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d.choices import AUTOMATIC, InitialMethod, MetricName
from stn3d.grid import Grid, homogeneous
from stn3d.losses.image_loss import ImageLoss
from stn3d.losses.similarity import METRICS
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.initialisation.search import rotations, shifts_mm
from stn3d.registration.stages import LinearStage, stretch_penalty
from stn3d.transforms import Affine, Linear, LinearKind, Transform
from stn3d.warp import fov_overlap_fraction

_TURNS = {2: 36, 3: 480}  # of a search: about 10 degrees apart in 2D, 25 in 3D
_SHIFTS = 400  # of a search, at most
_PART = 0.6  # of the fixed field of view: a smaller moving one is looked for in it
_APART_RAD = math.radians(30)
_LARGEST_SCALE = 1.4  # of a start: more would be another field of view, not another size


@dataclass(frozen=True)
class Candidate:
    """A guess and its marks.

    Args:
        name: how it was made.
        transform: fixed points to moving points.
        loss: the similarity loss on the coarse grid; lower is better.
        overlap: the share of the fixed grid that falls into the moving image.
        improved_from: the guess before it was improved, if it was.
    """

    name: str
    transform: Transform
    loss: float
    overlap: float
    improved_from: Transform | None = None

    @property
    def guess(self) -> Transform:
        """As it was first made."""
        return self.transform if self.improved_from is None else self.improved_from


def initial_candidates(
    pair: Pair,
    method: InitialMethod | None = "auto",
    metric: MetricName = AUTOMATIC.same,
    kind: LinearKind = "rigid",
    others: Sequence[tuple[str, Linear]] = (),
) -> list[Candidate]:
    """The guesses of a method (of all plain methods for ``auto``) and others, best first.

    A guess under which less than a quarter of the smaller field of view is shared comes after all
    others, whatever its loss. With ``auto`` or None the three best are turned and shifted a little
    (and scaled, unless the kind is rigid) by a few steps of a linear stage on the coarse grid,
    before the last word: a good guess need not be the one that scores best where it stands. One
    that then scores very well spares the rest. Of those that score alike the plainest is taken.

    Args:
        pair: the scans.
        method: which guesses; None for the others alone.
        metric: the loss that they are scored by.
        kind: of the transform that is looked for; only a rigid one keeps sizes.
        others: guesses made elsewhere, by name; the first counts as plainer than the rest.
    """
    coarse = Coarse.of(pair, metric, kind)
    found = [coarse.scored(name, guess) for name, guess in coarse.guesses(method)]
    found += [coarse.scored(name, guess) for name, guess in others]
    return coarse.chosen(found) if method in ("auto", None) else coarse.ranked(found)


def coarse_mm(pair: Pair) -> float:
    """The spacing that starts are scored on: at least 24 voxels along the longest axis, on a level
    that the stages use too."""
    doublings = math.log2(max(pair.fixed.grid.size_mm) / 24 / pair.finest_mm)
    return pair.finest_mm * 2 ** max(0, math.floor(doublings))


@dataclass(frozen=True, eq=False)
class Coarse:
    """The pair on the coarse grid, where guesses are made and scored.

    Where the moving image shows much less than the fixed one, the roles are changed in here: what
    little there is must be found in the other. Transforms that go in and out have their own roles.
    """

    pair: Pair
    """The scans in the roles of in here."""
    swapped: bool
    metric: MetricName
    kind: LinearKind

    @classmethod
    def of(cls, pair: Pair, metric: MetricName, kind: LinearKind) -> Coarse:
        """Of a pair of any resolution."""
        coarse = pair.at(coarse_mm(pair))
        swapped = _volume(coarse.moving.grid) < _PART * _volume(coarse.fixed.grid)
        return cls(coarse.swapped if swapped else coarse, swapped, metric, kind)

    @cached_property
    def _dissimilarity(self) -> ImageLoss:
        """Over the same voxels for every guess: else one that turns empty corners out of sight
        gains."""
        fixed, moving = self.pair.fixed, self.pair.moving
        wide = _widened(moving, math.hypot(*fixed.grid.size_mm))
        return ImageLoss(fixed, wide, METRICS[self.metric])

    def _own(self, transform: Linear) -> Linear:
        """A transform in the roles of in here, or back."""
        if not self.swapped:
            return transform
        inverse = transform.inverse()
        assert isinstance(inverse, Linear)
        return inverse

    def scored(self, name: str, transform: Transform) -> Candidate:
        """A guess with its marks."""
        assert isinstance(transform, Linear)
        own = self._own(transform).matrix
        fixed, moving = self.pair.fixed.grid, self.pair.moving.grid
        wide = self._dissimilarity.moving.grid
        loss = self._dissimilarity(wide.index_from_world @ own @ fixed.world_from_index)
        loss = loss + stretch_penalty(own)
        if self.pair.landmarks is not None:
            loss = loss + self.pair.landmarks(self._own(transform))
        first, second = (moving, fixed) if self.swapped else (fixed, moving)
        return Candidate(
            name, transform, float(loss), fov_overlap_fraction(second, transform, first)
        )

    def guesses(self, method: InitialMethod | None) -> list[tuple[str, Linear]]:
        """What the plain methods guess."""
        fixed, moving = self.pair.fixed, self.pair.moving
        found: list[tuple[str, Linear]] = []
        if method in ("auto", "header"):
            found.append(("header", Affine.identity(fixed.grid.ndim, fixed.grid.centre_mm)))
        if method in ("auto", "centres"):
            shift = _matrix(None, fixed.grid.centre_mm, moving.grid.centre_mm)
            found.append(("centres", shift))
        if method in ("auto", "mass"):
            found.append(("mass", _matrix(None, _moments(fixed)[0], _moments(moving)[0])))
        if method == "auto" and self.pair.landmarks is not None:
            landmarks = self.pair.landmarks.fitted(self.kind)
            found += [] if landmarks is None else [("landmarks", landmarks)]
        if method in ("auto", "moments"):
            for scaled in (False,) if self.kind == "rigid" else (False, True):
                found += [("moments", guess) for guess in _by_moments(fixed, moving, scaled)]
        return [(name, self._own(guess)) for name, guess in found]

    def searched(self, keep: int = 6) -> list[Candidate]:
        """The best of turns by any angle about the centres of brightness, and of shifts along which
        one field of view slides through the other.

        Args:
            keep: how many of either; no turn within 30 degrees of a better one, no shift within
                two steps.
        """
        fixed, moving = self.pair.fixed, self.pair.moving
        fixed_mm, moving_mm = (_moments(scan)[0] for scan in (fixed, moving))
        turns = list(rotations(fixed.grid.ndim, _TURNS[fixed.grid.ndim]))
        turned = [_matrix(turn, fixed_mm, moving_mm) for turn in turns]
        middle = moving.grid.centre_mm - fixed.grid.centre_mm
        step_mm = 2 * max(fixed.grid.spacing_mm)
        slides = shifts_mm(_room_mm(fixed.grid, moving.grid), step_mm, _SHIFTS)
        shifted = [_matrix(None, -shift, middle) for shift in slides]
        found = self._best(turned, keep, lambda i, j: _angle(turns[i], turns[j]) > _APART_RAD)
        if len(shifted) == 1:  # the middles on each other, which is a plain guess already
            return found
        return found + self._best(
            shifted, keep, lambda i, j: float((slides[i] - slides[j]).norm()) > 2 * step_mm
        )

    def _best(
        self, own: Sequence[Linear], keep: int, apart: Callable[[int, int], bool]
    ) -> list[Candidate]:
        """The best of some guesses that are all apart from each other."""
        tried = [self.scored("search", self._own(guess)) for guess in own]
        best: list[int] = []
        for i in sorted(range(len(tried)), key=lambda i: self._rank(tried[i])):
            if all(apart(i, j) for j in best):
                best.append(i)
            if len(best) == keep:
                break
        return [tried[i] for i in best]

    def chosen(self, found: Sequence[Candidate], most: int = 3) -> list[Candidate]:
        """Candidates, best first, the best few of them improved; see `initial_candidates`.

        Args:
            found: in the order of plainness.
            most: how many are improved.
        """
        plainest = [candidate.name for candidate in found]
        candidates = self.ranked(found)
        for i, candidate in enumerate(candidates[:most]):
            candidates[i] = self._improved(candidate)
            if self._rank(candidates[i]) < (False, METRICS[self.metric].convincing_loss):
                break
        candidates = self.ranked(candidates)
        little, loss = self._rank(candidates[0])
        close = [c for c in candidates if self._rank(c) <= (little, 1.01 * loss)]
        candidates.sort(key=lambda c: plainest.index(c.name) if c in close else len(plainest))
        return candidates

    def ranked(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Best first."""
        return sorted(candidates, key=self._rank)

    def _rank(self, candidate: Candidate) -> tuple[bool, float]:
        volumes = [_volume(scan.grid) for scan in (self.pair.fixed, self.pair.moving)]
        first, second = reversed(volumes) if self.swapped else volumes
        possible = min(1.0, second / first)
        return candidate.overlap < 0.25 * possible, candidate.loss

    def _improved(self, candidate: Candidate) -> Candidate:
        polish: LinearKind = "rigid" if self.kind == "rigid" else "similarity"
        short = LinearStage(polish, self.metric, factors=(1,), iterations=15)
        assert isinstance(candidate.transform, Linear)
        better = short(self.pair, self._own(candidate.transform), lambda *_: None)
        assert isinstance(better, Linear)
        scored = self.scored(candidate.name, self._own(better))
        return replace(scored, improved_from=candidate.transform)


def _widened(scan: PreparedImage, margin_mm: float) -> PreparedImage:
    """The scan with nothing, 0, around it, which counts."""
    margin = [math.ceil(margin_mm / s) for s in scan.grid.spacing_mm]
    sides = [m for m in reversed(margin) for _ in range(2)]
    mask = None if scan.mask is None else F.pad(scan.mask, sides, value=1.0)
    wide = F.pad(scan.image, sides)
    return replace(scan, image=wide, grid=scan.grid.padded(margin_mm), mask=mask)


def _volume(grid: Grid) -> float:
    return math.prod(grid.size_mm)


def _room_mm(fixed: Grid, moving: Grid) -> list[float]:
    """How far either field of view can slide within the other from middle on middle, along the
    world's axes."""
    sizes = [
        (grid.world_from_index[:-1, :-1].abs() @ torch.tensor(grid.shape, dtype=torch.float64))
        for grid in (fixed, moving)
    ]
    room: list[float] = (0.5 * (sizes[0] - sizes[1]).abs()).tolist()
    return room


def _angle(a: Tensor, b: Tensor) -> float:
    """Between two rotations, in radians."""
    turn = a @ b.T
    if len(turn) == 2:
        return abs(math.atan2(float(turn[1, 0]), float(turn[0, 0])))
    return math.acos(min(1.0, max(-1.0, (float(turn.trace()) - 1) / 2)))


def _matrix(rotation: Tensor | None, fixed_mm: Tensor, moving_mm: Tensor) -> Affine:
    """The rotation, maybe scaled, that brings one point onto the other."""
    turn = torch.eye(len(fixed_mm), dtype=torch.float64) if rotation is None else rotation
    return Affine.from_matrix(homogeneous(turn, moving_mm - turn @ fixed_mm), fixed_mm)


def _moments(scan: PreparedImage) -> tuple[Tensor, Tensor]:
    """Centre ``(d,)`` and covariance ``(d, d)`` of the brightness above the mean, in mm."""
    image = scan.image[0].mean(0).double().cpu()
    mask = torch.ones_like(image) if scan.mask is None else scan.mask[0, 0].double().cpu()
    mean = (mask * image).sum() / mask.sum().clamp(min=1e-12)
    weight = mask * (image - mean).clamp(min=0)
    weight = (weight / weight.sum().clamp(min=1e-12)).flatten()
    points = scan.grid.points_mm().flatten(0, -2)
    centre = weight @ points
    spread = (points - centre) * weight[:, None]
    return centre, spread.T @ (points - centre)


def _by_moments(fixed: PreparedImage, moving: PreparedImage, scaled: bool) -> list[Affine]:
    """Principal axes onto principal axes, in every pairing of directions that is a rotation; with
    the ratio of the spreads for a scale if that is wanted."""
    (fixed_mm, fixed_cov), (moving_mm, moving_cov) = _moments(fixed), _moments(moving)
    fixed_axes, moving_axes = torch.linalg.eigh(fixed_cov)[1], torch.linalg.eigh(moving_cov)[1]
    d, scale = len(fixed_mm), 1.0
    if scaled:
        volumes = float(torch.linalg.det(moving_cov) / torch.linalg.det(fixed_cov).clamp(min=1e-12))
        scale = min(max(volumes ** (0.5 / d), 1 / _LARGEST_SCALE), _LARGEST_SCALE)
    guesses = []
    for signs in product((1.0, -1.0), repeat=d):
        turn = moving_axes @ torch.diag(torch.tensor(signs).double()) @ fixed_axes.T
        if torch.linalg.det(turn) > 0:
            guesses.append(_matrix(scale * turn, fixed_mm, moving_mm))
    return guesses
