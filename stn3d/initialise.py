"""Where to start: a few plain guesses, each scored on a coarse grid, and the best one taken.

header: the images lie in one world, as their affines say. centres: the middles of the fields of
view. mass: the centres of brightness. moments: mass and the principal axes of brightness, in every
pairing that is a rotation (a mirrored image is never mended), and the size of what is bright where
the transform may scale. More guesses, a network's say, may be given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d.grid import homogeneous
from stn3d.losses.similarity import Similarity
from stn3d.optimise import LinearStage
from stn3d.pair import Dissimilarity, Pair, Scan
from stn3d.transforms import Affine, Linear, LinearKind, Transform
from stn3d.warp import overlap

InitialMethod = Literal["auto", "header", "centres", "mass", "moments"]
# A loss so low that the other guesses need no polish; 0 where a loss tells no such thing by itself.
_CONVINCING: dict[Similarity, float] = {"lncc": 0.15, "ncc": 0.15, "mse": 0.0, "nmi": 0.0}
_LARGEST_SCALE = 1.4  # of a start: more would be another field of view, not another size


@dataclass(frozen=True)
class Candidate:
    """A guess and its marks.

    Args:
        name: how it was made.
        transform: fixed points to moving points.
        loss: the similarity loss on the coarse grid; lower is better.
        overlap: the share of the fixed grid that falls into the moving image.
    """

    name: str
    transform: Transform
    loss: float
    overlap: float


def initial_candidates(
    pair: Pair,
    method: InitialMethod | None = "auto",
    similarity: Similarity = "lncc",
    kind: LinearKind = "rigid",
    others: Sequence[tuple[str, Linear]] = (),
) -> list[Candidate]:
    """The guesses of a method (of all methods for ``auto``) and others, best first.

    A guess under which less than a quarter of the smaller field of view is shared comes after all
    others, whatever its loss. With ``auto`` or None the three best are turned and shifted a little
    (and scaled, unless the kind is rigid) by a few steps of a linear stage on the coarse grid,
    before the last word: a good guess need not be the one that scores best where it stands. One
    that then scores very well spares the rest. Of those that score alike the plainest is taken.

    Args:
        pair: the scans.
        method: which guesses; None for the others alone.
        similarity: the loss that they are scored by.
        kind: of the transform that is looked for; only a rigid one keeps sizes.
        others: guesses made elsewhere, by name; the first counts as plainer than the rest.
    """
    # At least 24 voxels along the longest axis, on a level that the stages use too.
    doublings = math.log2(max(pair.fixed.grid.size_mm) / 24 / pair.finest_mm)
    spacing = pair.finest_mm * 2 ** max(0, math.floor(doublings))
    fixed, moving = pair.fixed.at(spacing), pair.moving.at(spacing)
    guesses: list[tuple[str, Linear]] = []
    if method in ("auto", "header"):
        guesses.append(("header", Affine.identity(fixed.grid.ndim, fixed.grid.centre_mm)))
    if method in ("auto", "centres"):
        shift = _matrix(None, fixed.grid.centre_mm, moving.grid.centre_mm)
        guesses.append(("centres", shift))
    if method in ("auto", "mass"):
        guesses.append(("mass", _matrix(None, _moments(fixed)[0], _moments(moving)[0])))
    if method in ("auto", "moments"):
        for scaled in (False,) if kind == "rigid" else (False, True):
            guesses += [("moments", guess) for guess in _by_moments(fixed, moving, scaled)]
    guesses += others
    possible = min(1.0, _volume(moving) / _volume(fixed))

    def rank(candidate: Candidate) -> tuple[bool, float]:
        return candidate.overlap < 0.25 * possible, candidate.loss

    # Over the same voxels for every guess: else one that turns empty corners out of sight gains.
    wide = _widened(moving, math.hypot(*fixed.grid.size_mm))
    dissimilarity = Dissimilarity(fixed, wide, similarity)
    to_world, from_world = fixed.grid.world_from_index, wide.grid.index_from_world

    def scored(name: str, transform: Transform) -> Candidate:
        assert isinstance(transform, Linear)
        shared = overlap(moving.grid, transform, fixed.grid)
        loss = float(dissimilarity(from_world @ transform.matrix @ to_world))
        return Candidate(name, transform, loss, shared)

    candidates = [scored(name, guess) for name, guess in guesses]
    candidates.sort(key=rank)
    if method not in ("auto", None):
        return candidates
    coarse = Pair(fixed, moving)
    polish: LinearKind = "rigid" if kind == "rigid" else "similarity"
    short = LinearStage(polish, similarity, factors=(1,), iterations=15)
    for i, c in enumerate(candidates[:3]):
        candidates[i] = scored(c.name, short(coarse, c.transform, lambda *_: None))
        if rank(candidates[i]) < (False, _CONVINCING[similarity]):
            break
    candidates.sort(key=rank)
    plainest = [name for name, _ in guesses]
    little, loss = rank(candidates[0])
    close = [c for c in candidates if rank(c) <= (little, 1.01 * loss)]
    candidates.sort(key=lambda c: plainest.index(c.name) if c in close else len(plainest))
    return candidates


def _widened(scan: Scan, margin_mm: float) -> Scan:
    """The scan with nothing, 0, around it, which counts."""
    margin = [math.ceil(margin_mm / s) for s in scan.grid.spacing_mm]
    sides = [m for m in reversed(margin) for _ in range(2)]
    mask = None if scan.mask is None else F.pad(scan.mask, sides, value=1.0)
    return Scan(F.pad(scan.image, sides), scan.grid.padded(margin_mm), mask)


def _volume(scan: Scan) -> float:
    return float(torch.tensor(scan.grid.size_mm).prod())


def _matrix(rotation: Tensor | None, fixed_mm: Tensor, moving_mm: Tensor) -> Affine:
    """The rotation, maybe scaled, that brings one point onto the other."""
    turn = torch.eye(len(fixed_mm), dtype=torch.float64) if rotation is None else rotation
    return Affine.from_matrix(homogeneous(turn, moving_mm - turn @ fixed_mm), fixed_mm)


def _moments(scan: Scan) -> tuple[Tensor, Tensor]:
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


def _by_moments(fixed: Scan, moving: Scan, scaled: bool) -> list[Affine]:
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
